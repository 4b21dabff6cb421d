//! `Lanes` over AVX2, FMA and F16C: eight lanes, sixteen registers.

use super::blocks::Avx2Codes;
use super::lanes::Lanes;
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx2;

impl Lanes for Avx2 {
    type Vector = __m256;
    type Codes = Avx2Codes;
    const WIDTH: usize = 8;
    const TILE_ROWS: usize = 4;
    const X_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m256) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(v: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
    }
    #[inline(always)]
    unsafe fn power_of_two(v: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn zero_below(v: __m256, test: __m256, floor: f32) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_and_ps(v, _mm256_cmp_ps::<_CMP_GE_OQ>(test, _mm256_set1_ps(floor))) }
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
    unsafe fn sum(v: __m256) -> f32 {
        // SAFETY: the trait's contract.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(v: __m256) -> f32 {
        // SAFETY: the trait's contract.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    /// Four sums together: a transposition within halves, and every addition is one of whole registers.
    #[inline(always)]
    unsafe fn sum_each<const R: usize>(v: [__m256; R]) -> [f32; R] {
        let mut sums = [0.0; R];
        // SAFETY: the trait's contract; whole fours of rows are stored.
        unsafe {
            for first in (0..R - R % 4).step_by(4) {
                let [a, b, c, d] = fours([v[first], v[first + 1], v[first + 2], v[first + 3]]);
                let four = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(a, b), c), d);
                let sum = _mm_add_ps(
                    _mm256_castps256_ps128(four),
                    _mm256_extractf128_ps::<1>(four),
                );
                _mm_storeu_ps(sums.as_mut_ptr().add(first), sum);
            }
        }
        sums
    }

    /// Three rounds of eight shuffles: pairs of rows, fours within halves, then halves across.
    #[inline(always)]
    unsafe fn transpose(v: &mut [__m256; 16]) {
        // SAFETY: the trait's contract.
        unsafe {
            // Half h of the j-th of each four holds lane 4h + j.
            let a = fours([v[0], v[1], v[2], v[3]]);
            let b = fours([v[4], v[5], v[6], v[7]]);
            for j in 0..4 {
                v[j] = _mm256_permute2f128_ps::<0x20>(a[j], b[j]);
                v[4 + j] = _mm256_permute2f128_ps::<0x31>(a[j], b[j]);
            }
        }
    }

    #[inline(always)]
    unsafe fn every_second(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe {
            // a0 a2 b1 b3 and a4 a6 b5 b7: pairs to their places.
            let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0b11_01_10_00>(a, b));
            _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(pairs))
        }
    }

    #[inline(always)]
    unsafe fn interleave(a: __m256, b: __m256) -> (__m256, __m256) {
        // SAFETY: the trait's contract.
        unsafe {
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            (
                _mm256_permute2f128_ps::<0x20>(low, high),
                _mm256_permute2f128_ps::<0x31>(low, high),
            )
        }
    }
}

/// Four rows transposed within halves: half h of the j-th is lane 4h + j of each row.
#[inline(always)]
unsafe fn fours([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    // SAFETY: the trait's contract.
    unsafe {
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ]
    }
}
