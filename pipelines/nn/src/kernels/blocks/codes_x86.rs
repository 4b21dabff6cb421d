//! `Codes` over AVX2 and AVX-512. Apart from `codes` for the intrinsics.

use super::codes::Codes;
use std::arch::x86_64::*;

/// Eight whole numbers.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx2Codes(__m256i);

/// Sixteen whole numbers.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx512Codes(__m512i);

/// What is done on eight numbers in both.
#[inline(always)]
unsafe fn scale_8(bytes: __m256i, factor: f32, to: *mut f32) {
    // SAFETY: the trait's contract.
    unsafe {
        let numbers = _mm256_mul_ps(_mm256_cvtepi32_ps(bytes), _mm256_set1_ps(factor));
        _mm256_storeu_ps(to, numbers);
    }
}

#[inline(always)]
unsafe fn widen_1(half: u16) -> f32 {
    // SAFETY: the trait's contract.
    unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(half)))) }
}

#[inline(always)]
unsafe fn widen_8(halves: [u16; 8], to: *mut f32) {
    let halves = halves.map(|half| half as i16);
    let [a, b, c, d, e, f, g, h] = halves;
    // SAFETY: the trait's contract.
    unsafe {
        let together = _mm_setr_epi16(a, b, c, d, e, f, g, h);
        _mm256_storeu_ps(to, _mm256_cvtph_ps(together));
    }
}

#[inline(always)]
unsafe fn scale_8_of(bytes: u64, factor: f32, to: *mut f32) {
    // SAFETY: the trait's contract.
    unsafe {
        let bytes = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()));
        scale_8(bytes, factor, to);
    }
}

impl Codes<__m256> for Avx2Codes {
    /// Scale and offset: sixteen values are two registers, and finding one in them takes as long as working it out.
    type Table = (f32, f32);

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn shift_right_4(self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_srli_epi32::<4>(self.0)) }
    }
    #[inline(always)]
    unsafe fn with_fifth(self, bits: u32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let bits = _mm256_set1_epi32(bits.cast_signed());
            let lane_bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let unset =
                _mm256_cmpeq_epi32(_mm256_and_si256(bits, lane_bits), _mm256_setzero_si256());
            let fifth = _mm256_andnot_si256(unset, _mm256_set1_epi32(16));
            let low = _mm256_and_si256(self.0, _mm256_set1_epi32(15));
            Self(_mm256_or_si256(low, fifth))
        }
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_cvtepi32_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn table(scale: f32, offset: f32) -> (f32, f32) {
        (scale, offset)
    }
    #[inline(always)]
    unsafe fn look_up(self, (scale, offset): (f32, f32)) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe {
            let code = _mm256_cvtepi32_ps(_mm256_and_si256(self.0, _mm256_set1_epi32(15)));
            _mm256_fmadd_ps(code, _mm256_set1_ps(scale), _mm256_set1_ps(offset))
        }
    }
    #[inline(always)]
    unsafe fn scale_8(bytes: u64, factor: f32, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { scale_8_of(bytes, factor, to) }
    }
    #[inline(always)]
    unsafe fn scale_16_signed(from: *const u8, factor: f32, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            scale_8(Self::load_i8(from).0, factor, to);
            scale_8(Self::load_i8(from.add(8)).0, factor, to.add(8));
        }
    }
    #[inline(always)]
    unsafe fn widen_8(halves: [u16; 8], to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { widen_8(halves, to) }
    }
    #[inline(always)]
    unsafe fn widen_1(half: u16) -> f32 {
        // SAFETY: the trait's contract.
        unsafe { widen_1(half) }
    }
    #[inline(always)]
    unsafe fn widen_to_all(half: u16) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_cvtph_ps(_mm_set1_epi16(half.cast_signed())) }
    }
}

impl Codes<__m512> for Avx512Codes {
    /// The values in order: one permutation finds sixteen, and looks at the lowest four bits of each index only.
    type Table = __m512;

    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn shift_right_4(self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_srli_epi32::<4>(self.0)) }
    }
    #[inline(always)]
    unsafe fn with_fifth(self, bits: u32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let low = _mm512_and_si512(self.0, _mm512_set1_epi32(15));
            let sixteen = _mm512_set1_epi32(16);
            Self(_mm512_mask_or_epi32(low, bits as u16, low, sixteen))
        }
    }
    #[inline(always)]
    unsafe fn to_f32(self) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtepi32_ps(self.0) }
    }
    #[inline(always)]
    unsafe fn table(scale: f32, offset: f32) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe {
            let codes = _mm512_setr_ps(
                0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.,
            );
            _mm512_fmadd_ps(codes, _mm512_set1_ps(scale), _mm512_set1_ps(offset))
        }
    }
    #[inline(always)]
    unsafe fn look_up(self, table: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_permutexvar_ps(self.0, table) }
    }
    #[inline(always)]
    unsafe fn scale_8(bytes: u64, factor: f32, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { scale_8_of(bytes, factor, to) }
    }
    #[inline(always)]
    unsafe fn scale_16_signed(from: *const u8, factor: f32, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            let numbers = Self::load_i8(from).to_f32();
            _mm512_storeu_ps(to, _mm512_mul_ps(numbers, _mm512_set1_ps(factor)));
        }
    }
    #[inline(always)]
    unsafe fn widen_8(halves: [u16; 8], to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { widen_8(halves, to) }
    }
    #[inline(always)]
    unsafe fn widen_1(half: u16) -> f32 {
        // SAFETY: the trait's contract.
        unsafe { widen_1(half) }
    }
    #[inline(always)]
    unsafe fn widen_to_all(half: u16) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_cvtph_ps(_mm256_set1_epi16(half.cast_signed())) }
    }
}
