//! Converting the three float dtypes of checkpoints into each other, on all threads.
//! Apart from `host_tensor` because it is the one place here that touches every number of a model.

use candle_core::DType;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// Numbers converted at a time through buffers on the stack: small enough for the first-level cache, long enough for
/// `half` to use the machine's conversion instructions on whole vectors.
const BLOCK: usize = 512;
/// Numbers in one piece of work for a thread; a multiple of [`BLOCK`].
const PIECE: usize = 128 * BLOCK;

/// Writes `input`'s numbers into `out` in another dtype. Both are little-endian and may be unaligned. Dtypes that are not
/// f32, f16 or bf16 are left alone: [`super::HostTensor`] refuses them before.
pub(super) fn floats(input: &[u8], from: DType, out: &mut [u8], to: DType) {
    let (from_size, to_size) = (from.size_in_bytes(), to.size_in_bytes());
    if from_size == 0 || to_size == 0 {
        return;
    }
    out.par_chunks_mut(PIECE * to_size)
        .zip(input.par_chunks(PIECE * from_size))
        .for_each(|(out, input)| {
            let mut wide = [0f32; BLOCK];
            let blocks = out.chunks_mut(BLOCK * to_size);
            for (out, input) in blocks.zip(input.chunks(BLOCK * from_size)) {
                let numbers = &mut wide[..(input.len() / from_size).min(BLOCK)];
                widen(input, from, numbers);
                narrow(numbers, out, to);
            }
        });
}

/// Bytes to f32; `numbers` is as long as the input and at most [`BLOCK`].
fn widen(input: &[u8], from: DType, numbers: &mut [f32]) {
    match from {
        DType::F32 => {
            for (number, bytes) in numbers.iter_mut().zip(input.as_chunks::<4>().0) {
                *number = f32::from_le_bytes(*bytes);
            }
        }
        DType::F16 => {
            let mut stored = [f16::ZERO; BLOCK];
            let stored = &mut stored[..numbers.len()];
            for (number, bytes) in stored.iter_mut().zip(input.as_chunks::<2>().0) {
                *number = f16::from_le_bytes(*bytes);
            }
            stored.convert_to_f32_slice(numbers);
        }
        DType::BF16 => {
            for (number, bytes) in numbers.iter_mut().zip(input.as_chunks::<2>().0) {
                *number = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        _ => {}
    }
}

/// f32 to bytes, rounding to nearest with ties to even.
fn narrow(numbers: &[f32], out: &mut [u8], to: DType) {
    match to {
        DType::F32 => {
            for (bytes, number) in out.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                *bytes = number.to_le_bytes();
            }
        }
        DType::F16 => {
            let mut stored = [f16::ZERO; BLOCK];
            let stored = &mut stored[..numbers.len()];
            stored.convert_from_f32_slice(numbers);
            for (bytes, number) in out.as_chunks_mut::<2>().0.iter_mut().zip(stored) {
                *bytes = number.to_le_bytes();
            }
        }
        DType::BF16 => {
            for (bytes, number) in out.as_chunks_mut::<2>().0.iter_mut().zip(numbers) {
                *bytes = bf16::from_f32(*number).to_le_bytes();
            }
        }
        _ => {}
    }
}
