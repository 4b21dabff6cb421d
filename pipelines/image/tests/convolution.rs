//! Convolutions where models compute, against the kernels of the CPU, each shape several times: the first finds out what the others
//! use. They are chandler-nn's; their tests stand here because of that crate no tests are carried to a GPU.

use candle_core::{DType, Device, Tensor};
use chandler_nn::conv::{Conv1d, Conv1dConfig};
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};
use chandler_nn::weights::HostTensor;

use crate::on_device::{back, device, plain_dtype, there};

/// max|a−b| / max|b| where both have the same rounded inputs and weights. f32: two orders of the same sums, and Winograd's
/// transformations; not TF32, which is off by some 3e-4. Else half a unit in the last place, of what was convolved and of each sum with it.
fn tolerance() -> f32 {
    match plain_dtype() {
        DType::F32 => 5e-5,
        DType::F16 => 3e-3,
        _ => 1.2e-2,
    }
}

/// Numbers in -1..1 that the dtype has exactly.
fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let made: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    let made = Tensor::from_vec(made, shape, &Device::Cpu).unwrap();
    let rounded = made.to_dtype(plain_dtype()).unwrap();
    rounded.to_dtype(DType::F32).unwrap()
}

fn host(shape: &[usize], seed: u64) -> HostTensor {
    let numbers: Vec<f32> = noise(shape, seed).flatten_all().unwrap().to_vec1().unwrap();
    let bytes = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
    HostTensor::from_bytes("w", DType::F32, shape.to_vec(), bytes).unwrap()
}

/// On the device, as a layer there has it.
fn given(x: &Tensor) -> Tensor {
    there(&x.to_dtype(plain_dtype()).unwrap())
}

fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (flat(&back(found)), flat(expected));
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
        let error = (a - b).abs() / largest;
        assert!(error < tolerance(), "{what}: number {at} is {a}, not {b}");
    }
}

/// Inputs, outputs, height and width of the kernel; stride; padding; batch, height and width.
type Planes = ([usize; 4], usize, Padding, [usize; 3]);

fn planes() -> Vec<Planes> {
    let none = Padding::default();
    // As AutoencoderKL's encoder halves a picture.
    let beyond = Padding {
        bottom: 1,
        right: 1,
        ..none
    };
    let uneven = Padding {
        top: 2,
        bottom: 1,
        left: 1,
        right: 3,
    };
    let tall = Padding {
        top: 2,
        bottom: 2,
        ..none
    };
    vec![
        // The first and the last of a UNet, and of odd sizes.
        ([4, 64, 3, 3], 1, Padding::all(1), [2, 16, 24]),
        ([64, 4, 3, 3], 1, Padding::all(1), [2, 16, 24]),
        ([3, 7, 3, 3], 1, Padding::all(1), [1, 9, 11]),
        ([64, 96, 3, 3], 1, Padding::all(1), [2, 24, 20]),
        ([96, 64, 1, 1], 1, none, [3, 16, 16]),
        ([64, 64, 3, 3], 2, Padding::all(1), [1, 18, 22]),
        ([32, 64, 3, 3], 2, beyond, [1, 18, 22]),
        ([16, 24, 3, 3], 1, uneven, [1, 13, 10]),
        ([16, 24, 5, 1], 1, tall, [1, 13, 10]),
        // Patches of a transformer.
        ([16, 48, 2, 2], 2, none, [2, 16, 16]),
    ]
}

#[test]
fn a_convolution_gives_what_the_cpu_gives_at_each_call() {
    for (case, ([inputs, outputs, rows, columns], stride, padding, [batch, height, width])) in
        planes().into_iter().enumerate()
    {
        let config = Conv2dConfig { stride, padding };
        let weight = host(&[outputs, inputs, rows, columns], 1);
        // One without a bias, too.
        let bias = (case != 4).then(|| host(&[outputs], 2));
        let cpu = Conv2d::new(
            weight.clone(),
            bias.clone(),
            config,
            &Device::Cpu,
            DType::F32,
        );
        let there = Conv2d::plain(weight, bias, config, &device(), plain_dtype());
        let (cpu, there) = (cpu.unwrap(), there.unwrap());
        for seed in 3..6 {
            let x = noise(&[batch, inputs, height, width], seed);
            let what = format!("case {case}, input {seed}");
            let expected = cpu.forward(&x).unwrap();
            assert_close(&there.forward(&given(&x)).unwrap(), &expected, &what);
            let residual = noise(expected.dims(), seed + 10);
            let expected = cpu.forward_added(&x, &residual).unwrap();
            let found = there.forward_added(&given(&x), &given(&residual));
            assert_close(&found.unwrap(), &expected, &format!("{what}, added"));
            let expected = cpu.forward_upscaled(&x).unwrap();
            let found = there.forward_upscaled(&given(&x)).unwrap();
            assert_close(&found, &expected, &format!("{what}, upscaled"));
        }
    }
}

#[test]
fn a_part_of_a_tensor_is_convolved_as_it_is() {
    // Neither from its beginning nor one number after the other: what a plan is for lies otherwise.
    let config = Conv2dConfig::same(3);
    let (weight, bias) = (host(&[16, 8, 3, 3], 1), Some(host(&[16], 2)));
    let cpu = Conv2d::new(
        weight.clone(),
        bias.clone(),
        config,
        &Device::Cpu,
        DType::F32,
    );
    let there = Conv2d::plain(weight, bias, config, &device(), plain_dtype());
    let x = noise(&[3, 13, 9, 10], 3);
    let part = |x: &Tensor| x.narrow(0, 1, 2).unwrap().narrow(1, 5, 8).unwrap();
    let turned = |x: &Tensor| part(x).narrow(3, 1, 9).unwrap().transpose(2, 3).unwrap();
    let (cpu, there) = (cpu.unwrap(), there.unwrap());
    let whole = given(&x);
    for cut in [&part as &dyn Fn(&Tensor) -> Tensor, &turned] {
        let expected = cpu.forward(&cut(&x).contiguous().unwrap()).unwrap();
        assert_close(&there.forward(&cut(&whole)).unwrap(), &expected, "a part");
    }
}

#[test]
fn a_convolution_over_time_gives_what_the_cpu_gives_at_each_call() {
    // Whisper's two, wav2vec2's first and one like its others, and its grouped one.
    for ([inputs, outputs, kernel], stride, padding, groups, time) in [
        ([80, 64, 3], 1, 1, 1, 50),
        ([64, 64, 3], 2, 1, 1, 50),
        ([1, 32, 10], 5, 0, 1, 1031),
        ([32, 32, 3], 2, 0, 1, 205),
        ([64, 64, 16], 1, 8, 4, 29),
    ] {
        let config = Conv1dConfig {
            stride,
            padding,
            groups,
        };
        let (weight, bias) = (
            host(&[outputs, inputs / groups, kernel], 1),
            host(&[outputs], 2),
        );
        for bias in [None, Some(bias)] {
            let cpu = Conv1d::new(
                weight.clone(),
                bias.clone(),
                config,
                &Device::Cpu,
                DType::F32,
            );
            let there = Conv1d::plain(weight.clone(), bias, config, &device(), plain_dtype());
            let (cpu, there) = (cpu.unwrap(), there.unwrap());
            for seed in 3..5 {
                let x = noise(&[2, time, inputs], seed);
                let expected = cpu.forward(&x).unwrap();
                let found = there.forward(&given(&x)).unwrap();
                assert_close(&found, &expected, &format!("{config:?}"));
            }
        }
    }
}
