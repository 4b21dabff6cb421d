//! Quantised products against dequantised ones: near plain f64 arithmetic, and the bits of the f32 product.

use super::UNIT;
use crate::kernels::Isa;
use crate::kernels::elementwise::widen;
use crate::kernels::lanes::StoredAs;
use crate::kernels::matmul::{Matrix, Product, multiply};
use crate::weights::{Activations, QuantType, dequantize};

/// Random bytes, the same on every machine.
fn random(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(in crate::kernels) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let bytes = random(2 * len, seed);
    let pairs = bytes.as_chunks::<2>().0.iter();
    pairs
        .map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32768.0)
        .collect()
}

/// Blocks of random codes and scales from -0.06 to 0.06, one byte off any alignment, and their numbers.
pub(in crate::kernels) fn blocks(
    kind: QuantType,
    rows: usize,
    columns: usize,
    seed: u32,
) -> (Vec<u8>, Vec<f32>) {
    let places: &[usize] = match kind {
        QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4K | QuantType::Q5K => &[0, 2],
        QuantType::Q6K => &[208],
        _ => &[0],
    };
    let mut bytes = random(1 + rows * kind.byte_len(columns).unwrap(), seed);
    for block in bytes[1..].chunks_exact_mut(kind.block_bytes()) {
        for place in places {
            // The exponent's bits: 2^-8 to 2^-5.
            block[place + 1] =
                block[place + 1] & 0x83 | 7 << 2 | (block[place + 1] & 0xC) << 2 >> 1;
        }
    }
    let mut numbers = vec![0.0; rows * columns];
    dequantize::dequantize(kind, &bytes[1..], &mut numbers);
    assert!(numbers.iter().all(|number| number.is_finite()));
    (bytes, numbers)
}

/// x [m, k] by an n by k matrix.
pub(in crate::kernels) fn product(isa: Isa, x: &[f32], m: usize, matrix: Matrix<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * matrix.rows];
    let products = &mut [Product {
        matrix,
        out: &mut out,
    }];
    multiply(isa, x, m, products);
    out
}

pub(in crate::kernels) fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

pub(in crate::kernels) fn shapes(kind: QuantType) -> Vec<(usize, usize, usize)> {
    let large = [
        (1, 1, 256),
        (1, 13, 512),
        (2, 9, 1280),
        (4, 3, 768),
        (9, 17, 2816),
        (70, 37, 512),
    ];
    let small = [
        (1, 5, 32),
        (1, 19, 96),
        (3, 7, 288),
        (8, 33, 544),
        (13, 11, 1888),
        (40, 35, 160),
    ];
    let mut all = large.to_vec();
    if kind.block_len() == 32 {
        all.extend(small);
    }
    all
}

#[test]
fn quantised_products_are_those_of_the_dequantised_matrix() {
    for isa in Isa::all_available() {
        for kind in QuantType::ALL {
            for (m, n, k) in shapes(kind) {
                let x = noise(m * k, 1);
                let bias = noise(n, 2);
                let (bytes, numbers) = blocks(kind, n, k, 3);
                let wide: Vec<u8> = numbers.iter().flat_map(|w| w.to_le_bytes()).collect();
                let matrix = |bytes, stored| Matrix {
                    bytes,
                    stored,
                    rows: n,
                    columns: k,
                    bias: Some(&bias),
                    activations: Activations::F32,
                };
                let out = product(isa, &x, m, matrix(&bytes[1..], StoredAs::Quant(kind)));
                for (row, x) in x.chunks_exact(k).enumerate() {
                    for (column, w) in numbers.chunks_exact(k).enumerate() {
                        let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
                        let expected = terms().sum::<f64>() + f64::from(bias[column]);
                        let size = terms().map(f64::abs).sum::<f64>() + 1.0;
                        let error = (f64::from(out[row * n + column]) - expected).abs() / size;
                        assert!(error < 1e-6, "{isa:?} {kind:?} {m}x{n}x{k}: {error}");
                    }
                }
                let plain = product(isa, &x, m, matrix(&wide, StoredAs::F32));
                assert_eq!(bits(&out), bits(&plain), "{isa:?} {kind:?} {m}x{n}x{k}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_with_quantised_weights() {
    for isa in Isa::all_available() {
        for kind in QuantType::ALL {
            let (n, k) = (21, 1024);
            let x = noise(50 * k, 4);
            let (bytes, _) = blocks(kind, n, k, 5);
            let matrix = Matrix {
                bytes: &bytes[1..],
                stored: StoredAs::Quant(kind),
                rows: n,
                columns: k,
                bias: None,
                activations: Activations::F32,
            };
            let all = product(isa, &x, 50, matrix);
            for m in (1..18).chain([24, 25, 32, 33, 48, 49]) {
                let some = product(isa, &x[..m * k], m, matrix);
                assert_eq!(some, all[..m * n], "{isa:?} {kind:?} m={m}");
                let last = product(isa, &x[(50 - m) * k..], m, matrix);
                assert_eq!(last, all[(50 - m) * n..], "{isa:?} {kind:?} last {m}");
            }
        }
    }
}

#[test]
fn unpacking_gives_the_plain_numbers() {
    for isa in Isa::all_available() {
        for kind in QuantType::ALL {
            for len in [kind.block_len(), 3 * UNIT, 2 * UNIT + kind.block_len()] {
                let (bytes, numbers) = blocks(kind, 1, len, 6);
                let mut out = vec![f32::NAN; len];
                widen(isa, &bytes[1..], StoredAs::Quant(kind), &mut out);
                assert_eq!(out, numbers, "{isa:?} {kind:?} {len}");
            }
        }
    }
}
