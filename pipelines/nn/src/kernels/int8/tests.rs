//! Products of bytes against their definition in f64, and a row's bits in any company.

use crate::kernels::Isa;
use crate::kernels::blocks::tests::{bits, blocks, noise, product, shapes};
use crate::kernels::lanes::StoredAs;
use crate::kernels::matmul::Matrix;
use crate::weights::{Activations, QuantType};

/// x as its bytes stand for it: the definition in the module's header, one number at a time.
fn as_bytes(x: &[f32]) -> Vec<f64> {
    let group = |x: &[f32]| -> Vec<f64> {
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let scale = f64::from(largest / 127.0);
        let code = |x: &f32| f64::from((x * inverse).round_ties_even());
        x.iter().map(|x| code(x) * scale).collect()
    };
    x.chunks(32).flat_map(group).collect()
}

fn int8<'a>(kind: QuantType, bytes: &'a [u8], bias: Option<&'a [f32]>, n: usize) -> Matrix<'a> {
    Matrix {
        bytes,
        stored: StoredAs::Quant(kind),
        rows: n,
        columns: bytes.len() / n / kind.block_bytes() * kind.block_len(),
        bias,
        activations: Activations::Int8,
    }
}

#[test]
fn products_are_those_of_the_bytes() {
    for isa in Isa::all_available() {
        for kind in QuantType::ALL {
            for (m, n, k) in shapes(kind) {
                let x = noise(m * k, 1);
                let bias = noise(n, 2);
                let (bytes, numbers) = blocks(kind, n, k, 3);
                let out = product(isa, &x, m, int8(kind, &bytes[1..], Some(&bias), n));
                for (row, x) in x.chunks_exact(k).enumerate() {
                    let x = as_bytes(x);
                    for (column, w) in numbers.chunks_exact(k).enumerate() {
                        let terms = || x.iter().zip(w).map(|(x, w)| x * f64::from(*w));
                        let expected = terms().sum::<f64>() + f64::from(bias[column]);
                        let size = terms().map(f64::abs).sum::<f64>() + 1.0;
                        let error = (f64::from(out[row * n + column]) - expected).abs() / size;
                        assert!(error < 1e-6, "{isa:?} {kind:?} {m}x{n}x{k}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_with_bytes() {
    for isa in Isa::all_available() {
        for kind in QuantType::ALL {
            let (n, k) = (37, 1024);
            let x = noise(50 * k, 4);
            let (bytes, _) = blocks(kind, n, k, 5);
            let matrix = int8(kind, &bytes[1..], None, n);
            let all = product(isa, &x, 50, matrix);
            for m in (1..18).chain([24, 25, 32, 33, 48, 49]) {
                let some = product(isa, &x[..m * k], m, matrix);
                assert_eq!(bits(&some), bits(&all[..m * n]), "{isa:?} {kind:?} m={m}");
                let last = product(isa, &x[(50 - m) * k..], m, matrix);
                let expected = bits(&all[(50 - m) * n..]);
                assert_eq!(bits(&last), expected, "{isa:?} {kind:?} last {m}");
            }
        }
    }
}

/// What is no number stays visible, in its own row alone; zeros and numbers too small for a scale are zeros.
#[test]
fn odd_numbers_do_what_they_do_in_f32() {
    for isa in Isa::all_available() {
        for kind in [QuantType::Q8_0, QuantType::Q4K, QuantType::Q6K] {
            let (n, k, m) = (5, 512, 9);
            let (bytes, _) = blocks(kind, n, k, 7);
            let matrix = int8(kind, &bytes[1..], None, n);
            let mut x = noise(m * k, 8);
            let before = product(isa, &x, m, matrix);
            for (row, odd) in [(0, f32::NAN), (2, f32::INFINITY), (8, f32::NEG_INFINITY)] {
                x[row * k + 300] = odd;
            }
            x[3 * k..4 * k].fill(0.0);
            x[4 * k..5 * k].fill(-1e-38);
            let out = product(isa, &x, m, matrix);
            for row in 0..m {
                let (out, before) = (&out[row * n..][..n], &before[row * n..][..n]);
                match row {
                    0 | 2 | 8 => assert!(out.iter().all(|y| y.is_nan()), "{isa:?} {kind:?}"),
                    3 | 4 => assert!(out.iter().all(|y| *y == 0.0), "{isa:?} {kind:?}"),
                    _ => assert_eq!(bits(out), bits(before), "{isa:?} {kind:?} {row}"),
                }
            }
        }
    }
}

/// The largest codes on both sides: nothing overflows on its way through 16 bits.
#[test]
fn extreme_codes_are_exact() {
    for isa in Isa::all_available() {
        for (k, sign) in [(32, 1.0f32), (64, -1.0), (544, 1.0)] {
            for code in [-128i8, -127, 127] {
                // A scale of 1 in f16, then the codes.
                let block: Vec<u8> = [0x00, 0x3C]
                    .into_iter()
                    .chain([code.cast_unsigned(); 32])
                    .collect();
                let bytes = block.repeat(k / 32 * 3);
                let x = vec![sign * 127.0; k];
                let out = product(isa, &x, 1, int8(QuantType::Q8_0, &bytes, None, 3));
                let expected = k as f32 * f32::from(code) * sign * 127.0;
                assert_eq!(out, [expected; 3], "{isa:?} {k} {code}");
            }
        }
    }
}
