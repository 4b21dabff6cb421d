//! What a row of logits is boiled down to: its largest number, and the logarithm of the sum of the exponentials.
//! Apart from `elementwise`, whose kernels write as much as they read.

use super::elementwise::{exp_of_small, for_vectors};
use super::lanes::Lanes;
use super::{Isa, Kernel, dispatch};

/// The largest of `row`; negative infinity for none. NaN is passed over where another number is larger than what is before it.
pub(crate) fn largest(isa: Isa, row: &[f32]) -> f32 {
    struct Largest<'a>(&'a [f32], &'a mut f32);
    impl Kernel for Largest<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: vectors are inside the row; lanes past its end are negative infinity.
            unsafe {
                let mut so_far = L::splat(f32::NEG_INFINITY);
                let whole = self.0.len() - self.0.len() % L::WIDTH;
                for start in (0..whole).step_by(L::WIDTH) {
                    so_far = L::max(L::load(self.0.as_ptr().add(start)), so_far);
                }
                let rest = self.0.iter().skip(whole);
                *self.1 = rest.fold(L::max_lane(so_far), |a, b| a.max(*b));
            }
        }
    }
    let mut found = f32::NEG_INFINITY;
    // SAFETY: the kernel reads the slice and writes one number.
    unsafe { dispatch(isa, Largest(row, &mut found)) };
    found
}

/// Σ e^(x − shift) over a row whose largest number is `shift` or not far above, in f32 along each lane; what is under e^-87 counts as
/// nothing.
pub(crate) fn sum_of_exponentials(isa: Isa, row: &[f32], shift: f32) -> f32 {
    struct Sum<'a>(&'a [f32], f32, &'a mut f32);
    impl Kernel for Sum<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: `for_vectors` stays inside the row.
            unsafe {
                let shift = L::splat(self.1);
                let whole = self.0.len() - self.0.len() % L::WIDTH;
                let mut sum = L::splat(0.0);
                let row = &self.0[..whole];
                for_vectors::<L>(
                    whole,
                    #[inline(always)]
                    |at| sum = L::add(sum, exp_of_small::<L>(L::sub(at.load::<L>(row), shift))),
                );
                let mut total = L::sum(sum);
                for x in &self.0[whole..] {
                    total += L::max_lane(exp_of_small::<L>(L::splat(x - self.1)));
                }
                *self.2 = total;
            }
        }
    }
    let mut found = 0.0;
    // SAFETY: the kernel reads the slice and writes one number.
    unsafe { dispatch(isa, Sum(row, shift, &mut found)) };
    found
}
