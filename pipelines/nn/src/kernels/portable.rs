//! `Lanes` in plain Rust: the fallback on machines without AVX2, and the yardstick that the other two are tested against.

use super::lanes::Lanes;
use half::{bf16, f16};

#[derive(Clone, Copy)]
pub(super) struct Portable;

type Vector = [f32; 8];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> Vector {
    std::array::from_fn(f)
}

#[inline(always)]
unsafe fn halves(from: *const u8) -> [u16; 8] {
    // SAFETY: the caller's promise; an unaligned read.
    unsafe { from.cast::<[u16; 8]>().read_unaligned() }
}

impl Lanes for Portable {
    type Vector = Vector;
    const WIDTH: usize = 8;
    const TILE_ROWS: usize = 4;
    const X_ROWS: usize = 3;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Vector {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Vector {
        // SAFETY: the caller's promise; an unaligned read.
        unsafe { from.cast::<Vector>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Vector {
        // SAFETY: the caller's promise.
        let bits = unsafe { halves(from) };
        each(|i| f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Vector {
        // SAFETY: the caller's promise.
        let bits = unsafe { halves(from) };
        each(|i| bf16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Vector) {
        // SAFETY: the caller's promise; an unaligned write.
        unsafe { to.cast::<Vector>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: Vector, b: Vector) -> Vector {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Vector, b: Vector) -> Vector {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Vector, b: Vector) -> Vector {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Vector, b: Vector) -> Vector {
        each(|i| a[i] / b[i])
    }
    /// Rounds twice: `f32::mul_add` without FMA hardware is a library call per lane.
    #[inline(always)]
    unsafe fn mul_add(a: Vector, b: Vector, c: Vector) -> Vector {
        each(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Vector, b: Vector) -> Vector {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Vector, b: Vector) -> Vector {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    /// By the 1.5·2^23 trick, which holds for |v| < 2^22 and needs no SSE4.1.
    #[inline(always)]
    unsafe fn round(v: Vector) -> Vector {
        const SHIFT: f32 = 12_582_912.0;
        each(|i| (v[i] + SHIFT) - SHIFT)
    }
    #[inline(always)]
    unsafe fn power_of_two(v: Vector) -> Vector {
        each(|i| f32::from_bits((((v[i] as i32) + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn zero_below(v: Vector, test: Vector, floor: f32) -> Vector {
        each(|i| if test[i] >= floor { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn sum(v: Vector) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| v[i] + v[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    unsafe fn max_lane(v: Vector) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
