//! `Codes` over AVX2 and AVX-512. Apart from `codes` for the intrinsics.

use super::codes::{Codes, k_bytes};
use std::arch::x86_64::*;

/// Eight whole numbers.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx2Codes(__m256i);

/// Sixteen whole numbers; with VBMI, bytes find their lanes in one instruction for four vectors.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx512Codes<const VBMI: bool>(__m512i);

/// Where each lane's bytes are among 64.
static SPREAD: [u8; 64] = {
    let mut places = [0; 64];
    let mut i = 0;
    while i < 64 {
        places[i] = (i / 4 + i % 4 * 16) as u8;
        i += 1;
    }
    places
};
/// The signs of two f16.
const SIGNS: i32 = 0x8000_8000_u32.cast_signed();

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

impl Codes<__m256> for Avx2Codes {
    /// Scale and offset: sixteen values are two registers, and finding one in them takes as long as working it out.
    type Table = (f32, f32);
    type Bytes = *const u8;

    #[inline(always)]
    unsafe fn load_64(from: *const u8) -> *const u8 {
        from
    }
    #[inline(always)]
    unsafe fn four_bits(bytes: *const u8, vector: usize, high: bool) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self::load_u8(bytes.add(8 * vector)).half(high) }
    }
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
    unsafe fn k_scales(block: *const u8, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            let [d, minimum] = block.cast::<[u16; 2]>().read_unaligned();
            let factors = [widen_1(d), -widen_1(minimum)];
            let packed = k_bytes(block.add(4));
            for i in 0..2 {
                let bytes = _mm_cvtsi64_si128(packed[i].cast_signed());
                scale_8(_mm256_cvtepu8_epi32(bytes), factors[i], to.add(8 * i));
            }
        }
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

impl<const VBMI: bool> Codes<__m512> for Avx512Codes<VBMI> {
    /// The values in order: one permutation finds sixteen, and looks at the lowest four bits of each index only.
    type Table = __m512;
    /// Where they are, and with VBMI the bytes at lane, lane + 16, lane + 32 and lane + 48 in every lane.
    type Bytes = (*const u8, __m512i);

    #[inline(always)]
    unsafe fn load_64(from: *const u8) -> (*const u8, __m512i) {
        // SAFETY: the trait's contract.
        unsafe {
            let spread = if VBMI {
                let bytes = _mm512_loadu_si512(from.cast());
                _mm512_permutexvar_epi8(_mm512_loadu_si512(SPREAD.as_ptr().cast()), bytes)
            } else {
                _mm512_setzero_si512()
            };
            (from, spread)
        }
    }
    #[inline(always)]
    unsafe fn four_bits((from, spread): Self::Bytes, vector: usize, high: bool) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            if VBMI {
                let shift = _mm512_set1_epi32((8 * vector + 4 * usize::from(high)) as i32);
                return Self(_mm512_srlv_epi32(spread, shift));
            }
            Self::load_u8(from.add(16 * vector)).half(high)
        }
    }

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
            // No multiply-add, of whose operands one alone may be a number in memory that goes to every lane: for the
            // other there would be a shuffle, which is what there is too much of. The product is exact.
            let products = _mm512_mul_ps(codes, _mm512_set1_ps(scale));
            _mm512_add_ps(products, _mm512_set1_ps(offset))
        }
    }
    #[inline(always)]
    unsafe fn look_up(self, table: __m512) -> __m512 {
        // SAFETY: the trait's contract.
        unsafe { _mm512_permutexvar_ps(self.0, table) }
    }
    /// All sixteen together, in registers: most of a block's opening is this.
    #[inline(always)]
    unsafe fn k_scales(block: *const u8, to: *mut f32) {
        let (low_6, low_4, high_2) = (0x3f3f_3f3f, 0x0f0f_0f0f, 0x3030_3030);
        // SAFETY: the trait's contract.
        unsafe {
            // d and the minimum's factor, then a, b and c of `k_bytes`.
            let block = _mm_loadu_si128(block.cast());
            let low = _mm_shuffle_epi32::<0b11_10_11_01>(block);
            let low = _mm_srlv_epi32(low, _mm_setr_epi32(0, 0, 0, 4));
            let low = _mm_and_si128(low, _mm_setr_epi32(low_6, low_4, low_6, low_4));
            let high = _mm_srli_epi32::<2>(_mm_shuffle_epi32::<0b10_10_01_01>(block));
            let high = _mm_and_si128(high, _mm_setr_epi32(0, high_2, 0, high_2));
            let codes = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_or_si128(low, high)));
            let halves = _mm256_permutexvar_epi16(
                _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
                _mm256_castsi128_si256(block),
            );
            let signs = _mm256_setr_epi32(0, 0, 0, 0, SIGNS, SIGNS, SIGNS, SIGNS);
            let factors = _mm512_cvtph_ps(_mm256_xor_si256(halves, signs));
            _mm512_storeu_ps(to, _mm512_mul_ps(codes, factors));
        }
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
