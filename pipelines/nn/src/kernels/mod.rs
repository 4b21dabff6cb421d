//! The CPU kernels behind the layers: f32 arithmetic over weights that stay in the dtype they are stored in.
//! Apart because this is the crate's only `unsafe` arithmetic, and because a kernel is written once, over `Lanes`, and
//! compiled once per instruction set; which copy runs is found at run time, so that one binary serves every x86-64.

// Tiles are arrays of registers, and two or three of them share an index.
#![allow(clippy::needless_range_loop)]

pub(crate) mod attention;
mod blocks;
pub(crate) mod buffer;
pub(crate) mod convolve;
mod crew;
pub(crate) mod dense_attention;
pub(crate) mod elementwise;
pub(crate) mod filters;
pub(crate) mod group_norm;
mod int8;
pub(crate) mod lanes;
pub(crate) mod matmul;
pub(crate) mod norms;
pub(crate) mod parallel;
pub(crate) mod reduce;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod outer;
mod packing;
mod portable;
mod rows;
#[cfg(test)]
mod tests;
mod tile;
pub(crate) mod windows;
pub(crate) mod winograd;

pub(crate) use crew::set_threads;
use lanes::Lanes;
use std::sync::OnceLock;

/// An instruction set that the kernels are compiled for, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, eight lanes at a time: what the compiler makes of it.
    Portable,
    /// AVX2 with FMA and F16C (Haswell, Zen and later).
    Avx2,
    /// AVX-512 F, BW, DQ and VL (Skylake-X, Zen 4 and later).
    Avx512,
    /// AVX-512 with permutations of bytes (Ice Lake, Zen 4 and later), which quantised products use.
    Avx512Vbmi,
}

impl Isa {
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Vbmi];

    /// The best instruction set of this machine, looked up once.
    pub fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut best_first = Self::ALL.into_iter().rev();
            best_first
                .find(|isa| isa.is_available())
                .unwrap_or(Self::Portable)
        })
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vbmi => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512vbmi")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Every instruction set that this machine can run, for tests that compare them.
    #[cfg(test)]
    pub(crate) fn all_available() -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }
}

/// A kernel written over [`Lanes`].
pub(crate) trait Kernel {
    /// Whether it permutes bytes: others have no copy for [`Isa::Avx512Vbmi`] and run the one for AVX-512.
    const VBMI: bool = false;

    /// The work. Implementations are `#[inline(always)]`, so that they are compiled with the caller's target features.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`, and the kernel's own pointers are good for what it reads and writes.
    unsafe fn run<L: Lanes>(self);
}

/// Runs the copy of a kernel that was compiled for `isa`; one that this machine lacks falls back to plain Rust.
///
/// # Safety
/// The kernel's own pointers are good for what it reads and writes.
pub(crate) unsafe fn dispatch<K: Kernel>(isa: Isa, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        unsafe fn with_avx512<K: Kernel>(kernel: K) {
            // SAFETY: the features are enabled here; the pointers are the caller's promise.
            unsafe { kernel.run::<avx512::Avx512<false>>() }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx2,fma,f16c")]
        unsafe fn with_vbmi<K: Kernel>(kernel: K) {
            // SAFETY: the features are enabled here; the pointers are the caller's promise.
            unsafe { kernel.run::<avx512::Avx512<true>>() }
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn with_avx2<K: Kernel>(kernel: K) {
            // SAFETY: the features are enabled here; the pointers are the caller's promise.
            unsafe { kernel.run::<avx2::Avx2>() }
        }
        let usable = isa.is_available();
        match isa {
            // SAFETY: `is_available` has just seen the features; the pointers are the caller's promise.
            Isa::Avx512Vbmi if usable && K::VBMI => return unsafe { with_vbmi(kernel) },
            // SAFETY: as above.
            Isa::Avx512 | Isa::Avx512Vbmi if usable => return unsafe { with_avx512(kernel) },
            // SAFETY: as above.
            Isa::Avx2 if usable => return unsafe { with_avx2(kernel) },
            _ => {}
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    // SAFETY: plain Rust needs no features; the pointers are the caller's promise.
    unsafe { kernel.run::<portable::Portable>() }
}
