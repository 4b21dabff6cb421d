//! `Lanes` over AVX-512: sixteen lanes, thirty-two registers.

use super::blocks::Avx512Codes;
use super::lanes::Lanes;
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Lanes for Avx512 {
    type Vector = __m512;
    type Codes = Avx512Codes;
    const WIDTH: usize = 16;
    const TILE_ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(v: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    unsafe fn power_of_two(v: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn zero_below(v: __m512, test: __m512, floor: f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let keep = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(test, _mm512_set1_ps(floor));
            _mm512_maskz_mov_ps(keep, v)
        }
    }
    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch reads nothing and faults nowhere; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[inline(always)]
    fn prefetch_far(address: *const u8) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
    #[inline(always)]
    unsafe fn sum(v: __m512) -> f32 {
        // SAFETY: the trait's contract.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let four = _mm_add_ps(
                _mm256_castps256_ps128(eight),
                _mm256_extractf128_ps::<1>(eight),
            );
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(v: __m512) -> f32 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_reduce_max_ps(v) }
    }

    /// Eight sums together take 11 shuffles, 5 blends and 8 additions where eight alone take 32 shuffles and 32 additions;
    /// shuffles share a port with multiply-adds, and in a prefill there are eight sums for every few hundred of those.
    #[inline(always)]
    unsafe fn sum_each<const R: usize>(v: [__m512; R]) -> [f32; R] {
        if R != 8 {
            // SAFETY: the trait's contract.
            return std::array::from_fn(|r| unsafe { Self::sum(v[r]) });
        }
        let mut sums = [0.0; R];
        // SAFETY: the trait's contract; R is 8, which is what the store writes.
        unsafe {
            // Lane i with lane i + 8: the upper half of `a` beside the lower half of `b`, added to their other halves.
            let halves = |a: __m512, b: __m512| {
                let crossed = _mm512_shuffle_f32x4::<0b01_00_11_10>(a, b);
                _mm512_add_ps(_mm512_mask_blend_ps(0xFF00, a, b), crossed)
            };
            // Lane i with lane i + 4: four vectors to a register, a quarter each.
            let quarters = |a: __m512, b: __m512| {
                _mm512_add_ps(
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
                )
            };
            let abcd = quarters(halves(v[0], v[1]), halves(v[2], v[3]));
            let efgh = quarters(halves(v[4], v[5]), halves(v[6], v[7]));
            // Within each quarter: lane i with i + 2, then with i + 1.
            let crossed = _mm512_shuffle_ps::<0b01_00_11_10>(abcd, efgh);
            let pairs = _mm512_add_ps(_mm512_mask_blend_ps(0xCCCC, abcd, efgh), crossed);
            let ones = _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs));
            // Quarter q holds the sums of v[q] in lane 4q and of v[4 + q] in lane 4q + 2.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
            let ordered = _mm512_permutexvar_ps(order, ones);
            _mm256_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps256(ordered));
        }
        sums
    }
}
