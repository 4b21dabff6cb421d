//! The kernels against plain f64 arithmetic, on every instruction set of this machine, at odd sizes.

use super::elementwise::{Curve, Rotate, activate, rotate, widen};
use super::lanes::StoredAs;
use super::matmul::{Matrix, Product, multiply};
use super::norms::{Gain, Kind, Rows, norm};
use super::{Isa, Kernel, dispatch};
use crate::weights::Activations;
use half::{bf16, f16};
use proptest::prelude::*;

/// Numbers in -1..1 from a counter: the same on every machine.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes as stored, one byte off any alignment, and the values that they stand for.
fn stored(numbers: &[f32], stored: StoredAs) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = vec![0u8];
    let mut values = vec![];
    for x in numbers {
        match stored {
            StoredAs::F32 => {
                bytes.extend(x.to_le_bytes());
                values.push(*x);
            }
            StoredAs::F16 => {
                bytes.extend(f16::from_f32(*x).to_le_bytes());
                values.push(f16::from_f32(*x).to_f32());
            }
            StoredAs::Bf16 => {
                bytes.extend(bf16::from_f32(*x).to_le_bytes());
                values.push(bf16::from_f32(*x).to_f32());
            }
            StoredAs::Quant(kind) => unreachable!("{kind:?} has tests of its own"),
        }
    }
    (bytes, values)
}

const DTYPES: [StoredAs; 3] = [StoredAs::F32, StoredAs::F16, StoredAs::Bf16];

fn product(isa: Isa, x: &[f32], rows: usize, matrix: Matrix<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * matrix.rows];
    let products = &mut [Product {
        matrix,
        out: &mut out,
    }];
    multiply(isa, x, rows, products);
    out
}

fn check_product(isa: Isa, dtype: StoredAs, m: usize, n: usize, k: usize) {
    let x = noise(m * k, 1);
    let (bytes, values) = stored(&noise(n * k, 2), dtype);
    let bias = noise(n, 3);
    let matrix = Matrix {
        bytes: &bytes[1..],
        stored: dtype,
        rows: n,
        columns: k,
        bias: Some(&bias),
        activations: Activations::F32,
    };
    let out = product(isa, &x, m, matrix);
    for row in 0..m {
        for column in 0..n {
            let terms =
                || (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(values[column * k + i]));
            let expected = terms().sum::<f64>() + f64::from(bias[column]);
            let size = terms().map(f64::abs).sum::<f64>() + 1.0;
            let error = (f64::from(out[row * n + column]) - expected).abs() / size;
            assert!(
                error < 1e-6,
                "{isa:?} {dtype:?} {m}x{n}x{k}: {error} at {row},{column}"
            );
        }
    }
}

#[test]
fn products_are_right_at_every_odd_size() {
    for isa in Isa::all_available() {
        for dtype in DTYPES {
            for (m, n, k) in [
                (1, 1, 1),
                (2, 3, 5),
                (1, 515, 48),
                (5, 48, 101),
                (7, 101, 48),
                (9, 20, 33),
            ] {
                check_product(isa, dtype, m, n, k);
            }
            // More than one chunk of k, and of x.
            check_product(isa, dtype, 4, 17, 2816);
            check_product(isa, dtype, 11, 9, 2053);
            check_product(isa, dtype, 300, 9, 1029);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company() {
    for isa in Isa::all_available() {
        for dtype in DTYPES {
            // With rests of every kind, more than one chunk of k, and more panels of W than a task takes.
            for (n, k) in [(48, 101), (29, 1100), (515, 48), (17, 3001), (200, 256)] {
                let x = noise(62 * k, 4);
                let (bytes, _) = stored(&noise(n * k, 5), dtype);
                let bias = noise(n, 6);
                let matrix = Matrix {
                    bytes: &bytes[1..],
                    stored: dtype,
                    rows: n,
                    columns: k,
                    bias: Some(&bias),
                    activations: Activations::F32,
                };
                let all = product(isa, &x, 62, matrix);
                let counts: &[usize] = if k > 101 {
                    &[1, 2, 3, 4, 6, 7, 8, 9, 12, 13, 25, 48, 49]
                } else {
                    &std::array::from_fn::<usize, 61, _>(|i| i + 1)
                };
                for &m in counts {
                    let some = product(isa, &x[..m * k], m, matrix);
                    assert_eq!(some, all[..m * n], "{isa:?} {dtype:?} {n}x{k} m={m}");
                    let last = product(isa, &x[m * k..], 62 - m, matrix);
                    assert_eq!(last, all[m * n..], "{isa:?} {dtype:?} {n}x{k} from {m}");
                }
            }
        }
    }
}

#[test]
fn a_prompt_longer_than_a_block_gives_the_bits_of_its_rows() {
    let (m, n, k) = (800, 9, 40);
    let x = noise(m * k, 20);
    let (bytes, _) = stored(&noise(n * k, 21), StoredAs::F32);
    let matrix = Matrix {
        bytes: &bytes[1..],
        stored: StoredAs::F32,
        rows: n,
        columns: k,
        bias: None,
        activations: Activations::F32,
    };
    for isa in Isa::all_available() {
        let all = product(isa, &x, m, matrix);
        for row in 0..m {
            let alone = product(isa, &x[row * k..][..k], 1, matrix);
            assert_eq!(alone, all[row * n..][..n], "{isa:?} row {row}");
        }
    }
}

#[test]
fn half_weights_give_what_their_f32_values_give() {
    for isa in Isa::all_available() {
        for dtype in [StoredAs::F16, StoredAs::Bf16] {
            let (n, k) = (24, 1500);
            let (bytes, values) = stored(&noise(n * k, 6), dtype);
            let (wide, _) = stored(&values, StoredAs::F32);
            let matrix = |bytes, stored| Matrix {
                bytes,
                stored,
                rows: n,
                columns: k,
                bias: None,
                activations: Activations::F32,
            };
            for m in [1, 5, 20] {
                let x = noise(m * k, 7);
                let half = product(isa, &x, m, matrix(&bytes[1..], dtype));
                assert_eq!(half, product(isa, &x, m, matrix(&wide[1..], StoredAs::F32)));
            }
        }
    }
}

#[test]
fn products_of_one_input_are_those_of_each() {
    let (m, k) = (3, 70);
    let x = noise(m * k, 8);
    let weights = [noise(40 * k, 9), noise(17 * k, 10)].map(|w| stored(&w, StoredAs::F32).0);
    let matrices = [(&weights[0], 40), (&weights[1], 17)].map(|(bytes, rows)| Matrix {
        bytes: &bytes[1..],
        stored: StoredAs::F32,
        rows,
        columns: k,
        bias: None,
        activations: Activations::F32,
    });
    let mut outs = [vec![0.0; m * 40], vec![0.0; m * 17]];
    let mut products: Vec<_> = matrices
        .iter()
        .zip(&mut outs)
        .map(|(matrix, out)| Product {
            matrix: *matrix,
            out,
        })
        .collect();
    multiply(Isa::detect(), &x, m, &mut products);
    for (matrix, out) in matrices.iter().zip(&outs) {
        assert_eq!(*out, product(Isa::detect(), &x, m, *matrix));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn products_are_right_at_random_sizes(m in 1usize..30, n in 1usize..40, k in 1usize..200, d in 0usize..3) {
        check_product(Isa::detect(), DTYPES[d], m, n, k);
    }
}

#[test]
fn lanes_are_added_up_four_by_four_and_transposed_in_order() {
    struct Lanes16<'a>(&'a [f32], &'a mut Vec<f32>, &'a mut Vec<f32>, &'a mut usize);
    impl Kernel for Lanes16<'_> {
        #[inline(always)]
        unsafe fn run<L: super::lanes::Lanes>(self) {
            // SAFETY: 256 numbers are sixteen vectors of any width.
            unsafe {
                let mut v: [L::Vector; 16] =
                    std::array::from_fn(|i| L::load(self.0.as_ptr().add(i * L::WIDTH)));
                let eight: [L::Vector; 8] = std::array::from_fn(|i| v[i]);
                self.1.extend(L::sum_each::<8>(eight));
                L::transpose(&mut v);
                for v in &v[..L::WIDTH] {
                    let mut lanes = [0.0; 16];
                    L::store(lanes.as_mut_ptr(), *v);
                    self.2.extend(&lanes[..L::WIDTH]);
                }
                *self.3 = L::WIDTH;
            }
        }
    }
    let numbers = noise(256, 11);
    for isa in Isa::all_available() {
        let (mut sums, mut transposed, mut width) = (vec![], vec![], 0);
        // SAFETY: as above.
        unsafe {
            dispatch(
                isa,
                Lanes16(&numbers, &mut sums, &mut transposed, &mut width),
            );
        }
        for (row, sum) in numbers.chunks(width).zip(&sums) {
            let mut fours = row.chunks(4).map(|x| x[0] + x[1] + x[2] + x[3]);
            let first = fours.next().unwrap();
            let expected = fours.fold(first, |sum, four| sum + four);
            assert_eq!(sum.to_bits(), expected.to_bits(), "{isa:?}");
        }
        for (i, x) in transposed.iter().enumerate() {
            assert_eq!(*x, numbers[i % width * width + i / width], "{isa:?} {i}");
        }
    }
}

#[test]
fn lanes_are_interleaved_and_every_second_taken() {
    struct Both<'a>(&'a [f32], &'a mut Vec<f32>, &'a mut usize);
    impl Kernel for Both<'_> {
        #[inline(always)]
        unsafe fn run<L: super::lanes::Lanes>(self) {
            // SAFETY: 32 numbers are two vectors of any width.
            unsafe {
                let at = self.0.as_ptr();
                let (a, b) = (L::load(at), L::load(at.add(L::WIDTH)));
                let (low, high) = L::interleave(a, b);
                let second = L::every_second(a, L::load(at.add(L::WIDTH - 1)));
                for v in [low, high, second] {
                    let mut lanes = [0.0; 16];
                    L::store(lanes.as_mut_ptr(), v);
                    self.1.extend(&lanes[..L::WIDTH]);
                }
                *self.2 = L::WIDTH;
            }
        }
    }
    let numbers = noise(32, 21);
    for isa in Isa::all_available() {
        let (mut found, mut width) = (vec![], 0);
        // SAFETY: as above.
        unsafe { dispatch(isa, Both(&numbers, &mut found, &mut width)) };
        let (interleaved, second) = found.split_at(2 * width);
        for (i, x) in interleaved.iter().enumerate() {
            assert_eq!(*x, numbers[i % 2 * width + i / 2], "{isa:?} {i}");
        }
        for (i, x) in second.iter().enumerate() {
            assert_eq!(*x, numbers[2 * i], "{isa:?} {i}");
        }
    }
}

/// The error function by its series without cancellation (Abramowitz and Stegun 7.1.6).
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

#[test]
fn the_exponential_is_within_two_units_in_the_last_place() {
    struct Exp<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Exp<'_> {
        #[inline(always)]
        unsafe fn run<L: super::lanes::Lanes>(self) {
            for i in (0..self.0.len()).step_by(L::WIDTH) {
                // SAFETY: the length is a multiple of 16.
                unsafe {
                    let e = super::elementwise::exp::<L>(L::load(self.0.as_ptr().add(i)));
                    L::store(self.1.as_mut_ptr().add(i), e);
                }
            }
        }
    }
    let mut x: Vec<f32> = (0..160_000).map(|i| -87.3 + i as f32 * 0.0011).collect();
    x[..5].copy_from_slice(&[0.0, f32::NEG_INFINITY, -1e30, f32::MIN, -200.0]);
    for isa in Isa::all_available() {
        let mut e = vec![0.0; x.len()];
        // SAFETY: as above.
        unsafe { dispatch(isa, Exp(&x, &mut e)) };
        assert_eq!(e[..5], [1.0, 0.0, 0.0, 0.0, 0.0]);
        for (x, e) in x.iter().zip(&e).skip(5) {
            let expected = f64::from(*x).exp();
            if expected < f64::from(f32::MAX) {
                let error = (f64::from(*e) - expected).abs() / expected;
                assert!(error < 2e-7, "{isa:?} e^{x} = {e}, error {error}");
            }
        }
    }
}

#[test]
fn activations_follow_their_formulas() {
    let gate: Vec<f32> = noise(1003, 12).iter().map(|x| x * 30.0).collect();
    let up = noise(1003, 13);
    for isa in Isa::all_available() {
        for which in [
            Curve::Silu,
            Curve::Gelu,
            Curve::GeluTanh,
            Curve::QuickGelu,
            Curve::Relu,
            Curve::SoftCap(7.0),
        ] {
            let mut out = vec![0.0; gate.len()];
            activate(isa, which, &gate, Some(&up), &mut out);
            for ((x, up), y) in gate.iter().zip(&up).zip(&out) {
                let x = f64::from(*x);
                let expected = f64::from(*up)
                    * match which {
                        Curve::Silu => x / (1.0 + (-x).exp()),
                        Curve::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
                        Curve::GeluTanh => {
                            let u =
                                (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                            0.5 * x * (1.0 + u.tanh())
                        }
                        Curve::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
                        Curve::Relu => x.max(0.0),
                        Curve::SoftCap(cap) => {
                            let cap = f64::from(cap);
                            cap * (x / cap).tanh()
                        }
                    };
                let error = (f64::from(*y) - expected).abs();
                // Near zero a capped score is the difference of numbers as large as the cap.
                let largest = match which {
                    Curve::SoftCap(cap) => f64::from(cap),
                    _ => 1.0,
                };
                assert!(
                    error < 1e-6 * (expected.abs() + 0.1 * largest),
                    "{isa:?} {which:?} {x}: {y}, {expected}"
                );
            }
        }
    }
}

#[test]
fn norms_follow_their_formula_with_and_without_a_residual() {
    let (rows, width) = (5, 101);
    // Off zero, so that a mean that is forgotten shows, and one that leaks into padded lanes.
    let x: Vec<f32> = noise(rows * width, 14).iter().map(|x| x + 0.5).collect();
    let residual = noise(rows * width, 15);
    let (weight, bias) = (noise(width, 16), noise(width, 20));
    let kinds = [Kind::Rms, Kind::Layer(None), Kind::Layer(Some(&bias))];
    let cases = Isa::all_available().into_iter().flat_map(|isa| {
        kinds
            .into_iter()
            .flat_map(move |kind| [(isa, kind, false), (isa, kind, true)])
    });
    for (isa, kind, with_residual) in cases {
        let (mut sum, mut out) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let all = Rows {
            x: &x,
            residual: with_residual.then_some((&residual[..], &mut sum[..])),
            out: &mut out,
        };
        let gain = Gain {
            weight: &weight,
            kind,
            eps: 1e-5,
        };
        norm(isa, gain, all);
        for row in 0..rows {
            let at = |i: usize| {
                let i = row * width + i;
                if with_residual {
                    x[i] + residual[i]
                } else {
                    x[i]
                }
            };
            let average = |f: &dyn Fn(f64) -> f64| {
                (0..width).map(|i| f(at(i).into())).sum::<f64>() / width as f64
            };
            let mean = match kind {
                Kind::Rms => 0.0,
                Kind::Layer(_) => average(&|x| x),
            };
            let variance = average(&|x| (x - mean).powi(2));
            for i in 0..width {
                let bias = match kind {
                    Kind::Layer(Some(bias)) => f64::from(bias[i]),
                    _ => 0.0,
                };
                let scaled = (f64::from(at(i)) - mean) / (variance + 1e-5).sqrt();
                let expected = f64::from(weight[i]) * scaled + bias;
                assert!((f64::from(out[row * width + i]) - expected).abs() < 2e-6);
                assert!(!with_residual || sum[row * width + i] == at(i));
            }
        }
    }
}

#[test]
fn instruction_sets_agree_on_rotations_and_widening() {
    let (x, angles) = (noise(3 * 2 * 20, 17), noise(3 * 7, 18));
    let numbers = noise(37, 19);
    for isa in Isa::all_available() {
        let mut out = vec![0.0; x.len()];
        let shape = Rotate {
            rows: 3,
            head_dim: 20,
            interleaved: false,
            cos: &angles,
            sin: &angles,
        };
        rotate(isa, &x, &mut out, shape);
        for (i, y) in out.iter().enumerate() {
            let (row, d) = (i / 40, i % 20);
            let angle = angles[row * 7 + d % 7];
            let expected = match d {
                0..7 => x[i] * angle - x[i + 7] * angle,
                7..14 => x[i] * angle + x[i - 7] * angle,
                _ => x[i],
            };
            assert_eq!(*y, expected, "{isa:?} {i}");
        }
        for dtype in DTYPES {
            let (bytes, values) = stored(&numbers, dtype);
            let mut out = vec![0.0; values.len()];
            widen(isa, &bytes[1..], dtype, &mut out);
            assert_eq!(out, values, "{isa:?} {dtype:?}");
        }
    }
}
