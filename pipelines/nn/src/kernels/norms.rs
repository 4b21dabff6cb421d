//! RMSNorm and LayerNorm of rows, alone and after the residual's addition: a row is in L1 while it is normed.
//! Apart from `elementwise` because a norm looks at a whole row before it writes any of it.

use super::elementwise::{TASK_ELEMENTS, for_vectors};
use super::lanes::Lanes;
use super::parallel::{self, Shared};
use super::{Isa, Kernel, dispatch};

/// What a norm multiplies by and adds.
#[derive(Clone, Copy)]
pub(crate) struct Gain<'a> {
    /// As long as a row.
    pub(crate) weight: &'a [f32],
    pub(crate) kind: Kind<'a>,
    /// Added to the variance.
    pub(crate) eps: f32,
}

/// What a norm divides by.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// The root of the mean square, as transformers' LlamaRMSNorm: weight · (x · 1/√(mean(x²) + eps)).
    Rms,
    /// The deviation from the mean, which is subtracted first, as torch's LayerNorm; with a bias as long as a row, or none.
    Layer(Option<&'a [f32]>),
}

/// What [`norm`] reads and writes; all of one length.
pub(crate) struct Rows<'a> {
    pub(crate) x: &'a [f32],
    /// What is added to `x` first, and where the sum goes.
    pub(crate) residual: Option<(&'a [f32], &'a mut [f32])>,
    pub(crate) out: &'a mut [f32],
}

/// One row of [`Rows`].
struct Row<'a> {
    gain: Gain<'a>,
    rows: Rows<'a>,
}

impl Kernel for Row<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { gain, rows } = self;
        let width = gain.weight.len();
        // SAFETY: every slice is one row of `width` numbers.
        unsafe {
            let x = match rows.residual {
                Some((residual, sum)) => {
                    for_vectors::<L>(
                        width,
                        #[inline(always)]
                        |at| {
                            at.store::<L>(
                                sum,
                                L::add(at.load::<L>(rows.x), at.load::<L>(residual)),
                            );
                        },
                    );
                    &*sum
                }
                None => rows.x,
            };
            match gain.kind {
                Kind::Rms => root_mean_square::<L>(gain, x, rows.out),
                Kind::Layer(bias) => {
                    deviation::<L>(gain, x, rows.out);
                    if let Some(bias) = bias {
                        for_vectors::<L>(
                            width,
                            #[inline(always)]
                            |at| {
                                let y = L::add(at.load::<L>(rows.out), at.load::<L>(bias));
                                at.store::<L>(rows.out, y);
                            },
                        );
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn root_mean_square<L: Lanes>(gain: Gain<'_>, x: &[f32], out: &mut [f32]) {
    let width = gain.weight.len();
    // SAFETY: every slice is one row of `width` numbers.
    unsafe {
        let mut squares = L::splat(0.0);
        for_vectors::<L>(
            width,
            #[inline(always)]
            |at| {
                let x = at.load::<L>(x);
                squares = L::mul_add(x, x, squares);
            },
        );
        let variance = L::sum(squares) / width as f32;
        let scale = L::splat(1.0 / (variance + gain.eps).sqrt());
        for_vectors::<L>(
            width,
            #[inline(always)]
            |at| {
                let normed = L::mul(at.load::<L>(x), scale);
                at.store::<L>(out, L::mul(at.load::<L>(gain.weight), normed));
            },
        );
    }
}

#[inline(always)]
unsafe fn deviation<L: Lanes>(gain: Gain<'_>, x: &[f32], out: &mut [f32]) {
    let width = gain.weight.len();
    // SAFETY: every slice is one row of `width` numbers.
    unsafe {
        let mut sum = L::splat(0.0);
        for_vectors::<L>(
            width,
            #[inline(always)]
            |at| sum = L::add(sum, at.load::<L>(x)),
        );
        let mean = L::splat(L::sum(sum) / width as f32);
        let mut squares = L::splat(0.0);
        for_vectors::<L>(
            width,
            #[inline(always)]
            |at| {
                at.store::<L>(out, L::sub(at.load::<L>(x), mean));
                // Read back, because the lanes past the end of a row are zero then, and not the mean.
                let off = at.load::<L>(out);
                squares = L::mul_add(off, off, squares);
            },
        );
        let variance = L::sum(squares) / width as f32;
        let scale = L::splat(1.0 / (variance + gain.eps).sqrt());
        for_vectors::<L>(
            width,
            #[inline(always)]
            |at| {
                let normed = L::mul(at.load::<L>(out), scale);
                at.store::<L>(out, L::mul(at.load::<L>(gain.weight), normed));
            },
        );
    }
}

/// Norms each row of `x`, after adding `residual` when there is one; the sum is kept.
pub(crate) fn norm(isa: Isa, gain: Gain<'_>, rows: Rows<'_>) {
    let Rows { x, residual, out } = rows;
    let (width, len) = (gain.weight.len(), x.len());
    let fits = width > 0
        && len.is_multiple_of(width)
        && out.len() == len
        && !matches!(gain.kind, Kind::Layer(Some(bias)) if bias.len() != width)
        && residual
            .as_ref()
            .is_none_or(|(r, sum)| r.len() == len && sum.len() == len);
    debug_assert!(fits);
    if !fits {
        return;
    }
    let out = Shared(out.as_mut_ptr());
    let residual = residual.map(|(residual, sum)| (residual, Shared(sum.as_mut_ptr())));
    let rows_per_task = TASK_ELEMENTS.div_ceil(width);
    let rows = len / width;
    parallel::for_each(rows.div_ceil(rows_per_task), len * 2, |task| {
        for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
            let range = row * width..(row + 1) * width;
            // SAFETY: a row of `out` and one of `sum` belong to one task; all lengths were checked.
            unsafe {
                let part = |all: Shared<f32>| {
                    std::slice::from_raw_parts_mut(all.get().add(range.start), width)
                };
                let rows = Rows {
                    x: &x[range.clone()],
                    residual: residual.map(|(residual, sum)| (&residual[range.clone()], part(sum))),
                    out: part(out),
                };
                dispatch(isa, Row { gain, rows });
            }
        }
    });
}
