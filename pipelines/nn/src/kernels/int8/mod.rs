//! Products with quantised weights whose other side is quantised too: rows of x become bytes, and bytes are multiplied by the
//! hundred. Asked for with `Activations::Int8`; apart from `blocks`, whose products are those of the dequantised matrix.
//!
//! What is computed: with w the exact numbers of W, and of every 32 numbers of x the largest |x| called a, s = a / 127 and
//! c = round(x / s), y = Σ s · Σ c·w over the groups. It is what llama.cpp does (with scales in f16, or for 256 numbers) and
//! what is called dynamic quantisation of activations elsewhere.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod codes_of_x;
mod formats;
mod product;
mod row_lanes;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::Isa;
use super::lanes::StoredAs;
use super::matmul::{Output, rows_per_task};
use super::parallel;
use crate::weights::QuantType;
use codes_of_x::CodesOfX;
use formats::RowFormat;
use product::Panel;
use row_lanes::{ROWS, RowLanes};

/// Multiplies `x` [rows, columns] by quantised matrices of as many columns. Whether it did: not when there is no memory for
/// the bytes of x.
///
/// # Safety
/// The lengths fit, and nobody else writes the outputs.
pub(super) unsafe fn multiply(isa: Isa, x: &[f32], x_rows: usize, outputs: &[Output<'_>]) -> bool {
    let Some(columns) = outputs.first().map(|output| output.matrix.columns) else {
        return true;
    };
    let Some(codes) = CodesOfX::new(isa, x, columns, most(isa)) else {
        return false;
    };
    let mut panels = Vec::new();
    for output in outputs {
        let rows = output.matrix.rows;
        let step = rows_per_task(&output.matrix, x_rows).next_multiple_of(ROWS);
        let ranges = (0..rows).step_by(step);
        panels.extend(ranges.map(|start| (output, start..rows.min(start + step))));
    }
    let rows: usize = outputs.iter().map(|output| output.matrix.rows).sum();
    parallel::for_each(panels.len(), x.len() * rows, |index| {
        let Some((output, rows)) = panels.get(index) else {
            return;
        };
        let StoredAs::Quant(kind) = output.matrix.stored else {
            return;
        };
        let panel = Panel {
            isa,
            bytes: output.matrix.bytes,
            columns,
            rows: rows.clone(),
            x: &codes,
            out: output.row(0),
            out_stride: output.matrix.rows,
        };
        // SAFETY: the caller's promise; the panels' rows, thus their outputs, are disjoint.
        unsafe {
            with_format(kind, &panel);
            output.add_bias(rows, &(0..x_rows));
        }
    });
    true
}

/// Work that is written over a format.
trait FormatWork {
    /// The work.
    ///
    /// # Safety
    /// What the implementation asks for.
    unsafe fn go<F: RowFormat>(self);
}

/// Runs the copy of `work` for a format.
///
/// # Safety
/// As for [`FormatWork::go`].
unsafe fn with_format(kind: QuantType, work: impl FormatWork) {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            QuantType::Q4_0 => work.go::<formats::Q4_0>(),
            QuantType::Q4_1 => work.go::<formats::Q4_1>(),
            QuantType::Q5_0 => work.go::<formats::Q5_0>(),
            QuantType::Q5_1 => work.go::<formats::Q5_1>(),
            QuantType::Q8_0 => work.go::<formats::Q8_0>(),
            QuantType::Q4K => work.go::<formats::Q4K>(),
            QuantType::Q5K => work.go::<formats::Q5K>(),
            QuantType::Q6K => work.go::<formats::Q6K>(),
        }
    }
}

/// A kernel written over [`RowLanes`].
trait RowKernel {
    /// The work. Implementations are `#[inline(always)]`, so that they are compiled with the caller's target features.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`, and the kernel's own pointers are good for what it reads and writes.
    unsafe fn run<L: RowLanes>(self);
}

/// Whether there are products of bytes beside AVX-512. Of their own, and not in [`Isa`]: no other kernel asks for them.
#[cfg(target_arch = "x86_64")]
fn has_vnni(isa: Isa) -> bool {
    isa >= Isa::Avx512 && Isa::Avx512.is_available() && is_x86_feature_detected!("avx512vnni")
}

/// Rows of x that the copy for `isa` takes together: asked of the copy that runs, so that x is laid out as it is read.
fn most(isa: Isa) -> usize {
    struct Most<'a>(&'a mut usize);
    impl RowKernel for Most<'_> {
        #[inline(always)]
        unsafe fn run<L: RowLanes>(self) {
            *self.0 = L::MOST;
        }
    }
    let mut most = 1;
    // SAFETY: it has no pointers.
    unsafe { dispatch(isa, Most(&mut most)) }
    most
}

/// Runs the copy of a kernel for `isa`; AVX-512 without VNNI runs the one for AVX2.
///
/// # Safety
/// The kernel's own pointers are good for what it reads and writes.
unsafe fn dispatch<K: RowKernel>(isa: Isa, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        unsafe fn with_vnni<K: RowKernel>(kernel: K) {
            // SAFETY: the features are enabled here; the pointers are the caller's promise.
            unsafe { kernel.run::<vnni::Vnni>() }
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn with_avx2<K: RowKernel>(kernel: K) {
            // SAFETY: the features are enabled here; the pointers are the caller's promise.
            unsafe { kernel.run::<avx2::Avx2>() }
        }
        if has_vnni(isa) {
            // SAFETY: the features have just been seen; the pointers are the caller's promise.
            return unsafe { with_vnni(kernel) };
        }
        if isa >= Isa::Avx2 && Isa::Avx2.is_available() {
            // SAFETY: as above.
            return unsafe { with_avx2(kernel) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    // SAFETY: plain Rust needs no features; the pointers are the caller's promise.
    unsafe { kernel.run::<row_lanes::Portable>() }
}
