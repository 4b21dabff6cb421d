//! Convolutions by the kernel against candle's, on every instruction set of this machine, at odd sizes.

use super::*;
use crate::kernels::winograd::suits;
use half::{bf16, f16};

/// Numbers in -1..1 from a counter: the same on every machine.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 * 2.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn host(shape: &[usize], dtype: DType) -> HostTensor {
    let numbers = numbers(shape.iter().product(), 1).into_iter();
    let bytes = match dtype {
        DType::F16 => numbers
            .flat_map(|x| f16::from_f32(x).to_le_bytes())
            .collect(),
        DType::BF16 => numbers
            .flat_map(|x| bf16::from_f32(x).to_le_bytes())
            .collect(),
        _ => numbers.flat_map(f32::to_le_bytes).collect(),
    };
    HostTensor::from_bytes("w", dtype, shape.to_vec(), bytes).unwrap()
}

fn tensor(shape: [usize; 4], seed: u32) -> Tensor {
    Tensor::from_vec(numbers(shape.iter().product(), seed), &shape, &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// The kernel's result on one instruction set.
fn on(isa: Isa, conv: &Conv2d, given: Input<'_>) -> Tensor {
    let Weight::Host(weight) = &conv.weight else {
        panic!("a convolution on the CPU is the kernel's")
    };
    let out = conv.check(given).unwrap();
    conv.on_host(isa, weight, given, out).unwrap()
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (flat(found), flat(expected));
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (a, b) in found.iter().zip(&expected) {
        assert!((a - b).abs() < 5e-6 * largest, "{what}: {a}, {b}");
    }
}

/// A convolution, and what it goes over.
#[derive(Debug, Clone, Copy)]
struct Case {
    inputs: usize,
    outputs: usize,
    kernel: [usize; 2],
    stride: usize,
    padding: Padding,
    batch: usize,
    size: [usize; 2],
}

impl Case {
    fn same(inputs: usize, outputs: usize, kernel: usize, size: [usize; 2]) -> Self {
        Self {
            inputs,
            outputs,
            kernel: [kernel; 2],
            stride: 1,
            padding: Padding::all(kernel / 2),
            batch: 2,
            size,
        }
    }

    fn make(&self, dtype: DType) -> (Conv2d, Conv2d) {
        let config = Conv2dConfig {
            stride: self.stride,
            padding: self.padding,
        };
        let weight = host(
            &[self.outputs, self.inputs, self.kernel[0], self.kernel[1]],
            dtype,
        );
        let bias = (self.outputs != 7).then(|| host(&[self.outputs], DType::F32));
        let (cpu, f32) = (Device::Cpu, DType::F32);
        (
            Conv2d::new(weight.clone(), bias.clone(), config, &cpu, f32).unwrap(),
            Conv2d::plain(weight, bias, config, &cpu, f32).unwrap(),
        )
    }

    fn x(&self) -> Tensor {
        tensor([self.batch, self.inputs, self.size[0], self.size[1]], 2)
    }
}

fn cases() -> Vec<Case> {
    let bottom_right = Padding {
        bottom: 1,
        right: 1,
        ..Padding::default()
    };
    vec![
        Case::same(4, 20, 3, [9, 11]),
        Case::same(20, 4, 3, [16, 16]),
        // Rows longer than a vector, and more than one chunk of channels with a rest.
        Case::same(75, 33, 3, [5, 37]),
        Case::same(7, 7, 1, [3, 5]),
        Case::same(700, 17, 1, [4, 6]),
        Case::same(3, 40, 5, [8, 8]),
        Case::same(2, 3, 3, [1, 1]),
        // Winograd's tiles: rows longer and shorter than a vector of them, odd sides, two chunks of channels with a rest, and parts.
        Case::same(33, 32, 3, [16, 16]),
        Case::same(70, 45, 3, [13, 21]),
        Case::same(32, 33, 3, [9, 67]),
        Case {
            padding: Padding::default(),
            ..Case::same(40, 265, 3, [19, 20])
        },
        // Parts of the outputs, in batches of few windows.
        Case {
            batch: 3,
            ..Case::same(6, 530, 3, [4, 4])
        },
        Case {
            stride: 2,
            ..Case::same(8, 9, 3, [17, 34])
        },
        Case {
            stride: 2,
            padding: bottom_right,
            ..Case::same(5, 12, 3, [16, 14])
        },
        Case {
            stride: 4,
            padding: Padding::default(),
            kernel: [4, 4],
            ..Case::same(3, 16, 4, [20, 24])
        },
        Case {
            kernel: [2, 3],
            padding: Padding {
                top: 3,
                bottom: 0,
                left: 0,
                right: 2,
            },
            stride: 3,
            ..Case::same(3, 5, 3, [13, 10])
        },
        // As much above as below, but not as to the sides; and more on one side of both.
        Case {
            kernel: [5, 1],
            padding: Padding {
                top: 2,
                bottom: 2,
                ..Padding::default()
            },
            ..Case::same(3, 5, 3, [6, 9])
        },
        Case {
            padding: Padding {
                top: 1,
                bottom: 2,
                left: 3,
                right: 1,
            },
            ..Case::same(3, 5, 3, [6, 9])
        },
    ]
}

#[test]
fn padding_is_split_into_what_both_sides_have_and_the_rest() {
    for case in cases() {
        let padding = case.padding;
        let ([rows, columns], rest) = padding.split();
        assert!(rest.top == 0 || rest.bottom == 0, "{padding:?}");
        assert!(rest.left == 0 || rest.right == 0, "{padding:?}");
        let whole = Padding {
            top: rest.top + rows,
            bottom: rest.bottom + rows,
            left: rest.left + columns,
            right: rest.right + columns,
        };
        assert_eq!(whole, padding);
    }
}

#[test]
fn the_kernel_gives_what_candles_convolution_gives() {
    for case in cases() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let (ours, plain) = case.make(dtype);
            let given = Input {
                x: &case.x(),
                doubled: false,
                residual: None,
            };
            let expected = plain.forward(given.x).unwrap();
            for isa in Isa::all_available() {
                let what = format!("{isa:?} {dtype:?} {case:?}");
                assert_close(&on(isa, &ours, given), &expected, &what);
            }
            assert_eq!(
                flat(&ours.forward(given.x).unwrap()),
                flat(&on(Isa::detect(), &ours, given))
            );
        }
    }
}

#[test]
fn a_residual_is_added_and_an_enlarged_picture_seen() {
    for case in cases() {
        let (ours, plain) = case.make(DType::F32);
        let x = case.x();
        let dims = plain.forward(&x).unwrap().dims4().unwrap();
        let residual = tensor([dims.0, dims.1, dims.2, dims.3], 3);
        let added = plain.forward_added(&x, &residual).unwrap();
        let upscaled = plain.forward_upscaled(&x).unwrap();
        for isa in Isa::all_available() {
            for (expected, doubled, residual) in
                [(&added, false, Some(&residual)), (&upscaled, true, None)]
            {
                let given = Input {
                    x: &x,
                    doubled,
                    residual,
                };
                let what = format!("{isa:?} {doubled} {case:?}");
                assert_close(&on(isa, &ours, given), expected, &what);
            }
        }
    }
}

#[test]
fn a_sample_has_the_same_bits_alone_and_in_company() {
    for case in cases() {
        let (ours, _) = case.make(DType::F16);
        let x = tensor([5, case.inputs, case.size[0], case.size[1]], 4);
        for (isa, doubled) in Isa::all_available()
            .into_iter()
            .flat_map(|isa| [(isa, false), (isa, true)])
        {
            let run = |x: &Tensor| {
                let given = Input {
                    x,
                    doubled,
                    residual: None,
                };
                flat(&on(isa, &ours, given))
            };
            let all = run(&x);
            for (start, len) in [(0, 1), (4, 1), (1, 3)] {
                let some = run(&x.narrow(0, start, len).unwrap());
                let one = all.len() / 5;
                let same = some
                    .iter()
                    .zip(&all[start * one..])
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{isa:?} {doubled} {case:?} {len} from {start}");
            }
        }
    }
}

/// The transformations are for the large pictures of large layers; elsewhere the plain products have fewer steps.
#[test]
fn winograds_way_is_taken_by_layer_and_size_alone() {
    let windows = |channels, out| Windows {
        x: &[],
        channels,
        height: 16,
        width: 16,
        kernel: [3, 3],
        stride: 1,
        padding: Padding::all(1),
        doubled: false,
        out,
    };
    assert!(suits(&windows(32, [16, 16]), 32));
    assert!(!suits(&windows(31, [16, 16]), 32), "channels");
    assert!(!suits(&windows(32, [16, 16]), 31), "outputs");
    assert!(!suits(&windows(32, [15, 16]), 32), "windows");
    let strided = Windows {
        stride: 2,
        ..windows(32, [16, 16])
    };
    assert!(!suits(&strided, 32), "stride");
}

#[test]
fn weights_stay_as_they_are_stored_and_block_formats_are_dequantised() {
    let shape = [8, 32, 1, 1];
    let config = Conv2dConfig::same(1);
    let half = host(&shape, DType::F16);
    let conv = Conv2d::new(half, None, config, &Device::Cpu, DType::F32).unwrap();
    assert_eq!(conv.bytes(), 2 * 8 * 32);
    let wide = host(&shape, DType::F32);
    let conv = Conv2d::new(wide, None, config, &Device::Cpu, DType::BF16).unwrap();
    assert_eq!(conv.bytes(), 2 * 8 * 32);
    // Rows of a kernel that are whole blocks.
    let kind = crate::weights::QuantType::Q8_0;
    let blocks = crate::weights::quantize_tensor(kind, &host(&[3, 2, 2, 32], DType::F32)).unwrap();
    let wide = blocks.to_dtype(DType::F32).unwrap();
    let x = tensor([1, 2, 4, 40], 5);
    let [made, expected] = [blocks, wide].map(|weight| {
        let conv = Conv2d::new(weight, None, config, &Device::Cpu, DType::F32).unwrap();
        flat(&conv.forward(&x).unwrap())
    });
    assert_eq!(made, expected);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (conv, _) = Case::same(3, 4, 3, [5, 5]).make(DType::F32);
    assert!(conv.forward(&tensor([1, 3, 5, 5], 1)).is_ok());
    assert!(conv.forward(&tensor([1, 2, 5, 5], 1)).is_err(), "channels");
    let x = tensor([1, 3, 5, 5], 1);
    let residual = tensor([1, 4, 5, 4], 1);
    assert!(conv.forward_added(&x, &residual).is_err(), "residual");
    let half = x.to_dtype(DType::F16).unwrap();
    assert!(conv.forward(&half).is_err(), "half activations");
    let unpadded = Conv2dConfig {
        stride: 1,
        padding: Padding::default(),
    };
    let weight = || host(&[2, 3, 6, 6], DType::F32);
    let large = Conv2d::new(weight(), None, unpadded, &Device::Cpu, DType::F32).unwrap();
    assert!(large.forward(&x).is_err(), "smaller than the kernel");
    let empty = x.narrow(0, 0, 0).unwrap();
    assert_eq!(conv.forward(&empty).unwrap().dims(), [0, 4, 5, 5]);
    let still = Conv2dConfig {
        stride: 0,
        ..unpadded
    };
    assert!(Conv2d::new(weight(), None, still, &Device::Cpu, DType::F32).is_err());
}
