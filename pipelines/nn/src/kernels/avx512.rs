//! `Lanes` over AVX-512: sixteen lanes, thirty-two registers.

use super::blocks::Avx512Codes;
use super::lanes::Lanes;
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx512<const VBMI: bool>;

impl<const VBMI: bool> Lanes for Avx512<VBMI> {
    type Vector = __m512;
    type Codes = Avx512Codes<VBMI>;
    const WIDTH: usize = 16;
    const TILE_ROWS: usize = 8;
    const X_ROWS: usize = 12;

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

    /// Four sums together: a transposition within quarters, and every addition is one of whole registers.
    #[inline(always)]
    unsafe fn sum_each<const R: usize>(v: [__m512; R]) -> [f32; R] {
        let mut sums = [0.0; R];
        // SAFETY: the trait's contract; whole fours of rows are stored.
        unsafe {
            for first in (0..R - R % 4).step_by(4) {
                let [a, b, c, d] = fours([v[first], v[first + 1], v[first + 2], v[first + 3]]);
                let four = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), c), d);
                let sum = _mm_add_ps(
                    _mm512_castps512_ps128(four),
                    _mm512_extractf32x4_ps::<1>(four),
                );
                let sum = _mm_add_ps(sum, _mm512_extractf32x4_ps::<2>(four));
                let sum = _mm_add_ps(sum, _mm512_extractf32x4_ps::<3>(four));
                _mm_storeu_ps(sums.as_mut_ptr().add(first), sum);
            }
        }
        sums
    }

    /// Four rounds of 16 shuffles: pairs of rows, fours within quarters, then quarters across, twice.
    #[inline(always)]
    unsafe fn transpose(v: &mut [__m512; 16]) {
        // SAFETY: the trait's contract.
        unsafe {
            // v[4g + j]: quarter q holds lane 4q + j of rows 4g..4g + 4.
            for g in 0..4 {
                let four = fours([v[4 * g], v[4 * g + 1], v[4 * g + 2], v[4 * g + 3]]);
                for j in 0..4 {
                    v[4 * g + j] = four[j];
                }
            }
            for j in 0..4 {
                let (a, b, c, d) = (v[j], v[4 + j], v[8 + j], v[12 + j]);
                // Quarters 0 and 2 of two groups, and 1 and 3.
                let (ab, cd) = (
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d),
                );
                let (ab_odd, cd_odd) = (
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d),
                );
                v[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
                v[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd);
                v[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd);
                v[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd);
            }
        }
    }

    #[inline(always)]
    unsafe fn every_second(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let lanes =
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
            _mm512_permutex2var_ps(a, lanes, b)
        }
    }

    #[inline(always)]
    unsafe fn interleave(a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: the trait's contract.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high =
                _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            (
                _mm512_permutex2var_ps(a, low, b),
                _mm512_permutex2var_ps(a, high, b),
            )
        }
    }
}

/// Four rows transposed within quarters: quarter q of the j-th is lane 4q + j of each row.
#[inline(always)]
unsafe fn fours([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
    // SAFETY: the trait's contract.
    unsafe {
        let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
        [
            _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd),
            _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ]
    }
}
