//! The layers through their public face: the kernels' path against the plain one, against transformers, and at odd sizes.
#![allow(clippy::unwrap_used)]

mod rope;

use candle_core::{DType, Device, Tensor};
use chandler_nn::activation::{Activation, silu_mul, soft_cap};
use chandler_nn::embedding::Embedding;
use chandler_nn::error::NnError;
use chandler_nn::linear::Linear;
use chandler_nn::norm::{Norm, NormConfig, NormKind};
use chandler_nn::rope::{Rope, RopeConfig};
use chandler_nn::weights::{HostTensor, QuantType, quantize_tensor};

const CPU: Device = Device::Cpu;

/// Numbers in -1..1, the same on every machine.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn host(shape: &[usize], seed: u64) -> HostTensor {
    let bytes = noise(shape.iter().product(), seed)
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    HostTensor::from_bytes("w", DType::F32, shape.to_vec(), bytes).unwrap()
}

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(noise(shape.iter().product(), seed), shape, &CPU).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// max|a − b| / max|b|
fn error(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let largest = |x: &[f32]| x.iter().fold(0f32, |m, x| m.max(x.abs()));
    let (a, b) = (numbers(a), numbers(b));
    let difference: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    largest(&difference) / largest(&b).max(f32::MIN_POSITIVE)
}

fn is_input<T>(result: Result<T, NnError>) -> bool {
    matches!(result, Err(NnError::Input { .. } | NnError::Shape { .. }))
}

#[test]
fn a_linear_layer_is_the_plain_one_whatever_its_weight_is_stored_as() {
    for (rows, inputs, outputs) in [(1, 48, 515), (7, 101, 48), (33, 48, 101)] {
        let x = tensor(&[rows, inputs], 1);
        for stored in [DType::F32, DType::F16, DType::BF16] {
            let weight = host(&[outputs, inputs], 2).to_dtype(stored).unwrap();
            let bias = host(&[outputs], 3).to_dtype(stored).unwrap();
            let plain =
                Linear::plain(weight.clone(), Some(bias.clone()), &CPU, DType::F32).unwrap();
            let layer = Linear::new(weight, Some(bias), &CPU, DType::F32).unwrap();
            assert_eq!(
                layer.bytes(),
                outputs * (inputs * stored.size_in_bytes() + 4)
            );
            let expected = plain.forward(&x).unwrap();
            assert!(error(&layer.forward(&x).unwrap(), &expected) < 1e-6);
        }
    }
}

#[test]
fn a_weight_is_converted_only_to_a_half_dtype_that_was_asked_for() {
    let bytes = |stored: DType, asked: DType| {
        let weight = host(&[8, 16], 4).to_dtype(stored).unwrap();
        Linear::new(weight, None, &CPU, asked).unwrap().bytes()
    };
    assert_eq!(bytes(DType::F32, DType::F32), 512);
    assert_eq!(bytes(DType::F32, DType::BF16), 256);
    assert_eq!(bytes(DType::BF16, DType::F32), 256);
    assert_eq!(bytes(DType::F16, DType::F16), 256);
}

#[test]
fn layers_of_one_input_run_together() {
    let layers: Vec<Linear> = [48, 20, 20]
        .into_iter()
        .map(|out| Linear::new(host(&[out, 48], out as u64), None, &CPU, DType::F32).unwrap())
        .collect();
    let x = tensor(&[5, 48], 5);
    let together = Linear::forward_many(&layers.iter().collect::<Vec<_>>(), &x).unwrap();
    for (layer, y) in layers.iter().zip(together) {
        assert_eq!(numbers(&layer.forward(&x).unwrap()), numbers(&y));
    }
}

#[test]
fn a_linear_layer_takes_views_and_no_rows() {
    let layer = Linear::new(host(&[12, 20], 6), None, &CPU, DType::F32).unwrap();
    let x = tensor(&[20, 6], 7);
    let turned = layer.forward(&x.t().unwrap()).unwrap();
    let copied = layer
        .forward(&x.t().unwrap().contiguous().unwrap())
        .unwrap();
    assert_eq!(numbers(&turned), numbers(&copied));
    let part = x
        .t()
        .unwrap()
        .contiguous()
        .unwrap()
        .narrow(0, 2, 3)
        .unwrap();
    assert_eq!(
        numbers(&layer.forward(&part).unwrap()),
        numbers(&copied)[24..60]
    );
    let none = tensor(&[0, 20], 8);
    assert_eq!(layer.forward(&none).unwrap().dims(), [0, 12]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let linear = |weight, bias| Linear::new(weight, bias, &CPU, DType::F32);
    assert!(is_input(linear(host(&[12], 1), None)));
    assert!(is_input(linear(host(&[0, 12], 1), None)));
    assert!(is_input(linear(host(&[12, 20], 1), Some(host(&[20], 1)))));
    let layer = linear(host(&[12, 20], 1), None).unwrap();
    assert!(is_input(layer.forward(&tensor(&[3, 21], 1))));
    assert!(is_input(layer.forward(&tensor(&[20], 1))));
    assert!(is_input(
        layer.forward(&tensor(&[3, 20], 1).to_dtype(DType::F16).unwrap())
    ));
    let integers = HostTensor::from_bytes("w", DType::U8, vec![4, 4], vec![0; 16]).unwrap();
    assert!(matches!(linear(integers, None), Err(NnError::DType { .. })));

    let table = Embedding::new(host(&[515, 48], 1), &CPU, DType::F32).unwrap();
    assert!(is_input(table.forward(&[3, 515])));
    let norm = Norm::new(norm_config(NormKind::Rms), host(&[48], 1), &CPU, DType::F32).unwrap();
    assert!(is_input(norm.forward(&tensor(&[2, 47], 1))));
    assert!(is_input(
        norm.forward_residual(&tensor(&[2, 48], 1), &tensor(&[48], 1))
    ));
    assert!(is_input(norm.with_bias(host(&[48], 2))));
    let layer = Norm::new(
        norm_config(NormKind::Layer),
        host(&[48], 1),
        &CPU,
        DType::F32,
    )
    .unwrap();
    assert!(is_input(layer.with_bias(host(&[47], 2))));
    assert!(is_input(silu_mul(
        &tensor(&[2, 48], 1),
        &tensor(&[48, 2], 1)
    )));
    assert!("relu6".parse::<Activation>().is_err());
    let rope = |head_dim, rotary_dim| {
        let config = RopeConfig {
            rotary_dim,
            ..RopeConfig::new(head_dim, 1e4)
        };
        Rope::new(&config, &CPU)
    };
    assert!(is_input(rope(20, 21)) && is_input(rope(20, 22)) && is_input(rope(0, 0)));
    assert!(is_input(
        rope(20, 20).unwrap().apply(&tensor(&[2, 3, 20], 1), &[1])
    ));
    assert!(is_input(Rope::new(&RopeConfig::new(20, f64::NAN), &CPU)));
}

#[test]
fn an_embedding_gives_its_rows_and_ties_its_head() {
    for stored in [DType::F32, DType::BF16] {
        let table = host(&[515, 48], 9).to_dtype(stored).unwrap();
        let plain = Embedding::plain(table.clone(), &CPU, DType::F32).unwrap();
        let layer = Embedding::new(table, &CPU, DType::F32).unwrap();
        let ids = [514, 0, 7, 7];
        let rows = layer.forward(&ids).unwrap();
        assert_eq!(numbers(&rows), numbers(&plain.forward(&ids).unwrap()));
        for none in [layer.forward(&[]), plain.forward(&[])] {
            assert_eq!(none.unwrap().dims(), [0, 48]);
        }
        let logits = layer.tied_head().unwrap().forward(&rows).unwrap();
        let expected = plain.tied_head().unwrap().forward(&rows).unwrap();
        assert!(error(&logits, &expected) < 1e-6);
    }
}

#[test]
fn quantised_layers_are_the_dequantised_ones_and_stay_as_they_are() {
    for kind in QuantType::ALL {
        let stored = quantize_tensor(kind, &host(&[77, 768], 30)).unwrap();
        let wide = stored.to_dtype(DType::F32).unwrap();
        for dtype in [DType::F32, DType::BF16] {
            let bias = || Some(host(&[77], 31));
            let layer = Linear::new(stored.clone(), bias(), &CPU, dtype).unwrap();
            let plain = Linear::plain(stored.clone(), bias(), &CPU, DType::F32).unwrap();
            assert_eq!(layer.bytes(), stored.bytes().len() + 4 * 77);
            let dequantised = Linear::new(wide.clone(), bias(), &CPU, DType::F32).unwrap();
            let x = tensor(&[11, 768], 32);
            let y = layer.forward(&x).unwrap();
            assert!(error(&y, &plain.forward(&x).unwrap()) < 1e-5, "{kind:?}");
            assert_eq!(numbers(&y), numbers(&dequantised.forward(&x).unwrap()));
            // Two thirds of a fused matrix, beside a layer of f32.
            let part = Linear::new(stored.rows(20, 50).unwrap(), None, &CPU, dtype).unwrap();
            let other = Linear::new(host(&[5, 768], 33), None, &CPU, dtype).unwrap();
            let both = Linear::forward_many(&[&part, &other], &x).unwrap();
            assert_eq!(
                numbers(&both[0]),
                numbers(&part.forward(&x).unwrap()),
                "{kind:?}"
            );
            let whole = Linear::new(stored.clone(), None, &CPU, dtype).unwrap();
            let expected = whole.forward(&x).unwrap().narrow(1, 20, 50).unwrap();
            assert_eq!(numbers(&both[0]), numbers(&expected), "{kind:?}");
        }
    }
}

#[test]
fn a_quantised_embedding_dequantises_its_rows_and_ties_its_head() {
    for kind in QuantType::ALL {
        let table = quantize_tensor(kind, &host(&[33, 512], 34)).unwrap();
        let layer = Embedding::new(table.clone(), &CPU, DType::BF16).unwrap();
        assert_eq!(layer.bytes(), table.bytes().len());
        let rows = layer.forward(&[32, 0, 7, 7]).unwrap();
        let wide = table.to_f32().unwrap();
        let expected: Vec<f32> = [32, 0, 7, 7]
            .into_iter()
            .flat_map(|row: usize| wide[row * 512..][..512].to_vec())
            .collect();
        assert_eq!(numbers(&rows), expected, "{kind:?}");
        let head = layer.tied_head().unwrap();
        assert_eq!(head.bytes(), table.bytes().len());
        let plain = Embedding::plain(table, &CPU, DType::F32).unwrap();
        assert_eq!(numbers(&plain.forward(&[32, 0, 7, 7]).unwrap()), expected);
        let logits = plain.tied_head().unwrap().forward(&rows).unwrap();
        assert!(error(&head.forward(&rows).unwrap(), &logits) < 1e-5);
    }
}

fn norm_config(kind: NormKind) -> NormConfig {
    NormConfig { kind, eps: 1e-6 }
}

#[test]
fn norms_are_the_plain_ones() {
    let weight = host(&[101], 10);
    let (x, residual) = (tensor(&[3, 4, 101], 11), tensor(&[3, 4, 101], 12));
    for kind in [NormKind::Rms, NormKind::RmsUnitOffset, NormKind::Layer] {
        let mut plain = Norm::plain(norm_config(kind), weight.clone(), &CPU, DType::F32).unwrap();
        let mut norm = Norm::new(norm_config(kind), weight.clone(), &CPU, DType::F32).unwrap();
        assert!(error(&norm.forward(&x).unwrap(), &plain.forward(&x).unwrap()) < 1e-6);
        if kind == NormKind::Layer {
            plain = plain.with_bias(host(&[101], 13)).unwrap();
            norm = norm.with_bias(host(&[101], 13)).unwrap();
        }
        let (sum, normed) = norm.forward_residual(&x, &residual).unwrap();
        let (plain_sum, plain_normed) = plain.forward_residual(&x, &residual).unwrap();
        assert_eq!(numbers(&sum), numbers(&plain_sum));
        assert!(error(&normed, &plain_normed) < 1e-6);
    }
}

#[test]
fn a_unit_offset_is_one_more_than_the_weight() {
    let (weight, x) = (host(&[101], 10), tensor(&[3, 101], 11));
    let of = |kind, weight| {
        let norm = Norm::new(norm_config(kind), weight, &CPU, DType::F32).unwrap();
        norm.forward(&x).unwrap()
    };
    let difference = of(NormKind::RmsUnitOffset, weight.clone()) - of(NormKind::Rms, weight);
    let ones = HostTensor::from_bytes("one", DType::F32, vec![101], 1f32.to_le_bytes().repeat(101));
    assert!(error(&difference.unwrap(), &of(NormKind::Rms, ones.unwrap())) < 1e-6);
}

#[test]
fn a_unit_offset_keeps_its_small_weights_in_a_half_dtype() {
    // 1 + 0.001 is 1 in bf16 and 1.001 in f32; every number of x is 1, and so is its root mean square.
    let weight = HostTensor::from_bytes("w", DType::F32, vec![8], 0.001f32.to_le_bytes().repeat(8));
    let norm = Norm::plain(
        norm_config(NormKind::RmsUnitOffset),
        weight.unwrap(),
        &CPU,
        DType::BF16,
    );
    let x = Tensor::ones((1, 8), DType::F16, &CPU).unwrap();
    let normed = norm.unwrap().forward(&x).unwrap();
    assert_eq!(normed.dtype(), DType::F16);
    assert!((numbers(&normed)[0] - 1.001).abs() < 5e-4);
}

#[test]
fn a_soft_cap_is_what_candle_makes_of_it() {
    let x = (tensor(&[7, 101], 13) * 90.0).unwrap();
    let expected = ((&x / 30.0).unwrap().tanh().unwrap() * 30.0).unwrap();
    assert!(error(&soft_cap(&x, 30.0).unwrap(), &expected) < 1e-6);
}

#[test]
fn a_norm_without_weights_is_one_whose_weights_are_1() {
    let x = (tensor(&[7, 101], 13) * 20.0).unwrap();
    for kind in [NormKind::Layer, NormKind::Rms] {
        let config = NormConfig { kind, eps: 1e-5 };
        let norm = Norm::unweighted(config, 101, &CPU, DType::F32).unwrap();
        let centred = match kind {
            NormKind::Layer => x.broadcast_sub(&x.mean_keepdim(1).unwrap()).unwrap(),
            _ => x.clone(),
        };
        let variance = (centred.sqr().unwrap().mean_keepdim(1).unwrap() + 1e-5).unwrap();
        let expected = centred.broadcast_div(&variance.sqrt().unwrap()).unwrap();
        assert!(error(&norm.forward(&x).unwrap(), &expected) < 1e-6);
    }
    let config = NormConfig {
        kind: NormKind::Layer,
        eps: 1e-5,
    };
    assert!(Norm::unweighted(config, 0, &CPU, DType::F32).is_err());
}

#[test]
fn activations_are_candles() {
    let x = (tensor(&[7, 101], 13) * 20.0).unwrap();
    let up = tensor(&[7, 101], 14);
    let cases = [
        ("silu", x.silu().unwrap()),
        ("gelu", x.gelu_erf().unwrap()),
        ("gelu_pytorch_tanh", x.gelu().unwrap()),
        ("relu", x.relu().unwrap()),
        // x·sigmoid(c·x) is silu(c·x) / c.
        (
            "quick_gelu",
            ((&x * 1.702).unwrap().silu().unwrap() / 1.702).unwrap(),
        ),
    ];
    for (name, expected) in cases {
        let activation: Activation = name.parse().unwrap();
        assert!(
            error(&activation.forward(&x).unwrap(), &expected) < 1e-6,
            "{name}"
        );
        let gated = activation.gated(&x, &up).unwrap();
        assert!(error(&gated, &(expected * &up).unwrap()) < 1e-6, "{name}");
    }
}
