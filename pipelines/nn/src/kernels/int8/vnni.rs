//! `RowLanes` over AVX-512 with VNNI (Cascade Lake, Zen 4 and later), whose one instruction multiplies 64 bytes and adds them
//! up by fours.

use super::row_lanes::{RowLanes, Rows};
use std::arch::x86_64::*;

pub(super) struct Vnni;

/// 32 bytes each of rows that are four apart, in the halves of a register.
#[inline(always)]
unsafe fn two_halves(rows: &Rows, row: usize, offset: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let low = _mm256_loadu_si256(rows.at[row].add(offset).cast());
        let high = _mm256_loadu_si256(rows.at[row + 4].add(offset).cast());
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
    }
}

/// 16 bytes each of rows that are four apart, in the quarters of a register.
#[inline(always)]
unsafe fn four_quarters(rows: &Rows, row: usize, offset: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let first = _mm_loadu_si128(rows.at[row].add(offset).cast());
        let second = _mm_loadu_si128(rows.at[row + 4].add(offset).cast());
        let third = _mm_loadu_si128(rows.at[row + 8].add(offset).cast());
        let fourth = _mm_loadu_si128(rows.at[row + 12].add(offset).cast());
        let low = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(first), second);
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(low, third), fourth)
    }
}

/// Transposes four by four words in every quarter.
#[inline(always)]
unsafe fn transpose_quarters(v: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: registers only.
    unsafe {
        let (a, b) = (
            _mm512_unpacklo_epi32(v[0], v[1]),
            _mm512_unpackhi_epi32(v[0], v[1]),
        );
        let (c, d) = (
            _mm512_unpacklo_epi32(v[2], v[3]),
            _mm512_unpackhi_epi32(v[2], v[3]),
        );
        [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ]
    }
}

impl RowLanes for Vnni {
    type Int = __m512i;
    type Float = __m512;
    const MOST: usize = 8;
    const WIDE_SHIFT: Option<u32> = Some(7);

    #[inline(always)]
    unsafe fn word(rows: &Rows, offset: usize) -> __m512i {
        let mut words = [0u32; 16];
        // SAFETY: the trait's contract.
        unsafe {
            for (word, row) in words.iter_mut().zip(rows.at) {
                *word = row.add(offset).cast::<u32>().read_unaligned();
            }
            _mm512_loadu_si512(words.as_ptr().cast())
        }
    }
    #[inline(always)]
    unsafe fn words_4(rows: &Rows, offset: usize) -> [__m512i; 4] {
        // SAFETY: the trait's contract.
        unsafe {
            transpose_quarters([
                four_quarters(rows, 0, offset),
                four_quarters(rows, 1, offset),
                four_quarters(rows, 2, offset),
                four_quarters(rows, 3, offset),
            ])
        }
    }
    #[inline(always)]
    unsafe fn words_8(rows: &Rows, offset: usize) -> [__m512i; 8] {
        // SAFETY: the trait's contract.
        unsafe {
            // Quarters: word i of rows 0 to 3, word i + 4 of them, and the same of rows 4 to 7; then rows 8 to 15.
            let low = transpose_quarters([
                two_halves(rows, 0, offset),
                two_halves(rows, 1, offset),
                two_halves(rows, 2, offset),
                two_halves(rows, 3, offset),
            ]);
            let high = transpose_quarters([
                two_halves(rows, 8, offset),
                two_halves(rows, 9, offset),
                two_halves(rows, 10, offset),
                two_halves(rows, 11, offset),
            ]);
            let mut words = [_mm512_setzero_si512(); 8];
            for i in 0..4 {
                words[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low[i], high[i]);
                words[i + 4] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low[i], high[i]);
            }
            words
        }
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_left<const BITS: u32>(a: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_slli_epi32::<BITS>(a) }
    }
    #[inline(always)]
    unsafe fn shift_right<const BITS: u32>(a: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_srli_epi32::<BITS>(a) }
    }
    #[inline(always)]
    unsafe fn shift_right_signed<const BITS: u32>(a: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_srai_epi32::<BITS>(a) }
    }
    /// -128 becomes 0 and 127 becomes 255: the instruction takes one of its factors without a sign.
    #[inline(always)]
    unsafe fn wide(a: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_xor_si512(a, _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    unsafe fn load_int(from: *const u8) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store_int(to: *mut u8, a: __m512i) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_si512(to.cast(), a) }
    }
    #[inline(always)]
    unsafe fn splat_int(from: *const i32) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_epi32(from.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m512i, codes: __m512i, x: *const u8) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_dpbusd_epi32(sum, codes, Self::splat_int(x.cast())) }
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: __m512i, codes: __m512i, x: *const u8) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { Self::dot(sum, codes, x) }
    }
    #[inline(always)]
    unsafe fn widen(halves: __m512i) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtph_ps(_mm512_cvtepi32_epi16(halves)) }
    }
    #[inline(always)]
    unsafe fn to_f32(a: __m512i) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat_f32(from: *const f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_ps(from.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store_f32(to: *mut f32, a: __m512) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, a) }
    }
    #[inline(always)]
    unsafe fn negate(a: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_xor_ps(a, _mm512_set1_ps(-0.0)) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_fmadd_ps(a, b, c) }
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
