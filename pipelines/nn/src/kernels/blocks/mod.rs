//! Block-quantised weights in the kernels: unpacked in registers to the exact f32 numbers that they stand for.
//! Apart from `lanes`, whose stored dtypes are one number beside the other: here numbers share scales, which are opened once
//! for 256 numbers and kept beside them.

mod codes;
#[cfg(target_arch = "x86_64")]
mod codes_x86;
mod formats;
pub(super) mod product;
#[cfg(test)]
mod tests;

pub(super) use codes::{Codes, PortableCodes};
#[cfg(target_arch = "x86_64")]
pub(super) use codes_x86::{Avx2Codes, Avx512Codes};

use super::lanes::Lanes;
use crate::weights::QuantType;

/// Numbers that are opened at a time, eight small blocks or one large one: a unit. The last of a row may be shorter, in
/// steps of 32.
pub(super) const UNIT: usize = 256;

/// What is worked out once for a unit.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Open {
    /// Codes of more than four bits, put together to a byte each.
    codes: [u8; UNIT],
    /// A factor for each 32 numbers, or for each 16.
    scales: [f32; 16],
    /// What is added to each 32 numbers.
    offsets: [f32; 8],
}

impl Open {
    pub(super) const EMPTY: Self = Self {
        codes: [0; UNIT],
        scales: [0.0; 16],
        offsets: [0.0; 8],
    };
}

/// A group's numbers: as many of the vectors as it needs.
pub(super) type Numbers<L> = [<L as Lanes>::Vector; 8];

/// A block format, as a type for kernels that are compiled once for each.
pub(super) trait Format: Copy {
    const KIND: QuantType;
    /// Numbers that are unpacked together, 32 or 64; those in a unit are whole groups.
    const GROUP: usize;

    /// Opens the unit at `unit`, of `len` numbers, whole blocks.
    ///
    /// # Safety
    /// As for [`Lanes`]; the unit's bytes can be read.
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open);

    /// The numbers of one group of an opened unit, in their order.
    ///
    /// # Safety
    /// As for [`open`](Self::open); `group` is inside the unit.
    unsafe fn unpack<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Numbers<L>;

    /// Bytes of `len` numbers, whole blocks.
    #[inline(always)]
    fn bytes(len: usize) -> usize {
        len / Self::KIND.block_len() * Self::KIND.block_bytes()
    }
}

/// Work that is written over a format.
pub(super) trait FormatWork {
    /// The work. Implementations are `#[inline(always)]`, as a kernel's are.
    ///
    /// # Safety
    /// As for [`Lanes`], and what the implementation asks for.
    unsafe fn go<L: Lanes, F: Format>(self);
}

/// Runs the copy of `work` for a format.
///
/// # Safety
/// As for [`FormatWork::go`].
#[inline(always)]
pub(super) unsafe fn with_format<L: Lanes>(kind: QuantType, work: impl FormatWork) {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            QuantType::Q4_0 => work.go::<L, formats::Q4_0>(),
            QuantType::Q4_1 => work.go::<L, formats::Q4_1>(),
            QuantType::Q5_0 => work.go::<L, formats::Q5_0>(),
            QuantType::Q5_1 => work.go::<L, formats::Q5_1>(),
            QuantType::Q8_0 => work.go::<L, formats::Q8_0>(),
            QuantType::Q4K => work.go::<L, formats::Q4K>(),
            QuantType::Q5K => work.go::<L, formats::Q5K>(),
            QuantType::Q6K => work.go::<L, formats::Q6K>(),
        }
    }
}

/// Numbers in whole blocks to f32.
pub(super) struct Unpack {
    pub(super) from: *const u8,
    pub(super) to: *mut f32,
    pub(super) len: usize,
}

impl FormatWork for Unpack {
    /// # Safety
    /// `from` holds `len` numbers, whole blocks, and `to` has room for them.
    #[inline(always)]
    unsafe fn go<L: Lanes, F: Format>(self) {
        let mut open = Open::EMPTY;
        for start in (0..self.len).step_by(UNIT) {
            let len = UNIT.min(self.len - start);
            // SAFETY: the caller's promise.
            unsafe {
                let unit = self.from.add(F::bytes(start));
                F::open::<L>(unit, len, &mut open);
                for group in 0..len / F::GROUP {
                    let numbers = F::unpack::<L>(unit, &open, group);
                    let to = self.to.add(start + group * F::GROUP);
                    for i in 0..F::GROUP / L::WIDTH {
                        L::store(to.add(i * L::WIDTH), numbers[i]);
                    }
                }
            }
        }
    }
}
