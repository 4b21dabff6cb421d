//! Block-quantised weights in the kernels: unpacked in registers to the exact f32 numbers that they stand for.
//! Apart from `lanes`, whose stored dtypes are one number beside the other: here numbers share scales, which are opened once
//! for 256 numbers and kept beside them.

mod codes;
#[cfg(target_arch = "x86_64")]
mod codes_x86;
mod formats;
pub(super) mod product;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod x_tiles;

pub(super) use codes::{Codes, PortableCodes};
#[cfg(target_arch = "x86_64")]
pub(super) use codes_x86::{Avx2Codes, Avx512Codes};

use super::lanes::Lanes;
use super::{Isa, Kernel, dispatch};
use crate::weights::QuantType;
use std::marker::PhantomData;

/// Numbers that are opened at a time, eight small blocks or one large one: a unit. The last of a row may be shorter, in
/// steps of 32.
pub(super) const UNIT: usize = 256;

/// What is worked out once for a unit.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Open {
    /// Codes of more than four bits, put together to a byte each.
    codes: [u8; UNIT],
    /// A factor for each 16 numbers; or for each 32 and, from [`OFFSETS`] on, what is added to each 32.
    scales: [f32; 16],
}

const OFFSETS: usize = 8;

impl Open {
    pub(super) const EMPTY: Self = Self {
        codes: [0; UNIT],
        scales: [0.0; 16],
    };

    /// # Safety
    /// There are so many in a unit.
    #[inline(always)]
    unsafe fn scale(&self, index: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.scales.get_unchecked(index) }
    }

    /// # Safety
    /// There are so many in a unit.
    #[inline(always)]
    unsafe fn offset(&self, index: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe { *self.scales.get_unchecked(OFFSETS + index) }
    }
}

/// A block format, as a type for kernels that are compiled once for each.
pub(super) trait Format: Copy {
    const KIND: QuantType;
    /// Numbers whose codes lie together, 32 or 128; those in a unit are whole groups.
    const GROUP: usize;
    /// Rows that one row of x is multiplied by together, of 16 lanes: more of them hide what each waits for, fewer are fewer
    /// streams out of memory.
    const ROWS: usize = 8;
    /// A group's codes and what makes numbers of them. It may point into the unit and what was opened of it.
    type Group<L: Lanes>: Copy;

    /// Opens the unit at `unit`, of `len` numbers, whole blocks.
    ///
    /// # Safety
    /// As for [`Lanes`]; the unit's bytes can be read.
    unsafe fn open<L: Lanes>(unit: *const u8, len: usize, open: &mut Open);

    /// One group of an opened unit.
    ///
    /// # Safety
    /// As for [`open`](Self::open); `group` is inside the unit.
    unsafe fn group<L: Lanes>(unit: *const u8, open: &Open, group: usize) -> Self::Group<L>;

    /// The `i`-th vector of a group's numbers. One at a time, so that a product can take turns with the rows: the chains of
    /// additions of one row alone would be longer than what a processor looks ahead.
    ///
    /// # Safety
    /// As for [`group`](Self::group), of whose unit nothing has changed since; `i` is inside the group.
    unsafe fn vector<L: Lanes>(group: &Self::Group<L>, i: usize) -> L::Vector;

    /// Bytes of `len` numbers, whole blocks.
    #[inline(always)]
    fn bytes(len: usize) -> usize {
        len / Self::KIND.block_len() * Self::KIND.block_bytes()
    }
}

/// Work that is written over a format.
pub(super) trait FormatWork {
    /// The work.
    ///
    /// # Safety
    /// What the implementation asks for.
    unsafe fn go<F: Format>(self);
}

/// Runs the copy of `work` for a format.
///
/// # Safety
/// As for [`FormatWork::go`].
pub(super) unsafe fn with_format(kind: QuantType, work: impl FormatWork) {
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

/// Unpacks the numbers of `bytes`, whole blocks of `kind`, into `out`. What does not fit is left as it is.
pub(super) fn unpack(isa: Isa, kind: QuantType, bytes: &[u8], out: &mut [f32]) {
    struct Unpack<'a, F>(&'a [u8], &'a mut [f32], PhantomData<F>);
    impl<F: Format> Kernel for Unpack<'_, F> {
        const VBMI: bool = true;

        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            let mut open = Open::EMPTY;
            for start in (0..self.1.len()).step_by(UNIT) {
                let len = UNIT.min(self.1.len() - start);
                // SAFETY: the lengths were checked: there are `len` numbers from `start` on, in whole groups.
                unsafe {
                    let unit = self.0.as_ptr().add(F::bytes(start));
                    F::open::<L>(unit, len, &mut open);
                    for group in 0..len / F::GROUP {
                        let to = self.1.as_mut_ptr().add(start + group * F::GROUP);
                        let group = F::group::<L>(unit, &open, group);
                        for i in 0..F::GROUP / L::WIDTH {
                            L::store(to.add(i * L::WIDTH), F::vector::<L>(&group, i));
                        }
                    }
                }
            }
        }
    }
    struct Work<'a>(Isa, &'a [u8], &'a mut [f32]);
    impl FormatWork for Work<'_> {
        unsafe fn go<F: Format>(self) {
            // SAFETY: the lengths were checked.
            unsafe { dispatch(self.0, Unpack::<F>(self.1, self.2, PhantomData)) }
        }
    }
    let fits = kind.byte_len(out.len()) == Some(bytes.len());
    debug_assert!(fits, "a row's bytes must be those of its numbers");
    if fits {
        // SAFETY: the lengths fit.
        unsafe { with_format(kind, Work(isa, bytes, out)) }
    }
}
