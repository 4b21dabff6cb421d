//! The quantised products of a 314 M Llama (22 layers of 1024 by 2816, 4 of 16 heads for keys, 32000 tokens), token by token,
//! in a batch and in a prefill. Attention and the like are not in it: a decode of the whole model is some 5 % slower.

use candle_core::{DType, Device, Tensor};
use chandler_nn::error::Result;
use chandler_nn::linear::Linear;
use chandler_nn::weights::{Activations, HostTensor, QuantType, StoredType, quantize};
use std::hint::black_box;
use std::time::Instant;

const KINDS: [StoredType; 8] = [
    StoredType::Quant(QuantType::Q8_0),
    StoredType::Quant(QuantType::Q6K),
    StoredType::Quant(QuantType::Q5K),
    StoredType::Quant(QuantType::Q4K),
    StoredType::Quant(QuantType::Q4_0),
    StoredType::Quant(QuantType::Q5_0),
    StoredType::Plain(DType::BF16),
    StoredType::Plain(DType::F32),
];

/// Layers of one input each, as a decoder calls them.
type Model = Vec<Vec<Linear>>;

/// Prints a line for every format whose name starts with `only`.
pub fn run(only: Option<&str>, roof: f64) -> Result<()> {
    println!("products of the 314 M shape: tokens a second, best of many passes");
    for kind in KINDS {
        if only.is_some_and(|only| !kind.name().starts_with(only)) {
            continue;
        }
        for activations in [Activations::F32, Activations::Int8] {
            if matches!(kind, StoredType::Quant(_)) || activations == Activations::F32 {
                line(kind, activations, roof)?;
            }
        }
    }
    Ok(())
}

fn line(kind: StoredType, activations: Activations, roof: f64) -> Result<()> {
    let model = model(kind, activations)?;
    let bytes: usize = model.iter().flatten().map(Linear::bytes).sum();
    let one = seconds(&model, 1, 2.0)?;
    let speed = bytes as f64 / one / 1e9;
    print!(
        "  {} by {}: {:.0} tok/s, {speed:.1} GB/s, {:.0} %; batch",
        kind.name(),
        activations.name(),
        1.0 / one,
        100.0 * speed / roof
    );
    for rows in [2, 4, 8, 16, 32] {
        let time = seconds(&model, rows, 1.0)?;
        print!(" {rows}: {:.2}x", rows as f64 * one / time);
    }
    println!("; prefill 512: {:.0}", 512.0 / seconds(&model, 512, 3.0)?);
    Ok(())
}

fn model(kind: StoredType, activations: Activations) -> Result<Model> {
    let linear = |outputs: usize, inputs: usize, seed: usize| -> Result<Linear> {
        // A few rows of numbers, over and over.
        let numbers: Vec<f32> = (0..16 * inputs)
            .map(|i| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 100_070.0 - 0.05)
            .collect();
        let rows = match kind {
            StoredType::Quant(kind) => quantize(kind, &numbers)?,
            StoredType::Plain(dtype) => {
                let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
                let wide = HostTensor::from_bytes("w", DType::F32, vec![16, inputs], bytes)?;
                wide.to_dtype(dtype)?.bytes().to_vec()
            }
        };
        let bytes = rows.repeat(outputs / 16);
        let weight = HostTensor::from_bytes("w", kind, vec![outputs, inputs], bytes)?;
        let weight = weight.with_activations(activations);
        Linear::new(weight, None, &Device::Cpu, DType::F32)
    };
    let mut model = Vec::new();
    for layer in 0..22 {
        model.push(vec![
            linear(1024, 1024, layer)?,
            linear(256, 1024, layer + 1)?,
            linear(256, 1024, layer + 2)?,
        ]);
        model.push(vec![linear(1024, 1024, layer + 3)?]);
        model.push(vec![
            linear(2816, 1024, layer + 4)?,
            linear(2816, 1024, layer + 5)?,
        ]);
        model.push(vec![linear(1024, 2816, layer + 6)?]);
    }
    model.push(vec![linear(32000, 1024, 22)?]);
    Ok(model)
}

/// Seconds of a pass of `rows` rows; of a prefill the head takes one.
fn seconds(model: &Model, rows: usize, enough: f64) -> Result<f64> {
    let x = |rows: usize, width: usize| -> Result<Tensor> {
        let numbers = (0..rows * width).map(|i| (i % 13) as f32 * 0.1 - 0.6);
        Ok(Tensor::from_vec(
            numbers.collect::<Vec<_>>(),
            (rows, width),
            &Device::Cpu,
        )?)
    };
    let inputs = [
        x(rows, 1024)?,
        x(rows, 2816)?,
        x(if rows > 64 { 1 } else { rows }, 1024)?,
    ];
    let (started, mut best) = (Instant::now(), f64::INFINITY);
    while started.elapsed().as_secs_f64() < enough {
        let start = Instant::now();
        for layers in model {
            let input = match layers.first() {
                Some(layer) if layer.inputs() == 2816 => &inputs[1],
                Some(layer) if layer.outputs() == 32000 => &inputs[2],
                _ => &inputs[0],
            };
            let layers: Vec<&Linear> = layers.iter().collect();
            black_box(Linear::forward_many(&layers, input)?);
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
