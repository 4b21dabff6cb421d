//! `RowLanes` over AVX2: two registers for the sixteen rows, and bytes multiplied in pairs.

use super::row_lanes::{RowLanes, Rows};
use std::arch::x86_64::*;

pub(super) struct Avx2;

type Two = [__m256i; 2];

/// Eight words of each of eight rows to eight registers of one word of each.
#[inline(always)]
unsafe fn transpose_8(v: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: registers only.
    unsafe {
        let low = transpose_halves([v[0], v[1], v[2], v[3]]);
        let high = transpose_halves([v[4], v[5], v[6], v[7]]);
        let mut words = [_mm256_setzero_si256(); 8];
        for i in 0..4 {
            words[i] = _mm256_permute2x128_si256::<0x20>(low[i], high[i]);
            words[i + 4] = _mm256_permute2x128_si256::<0x31>(low[i], high[i]);
        }
        words
    }
}

/// Transposes four by four words in each half.
#[inline(always)]
unsafe fn transpose_halves(v: [__m256i; 4]) -> [__m256i; 4] {
    // SAFETY: registers only.
    unsafe {
        let (a, b) = (
            _mm256_unpacklo_epi32(v[0], v[1]),
            _mm256_unpackhi_epi32(v[0], v[1]),
        );
        let (c, d) = (
            _mm256_unpacklo_epi32(v[2], v[3]),
            _mm256_unpackhi_epi32(v[2], v[3]),
        );
        [
            _mm256_unpacklo_epi64(a, c),
            _mm256_unpackhi_epi64(a, c),
            _mm256_unpacklo_epi64(b, d),
            _mm256_unpackhi_epi64(b, d),
        ]
    }
}

/// 16 bytes each of two rows that are four apart.
#[inline(always)]
unsafe fn two_halves(rows: &Rows, row: usize, offset: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm_loadu_si128(rows.at[row].add(offset).cast());
        let high = _mm_loadu_si128(rows.at[row + 4].add(offset).cast());
        _mm256_set_m128i(high, low)
    }
}

/// Sums by fours of products of bytes that were added up by twos.
#[inline(always)]
unsafe fn add_pairs(sum: __m256i, pairs: __m256i) -> __m256i {
    // SAFETY: registers only.
    unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) }
}

#[inline(always)]
unsafe fn dot(sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: registers only.
    unsafe { add_pairs(sum, _mm256_maddubs_epi16(codes, x)) }
}

/// One factor has no sign: that of W's bytes goes to x.
#[inline(always)]
unsafe fn dot_signed(sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: registers only.
    unsafe { dot(sum, _mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)) }
}

/// The f16 in each lane's lower half.
#[inline(always)]
unsafe fn widen(halves: __m256i) -> __m256 {
    // SAFETY: registers only.
    unsafe {
        let halves = _mm256_and_si256(halves, _mm256_set1_epi32(0xFFFF));
        let packed = _mm256_packus_epi32(halves, halves);
        let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(packed);
        _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
    }
}

#[inline(always)]
unsafe fn negate(a: __m256) -> __m256 {
    // SAFETY: registers only.
    unsafe { _mm256_xor_ps(a, _mm256_set1_ps(-0.0)) }
}

/// The same instruction on both registers.
macro_rules! both {
    ($f:expr; $($a:expr),+) => {
        // SAFETY: the trait's contract.
        unsafe { [$f($($a[0]),+), $f($($a[1]),+)] }
    };
}

impl RowLanes for Avx2 {
    type Int = Two;
    type Float = [__m256; 2];
    const MOST: usize = 2;
    const WIDE_SHIFT: Option<u32> = None;

    #[inline(always)]
    unsafe fn word(rows: &Rows, offset: usize) -> Two {
        let mut words = [0u32; 16];
        // SAFETY: the trait's contract.
        unsafe {
            for (word, row) in words.iter_mut().zip(rows.at) {
                *word = row.add(offset).cast::<u32>().read_unaligned();
            }
            Self::load_int(words.as_ptr().cast())
        }
    }
    #[inline(always)]
    unsafe fn words_4(rows: &Rows, offset: usize) -> [Two; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            let mut words = [[_mm256_setzero_si256(); 2]; 4];
            for half in 0..2 {
                let columns = transpose_halves([
                    two_halves(rows, 8 * half, offset),
                    two_halves(rows, 8 * half + 1, offset),
                    two_halves(rows, 8 * half + 2, offset),
                    two_halves(rows, 8 * half + 3, offset),
                ]);
                for (word, column) in words.iter_mut().zip(columns) {
                    word[half] = column;
                }
            }
            words
        }
    }
    #[inline(always)]
    unsafe fn words_8(rows: &Rows, offset: usize) -> [Two; 8] {
        // SAFETY: the trait's contract.
        unsafe {
            let mut words = [[_mm256_setzero_si256(); 2]; 8];
            for half in 0..2 {
                let mut v = [_mm256_setzero_si256(); 8];
                for (v, row) in v.iter_mut().zip(&rows.at[8 * half..]) {
                    *v = _mm256_loadu_si256(row.add(offset).cast());
                }
                for (word, column) in words.iter_mut().zip(transpose_8(v)) {
                    word[half] = column;
                }
            }
            words
        }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Two {
        // SAFETY: the trait's contract.
        [unsafe { _mm256_set1_epi32(word.cast_signed()) }; 2]
    }
    #[inline(always)]
    unsafe fn and(a: Two, b: Two) -> Two {
        both!(_mm256_and_si256; a, b)
    }
    #[inline(always)]
    unsafe fn or(a: Two, b: Two) -> Two {
        both!(_mm256_or_si256; a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: Two, b: Two) -> Two {
        both!(_mm256_sub_epi32; a, b)
    }
    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(a: Two) -> Two {
        // SAFETY: the trait's contract.
        let bits = [unsafe { _mm_cvtsi32_si128(BITS.cast_signed()) }; 2];
        both!(_mm256_sll_epi32; a, bits)
    }
    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(a: Two) -> Two {
        // SAFETY: the trait's contract.
        let bits = [unsafe { _mm_cvtsi32_si128(BITS.cast_signed()) }; 2];
        both!(_mm256_srl_epi32; a, bits)
    }
    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: u32>(a: Two) -> Two {
        // SAFETY: the trait's contract.
        let bits = [unsafe { _mm_cvtsi32_si128(BITS.cast_signed()) }; 2];
        both!(_mm256_sra_epi32; a, bits)
    }
    #[inline(always)]
    unsafe fn wide(a: Two) -> Two {
        a
    }
    #[inline(always)]
    unsafe fn load_int(from: *const u8) -> Two {
        // SAFETY: the trait's contract.
        unsafe {
            [
                _mm256_loadu_si256(from.cast()),
                _mm256_loadu_si256(from.add(32).cast()),
            ]
        }
    }
    #[inline(always)]
    unsafe fn store_int(to: *mut u8, a: Two) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm256_storeu_si256(to.cast(), a[0]);
            _mm256_storeu_si256(to.add(32).cast(), a[1]);
        }
    }
    #[inline(always)]
    unsafe fn splat_int(from: *const i32) -> Two {
        // SAFETY: the trait's contract.
        [unsafe { _mm256_set1_epi32(from.read_unaligned()) }; 2]
    }
    /// Two products of a code below 128 and a byte are at most 32,258 and fit 16 bits.
    #[inline(always)]
    unsafe fn dot(sum: Two, codes: Two, x: *const u8) -> Two {
        // SAFETY: the trait's contract.
        let x = unsafe { Self::splat_int(x.cast()) };
        both!(dot; sum, codes, x)
    }
    /// |-128| is 128 without a sign; x is never -128, so that two products fit here too.
    #[inline(always)]
    unsafe fn dot_wide(sum: Two, codes: Two, x: *const u8) -> Two {
        // SAFETY: the trait's contract.
        let x = unsafe { Self::splat_int(x.cast()) };
        both!(dot_signed; sum, codes, x)
    }
    #[inline(always)]
    unsafe fn widen(halves: Two) -> [__m256; 2] {
        both!(widen; halves)
    }
    #[inline(always)]
    unsafe fn to_f32(a: Two) -> [__m256; 2] {
        both!(_mm256_cvtepi32_ps; a)
    }
    #[inline(always)]
    unsafe fn zero() -> [__m256; 2] {
        // SAFETY: the trait's contract.
        [unsafe { _mm256_setzero_ps() }; 2]
    }
    #[inline(always)]
    unsafe fn splat_f32(from: *const f32) -> [__m256; 2] {
        // SAFETY: the trait's contract.
        [unsafe { _mm256_set1_ps(from.read_unaligned()) }; 2]
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> [__m256; 2] {
        // SAFETY: the trait's contract.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn store_f32(to: *mut f32, a: [__m256; 2]) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm256_storeu_ps(to, a[0]);
            _mm256_storeu_ps(to.add(8), a[1]);
        }
    }
    #[inline(always)]
    unsafe fn negate(a: [__m256; 2]) -> [__m256; 2] {
        both!(negate; a)
    }
    #[inline(always)]
    unsafe fn mul(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_mul_ps; a, b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        both!(_mm256_fmadd_ps; a, b, c)
    }
    #[inline(always)]
    fn prefetch(rows: &Rows, offset: usize) {
        for row in rows.at {
            let address = row.wrapping_add(rows.ahead + offset);
            // SAFETY: a prefetch of any address is harmless.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
        }
    }
}
