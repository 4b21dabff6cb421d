//! Block-quantised numbers back to f32, one by one as ggml defines them (`ggml-quants.c`: `dequantize_row_q8_0` and so on).
//! Apart from the kernels, which do the same in registers and are tested against this.
//!
//! Every product here is exact in f32 (11 bits of a half by at most 6 or 8 of a scale, by at most 6 of a number), so that a
//! number is rounded once at most, where a minimum is subtracted, and no order or fusion changes its bits.

use super::quantized::QuantType;
use half::f16;
use rayon::prelude::*;

/// Writes the numbers of `bytes`, whole blocks of `kind`, into `out`, on all threads. What does not fit is left alone.
pub(crate) fn dequantize(kind: QuantType, bytes: &[u8], out: &mut [f32]) {
    /// Blocks of 256 numbers in one piece of work for a thread.
    const PIECE: usize = 256;
    let blocks = PIECE * 256 / kind.block_len();
    out.par_chunks_mut(blocks * kind.block_len())
        .zip(bytes.par_chunks(blocks * kind.block_bytes()))
        .for_each(|(out, bytes)| row(kind, bytes, out));
}

/// The same on this thread.
pub(crate) fn row(kind: QuantType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        QuantType::Q4_0 => blocks::<18, 32>(bytes, out, q4_0),
        QuantType::Q4_1 => blocks::<20, 32>(bytes, out, q4_1),
        QuantType::Q5_0 => blocks::<22, 32>(bytes, out, q5_0),
        QuantType::Q5_1 => blocks::<24, 32>(bytes, out, q5_1),
        QuantType::Q8_0 => blocks::<34, 32>(bytes, out, q8_0),
        QuantType::Q4K => blocks::<144, 256>(bytes, out, q4_k),
        QuantType::Q5K => blocks::<176, 256>(bytes, out, q5_k),
        QuantType::Q6K => blocks::<210, 256>(bytes, out, q6_k),
    }
}

fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    one: fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (bytes, out) = (bytes.as_chunks::<BYTES>().0, out.as_chunks_mut::<LEN>().0);
    for (bytes, out) in bytes.iter().zip(out) {
        one(bytes, out);
    }
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    let d = half(*d0, *d1);
    for (out, code) in out.iter_mut().zip(codes) {
        *out = d * f32::from(*code as i8);
    }
}

/// Number `i` of 32 of 4 bits: the low halves of 16 bytes, then the high ones.
fn nibble(codes: &[u8; 16], i: usize) -> u8 {
    codes[i % 16] >> (4 * (i / 16)) & 0xF
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, codes @ ..] = block;
    let d = half(*d0, *d1);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (f32::from(nibble(codes, i)) - 8.0);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, codes @ ..] = block;
    let (d, m) = (half(*d0, *d1), half(*m0, *m1));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(nibble(codes, i)) + m;
    }
}

/// Number `i` of 32 of 5 bits: the fifth bits lie together.
fn five_bits(high: u32, codes: &[u8; 16], i: usize) -> u8 {
    nibble(codes, i) | ((high >> i & 1) as u8) << 4
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, codes @ ..] = block;
    let (d, high) = (half(*d0, *d1), u32::from_le_bytes([*h0, *h1, *h2, *h3]));
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * (f32::from(five_bits(high, codes, i)) - 16.0);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, codes @ ..] = block;
    let (d, m) = (half(*d0, *d1), half(*m0, *m1));
    let high = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    for (i, out) in out.iter_mut().enumerate() {
        *out = d * f32::from(five_bits(high, codes, i)) + m;
    }
}

/// Scale and minimum, of 6 bits each, of the eight sub-blocks of a Q4_K or Q5_K block (`get_scale_min_k4`).
fn scales_and_minima(packed: &[u8; 12]) -> [(f32, f32); 8] {
    std::array::from_fn(|i| {
        let (scale, minimum) = if i < 4 {
            (packed[i] & 63, packed[i + 4] & 63)
        } else {
            (
                packed[i + 4] & 0xF | packed[i - 4] >> 6 << 4,
                packed[i + 4] >> 4 | packed[i] >> 6 << 4,
            )
        };
        (f32::from(scale), f32::from(minimum))
    })
}

fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let ([d0, d1, m0, m1], rest) = split::<4, 140>(block);
    let (packed, codes) = split::<12, 128>(rest);
    let (d, dmin) = (half(*d0, *d1), half(*m0, *m1));
    let scales = scales_and_minima(packed);
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, minimum) = scales[i / 32];
        let code = codes[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 0xF;
        *out = d * scale * f32::from(code) - dmin * minimum;
    }
}

fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let ([d0, d1, m0, m1], rest) = split::<4, 172>(block);
    let (packed, rest) = split::<12, 160>(rest);
    let (high, codes) = split::<32, 128>(rest);
    let (d, dmin) = (half(*d0, *d1), half(*m0, *m1));
    let scales = scales_and_minima(packed);
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, minimum) = scales[i / 32];
        let code = codes[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 0xF;
        let code = code | (high[i % 32] >> (i / 32) & 1) << 4;
        *out = d * scale * f32::from(code) - dmin * minimum;
    }
}

fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, rest) = split::<128, 82>(block);
    let (high, rest) = split::<64, 18>(rest);
    let (scales, [d0, d1]) = split::<16, 2>(rest);
    let d = half(*d0, *d1);
    for (i, out) in out.iter_mut().enumerate() {
        let low = low[i / 128 * 64 + i % 64] >> (4 * (i / 64 % 2)) & 0xF;
        let high = high[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
        let code = i16::from(low | high << 4) - 32;
        *out = d * f32::from(scales[i / 16] as i8) * f32::from(code);
    }
}

/// The two parts of an array, whose lengths are `whole`'s together.
fn split<const A: usize, const B: usize>(whole: &[u8]) -> (&[u8; A], &[u8; B]) {
    let parts = whole.split_first_chunk::<A>();
    match parts.and_then(|(a, b)| Some((a, b.first_chunk::<B>()?))) {
        Some(parts) => parts,
        None => (&[0; A], &[0; B]),
    }
}
