//! The kernels that touch every number once or twice: activations, rotations, gathers.
//! Apart from the products because their cost is memory and the exponential, not multiply-adds.

use super::blocks::unpack;
use super::lanes::{Bf16, F16, F32, Lanes, Stored, StoredAs};
use super::parallel::{self, Shared};
use super::{Isa, Kernel, dispatch};

/// Elements that a task takes: 64 KiB of f32, some 10 µs of memory traffic.
pub(super) const TASK_ELEMENTS: usize = 1 << 14;

/// Where e^x would be denormal: ln of the smallest normal f32, rounded up.
const LOWEST: f32 = -87.336_54;

/// e^x to within 2 units in the last place; 0 where it would be denormal, infinity from 88.73 on.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L::Vector) -> L::Vector {
    const HIGHEST: f32 = 88.722_84;
    // SAFETY: the caller's promise.
    unsafe {
        let clamped = L::min(L::max(x, L::splat(LOWEST)), L::splat(HIGHEST));
        let (e, n) = reduced_exp::<L>(clamped);
        // n is 128 at the upper end, which has no power in f32; half of it twice does not overflow early.
        let half = L::round(L::mul(n, L::splat(0.5)));
        let rest = L::sub(n, half);
        let scaled = L::mul(L::mul(e, L::power_of_two(half)), L::power_of_two(rest));
        L::zero_below(scaled, x, LOWEST)
    }
}

/// The same for x up to 88, and the same bits, in fewer steps: for differences to a largest number.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn exp_of_small<L: Lanes>(x: L::Vector) -> L::Vector {
    // SAFETY: the caller's promise.
    unsafe {
        let (e, n) = reduced_exp::<L>(L::max(x, L::splat(LOWEST)));
        L::zero_below(L::mul(e, L::power_of_two(n)), x, LOWEST)
    }
}

/// e^r and n for x = n·ln 2 + r with |r| ≤ ln 2 / 2, n·ln 2 subtracted in two parts, e^r by the Taylor polynomial of degree 7 (the
/// first term left out is 1.2e-9 at the end of the range).
#[inline(always)]
unsafe fn reduced_exp<L: Lanes>(x: L::Vector) -> (L::Vector, L::Vector) {
    const TAYLOR: [f32; 7] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    // SAFETY: the caller's promise.
    unsafe {
        let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
        let r = L::mul_add(n, L::splat(-0.693_359_4), x);
        let r = L::mul_add(n, L::splat(2.121_944_4e-4), r);
        let mut e = L::splat(TAYLOR[0]);
        for coefficient in &TAYLOR[1..] {
            e = L::mul_add(e, r, L::splat(*coefficient));
        }
        (L::mul_add(e, r, L::splat(1.0)), n)
    }
}

/// 1 / (1 + e^-x).
#[inline(always)]
unsafe fn sigmoid<L: Lanes>(x: L::Vector) -> L::Vector {
    // SAFETY: the caller's promise.
    unsafe {
        let one = L::splat(1.0);
        let e = exp::<L>(L::sub(L::splat(0.0), x));
        L::div(one, L::add(one, e))
    }
}

/// tanh(x) = 2·sigmoid(2x) − 1.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(crate) unsafe fn tanh<L: Lanes>(x: L::Vector) -> L::Vector {
    // SAFETY: the caller's promise.
    unsafe {
        let two = L::splat(2.0);
        L::mul_add(sigmoid::<L>(L::mul(x, two)), two, L::splat(-1.0))
    }
}

/// erfc(x) for x ≥ 0: a polynomial in 1 / (1 + x/2) in the exponent, to within 1.2e-7 of itself (Press et al., "Numerical
/// Recipes", section 6.2, `erfcc`) and what rounding x² costs.
#[inline(always)]
unsafe fn erfc<L: Lanes>(x: L::Vector) -> L::Vector {
    const TERMS: [f32; 9] = [
        0.170_872_77,
        -0.822_152_2,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
    ];
    // SAFETY: the caller's promise.
    unsafe {
        let t = L::div(L::splat(1.0), L::mul_add(x, L::splat(0.5), L::splat(1.0)));
        let mut sum = L::splat(TERMS[0]);
        for term in &TERMS[1..] {
            sum = L::mul_add(sum, t, L::splat(*term));
        }
        let sum = L::mul_add(sum, t, L::splat(-1.265_512_2));
        let exponent = L::sub(sum, L::mul(x, x));
        L::mul(t, exp_of_small::<L>(exponent))
    }
}

/// The activations that have a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Curve {
    /// x·sigmoid(x)
    Silu,
    /// x·Φ(x)
    Gelu,
    /// The tanh approximation of GELU, as x·sigmoid(2u).
    GeluTanh,
    /// x·sigmoid(1.702·x)
    QuickGelu,
    /// max(x, 0)
    Relu,
    /// cap·tanh(x / cap)
    SoftCap(f32),
}

/// The curve of every lane.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(super) unsafe fn curve<L: Lanes>(which: Curve, x: L::Vector) -> L::Vector {
    // SAFETY: the caller's promise.
    unsafe {
        match which {
            Curve::Silu => L::mul(x, sigmoid::<L>(x)),
            Curve::Gelu => {
                // Φ(x) is 1 − tail for x ≥ 0 and tail below, tail being erfc(|x|/√2) / 2.
                let magnitude = L::max(x, L::sub(L::splat(0.0), x));
                let twice = erfc::<L>(L::mul(magnitude, L::splat(std::f32::consts::FRAC_1_SQRT_2)));
                let tail = L::mul(L::mul(x, twice), L::splat(0.5));
                let rest = L::mul(x, L::sub(L::splat(1.0), twice));
                L::add(tail, L::zero_below(rest, x, 0.0))
            }
            Curve::GeluTanh => {
                // 2u = 2·√(2/π)·(x + 0.044715·x³)
                let scale = 2.0 * (2.0 / std::f32::consts::PI).sqrt();
                let cube = L::mul(L::mul(x, x), L::mul(x, L::splat(0.044_715 * scale)));
                let twice = L::mul_add(x, L::splat(scale), cube);
                L::mul(x, sigmoid::<L>(twice))
            }
            Curve::QuickGelu => L::mul(x, sigmoid::<L>(L::mul(x, L::splat(1.702)))),
            Curve::Relu => L::max(x, L::splat(0.0)),
            Curve::SoftCap(cap) => {
                let cap = L::splat(cap);
                L::mul(tanh::<L>(L::div(x, cap)), cap)
            }
        }
    }
}

/// out = curve(gate), times `up` when there is one. All of one length.
pub(crate) fn activate(isa: Isa, which: Curve, gate: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    struct Activate<'a> {
        which: Curve,
        gate: &'a [f32],
        up: Option<&'a [f32]>,
        out: &'a mut [f32],
    }
    impl Kernel for Activate<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: the three slices have one length; `for_vectors` stays inside it.
            unsafe {
                for_vectors::<L>(
                    self.out.len(),
                    #[inline(always)]
                    |at| {
                        let y = curve::<L>(self.which, at.load::<L>(self.gate));
                        let y = match self.up {
                            Some(up) => L::mul(y, at.load::<L>(up)),
                            None => y,
                        };
                        at.store::<L>(self.out, y);
                    },
                );
            }
        }
    }
    let fits = gate.len() == out.len() && up.is_none_or(|up| up.len() == out.len());
    debug_assert!(fits);
    if !fits {
        return;
    }
    let (len, shared) = (out.len(), Shared(out.as_mut_ptr()));
    parallel::for_each(len.div_ceil(TASK_ELEMENTS), len * 4, |task| {
        let range = task * TASK_ELEMENTS..len.min((task + 1) * TASK_ELEMENTS);
        // SAFETY: the tasks' ranges are disjoint parts of `out`.
        let out =
            unsafe { std::slice::from_raw_parts_mut(shared.get().add(range.start), range.len()) };
        let kernel = Activate {
            which,
            gate: &gate[range.clone()],
            up: up.map(|up| &up[range]),
            out,
        };
        // SAFETY: the slices have one length.
        unsafe { dispatch(isa, kernel) }
    });
}

/// The half-split rotation of transformers' `apply_rotary_pos_emb`, or the same of neighbouring pairs: x [rows, heads, head_dim],
/// cos and sin [rows, rotary / 2]; what lies past `rotary` in a head is copied.
pub(crate) fn rotate(isa: Isa, x: &[f32], out: &mut [f32], shape: Rotate<'_>) {
    struct Row<'a> {
        x: &'a [f32],
        out: &'a mut [f32],
        head_dim: usize,
        interleaved: bool,
        cos: &'a [f32],
        sin: &'a [f32],
    }
    impl Kernel for Row<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            let half = self.cos.len();
            let heads = self
                .x
                .chunks_exact(self.head_dim)
                .zip(self.out.chunks_exact_mut(self.head_dim));
            for (x, out) in heads {
                let (x, rest) = x.split_at(2 * half);
                let (out, out_rest) = out.split_at_mut(2 * half);
                out_rest.copy_from_slice(rest);
                if self.interleaved {
                    turn_neighbours(x, out, self.cos, self.sin);
                    continue;
                }
                let (x1, x2) = x.split_at(half);
                let (out1, out2) = out.split_at_mut(half);
                // SAFETY: all six slices have `half` numbers.
                unsafe {
                    for_vectors::<L>(
                        half,
                        #[inline(always)]
                        |at| {
                            let (cos, sin) = (at.load::<L>(self.cos), at.load::<L>(self.sin));
                            let (a, b) = (at.load::<L>(x1), at.load::<L>(x2));
                            at.store::<L>(out1, L::sub(L::mul(a, cos), L::mul(b, sin)));
                            at.store::<L>(out2, L::add(L::mul(b, cos), L::mul(a, sin)));
                        },
                    );
                }
            }
        }
    }
    let Rotate {
        rows,
        head_dim,
        interleaved,
        cos,
        sin,
    } = shape;
    if rows == 0 {
        return;
    }
    let (width, half) = (x.len() / rows, cos.len() / rows);
    let fits = x.len() == out.len()
        && x.len().is_multiple_of(rows)
        && cos.len() % rows == 0
        && sin.len() == cos.len()
        && head_dim > 0
        && width % head_dim == 0
        && 2 * half <= head_dim;
    debug_assert!(fits);
    if !fits {
        return;
    }
    let shared = Shared(out.as_mut_ptr());
    let rows_per_task = TASK_ELEMENTS.div_ceil(width.max(1));
    parallel::for_each(rows.div_ceil(rows_per_task), x.len(), |task| {
        for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
            let kernel = Row {
                x: &x[row * width..(row + 1) * width],
                // SAFETY: a row of `out` belongs to one task.
                out: unsafe {
                    std::slice::from_raw_parts_mut(shared.get().add(row * width), width)
                },
                head_dim,
                interleaved,
                cos: &cos[row * half..(row + 1) * half],
                sin: &sin[row * half..(row + 1) * half],
            };
            // SAFETY: the lengths were checked.
            unsafe { dispatch(isa, kernel) }
        }
    });
}

/// The rotated part of one head with neighbours as pairs. Written plainly: its shuffles are a few nanoseconds beside a product,
/// and products and sums in this order give the bits that the half-split form gives for the same pairs.
#[inline(always)]
fn turn_neighbours(x: &[f32], out: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = x.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
    for (([a, b], [turned_a, turned_b]), (cos, sin)) in pairs.zip(cos.iter().zip(sin)) {
        *turned_a = a * cos - b * sin;
        *turned_b = b * cos + a * sin;
    }
}

/// The sizes and angles of [`rotate`].
pub(crate) struct Rotate<'a> {
    pub(crate) rows: usize,
    pub(crate) head_dim: usize,
    pub(crate) interleaved: bool,
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
}

/// Widens stored numbers: `bytes` holds `out.len()` of them.
pub(crate) fn widen(isa: Isa, bytes: &[u8], stored: StoredAs, out: &mut [f32]) {
    struct Widen<'a> {
        bytes: &'a [u8],
        stored: StoredAs,
        out: &'a mut [f32],
    }
    impl Widen<'_> {
        #[inline(always)]
        unsafe fn go<L: Lanes, W: Stored>(self) {
            // SAFETY: `bytes` holds as many elements as `out`.
            unsafe {
                for_vectors::<L>(
                    self.out.len(),
                    #[inline(always)]
                    |at| {
                        let from = self.bytes.as_ptr().add(at.start * W::BYTES);
                        let wide = match at.count {
                            None => W::load::<L>(from),
                            Some(count) => W::load_partial::<L>(from, count),
                        };
                        at.store::<L>(self.out, wide);
                    },
                );
            }
        }
    }
    impl Kernel for Widen<'_> {
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: the caller's promise.
            unsafe {
                match self.stored {
                    StoredAs::F32 => self.go::<L, F32>(),
                    StoredAs::F16 => self.go::<L, F16>(),
                    StoredAs::Bf16 => self.go::<L, Bf16>(),
                    // Unpacked below.
                    StoredAs::Quant(_) => {}
                }
            }
        }
    }
    if let StoredAs::Quant(kind) = stored {
        return unpack(isa, kind, bytes, out);
    }
    let fits = bytes.len() == stored.row_bytes(out.len());
    debug_assert!(fits);
    if fits {
        // SAFETY: the lengths fit.
        unsafe { dispatch(isa, Widen { bytes, stored, out }) }
    }
}

/// A vector's worth of positions in equally long slices.
#[derive(Clone, Copy)]
pub(super) struct At {
    start: usize,
    /// Less than a vector, at the end.
    count: Option<usize>,
}

impl At {
    #[inline(always)]
    pub(super) unsafe fn load<L: Lanes>(self, slice: &[f32]) -> L::Vector {
        // SAFETY: `for_vectors` stays inside the length that its caller gave.
        unsafe {
            let from = slice.as_ptr().add(self.start);
            match self.count {
                None => L::load(from),
                Some(count) => F32::load_partial::<L>(from.cast(), count),
            }
        }
    }

    #[inline(always)]
    pub(super) unsafe fn store<L: Lanes>(self, slice: &mut [f32], v: L::Vector) {
        // SAFETY: as for `load`; the widest vector has 16 lanes.
        unsafe {
            let to = slice.as_mut_ptr().add(self.start);
            match self.count {
                None => L::store(to, v),
                Some(count) => {
                    let mut lanes = [0.0f32; 16];
                    L::store(lanes.as_mut_ptr(), v);
                    std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
                }
            }
        }
    }
}

/// Goes over `len` positions, a vector at a time and what is left at the end. `body` is to be `#[inline(always)]`: a closure
/// that is not inlined is compiled without the instruction set, and every operation of it becomes a call.
///
/// # Safety
/// As for [`Lanes`]; slices that `body` loads from and stores to have at least `len` numbers.
#[inline(always)]
pub(super) unsafe fn for_vectors<L: Lanes>(len: usize, mut body: impl FnMut(At)) {
    let whole = len - len % L::WIDTH;
    for start in (0..whole).step_by(L::WIDTH) {
        body(At { start, count: None });
    }
    if whole < len {
        body(At {
            start: whole,
            count: Some(len - whole),
        });
    }
}
