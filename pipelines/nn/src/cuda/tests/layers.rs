//! The small layers.

use candle_core::{DType, Device, Tensor};

use super::emulator::{Float, assert_close, compute, noise, run};
use crate::activation::Activation;
use crate::cuda::layers::{
    Pairs, Picture, Planes, Rows, add_to_planes, gated, group_norm, into_slots, norm, rotate,
};
use crate::group_norm::{GroupNorm, Groups};
use crate::norm::{Norm, NormConfig, NormKind};
use crate::rope::{Rope, RopeConfig};
use crate::weights::HostTensor;

const ALL: [Float; 3] = [Float::Bf16, Float::F16, Float::F32];

#[test]
fn gates_of_every_activation() {
    use Activation::{Gelu, GeluTanh, QuickGelu, Relu, Silu};
    // A count that leaves a stretch of 3 numbers at the end.
    let shape = [37, 19];
    for float in ALL {
        let (gate, up) = (noise(&shape, 1, float), noise(&shape, 2, float));
        for activation in [Silu, Gelu, GeluTanh, QuickGelu, Relu] {
            let work = gated(float.dtype(), activation, 37 * 19);
            let found = compute(&work, float, &[&gate, &up]);
            let expected = activation.gated(&gate, &up).unwrap();
            assert_close(&found, &expected, float, &format!("{activation:?}"));
        }
    }
}

/// A vector as a checkpoint has it.
fn host(tensor: &Tensor) -> HostTensor {
    let shape = tensor.dims().to_vec();
    HostTensor::from_bytes("gain", DType::F32, shape, Float::F32.bytes(tensor)).unwrap()
}

#[test]
fn rows_are_added_and_normed() {
    use NormKind::{Layer, Rms};
    // A width that begins rows anywhere, and one that every thread has some of.
    for (width, kind, bias, float, gain) in [
        (83, Rms, false, Float::Bf16, Float::Bf16),
        (83, Layer, true, Float::F16, Float::F16),
        (2560, Rms, false, Float::F16, Float::F32),
        (2560, Layer, false, Float::Bf16, Float::F32),
        (600, Layer, true, Float::F32, Float::F32),
    ] {
        let (x, residual) = (noise(&[3, width], 1, float), noise(&[3, width], 2, float));
        let (weight, shift) = (noise(&[width], 3, gain), noise(&[width], 4, gain));
        let config = NormConfig { kind, eps: 1e-5 };
        let mut plain = Norm::plain(config, host(&weight), &Device::Cpu, DType::F32).unwrap();
        if bias {
            plain = plain.with_bias(host(&shift)).unwrap();
        }
        for added in [false, true] {
            let sizes = Rows {
                rows: 3,
                width,
                eps: 1e-5,
                centred: kind == Layer,
                residual: added,
                bias,
            };
            let work = norm(float.dtype(), gain.dtype(), &sizes).unwrap();
            let mut tensors = vec![float.bytes(&x)];
            tensors.extend(added.then(|| float.bytes(&residual)));
            tensors.push(gain.bytes(&weight));
            tensors.extend(bias.then(|| gain.bytes(&shift)));
            let bytes = run(&work, &tensors, float.dtype().size_in_bytes());
            let found = float.numbers(&bytes);
            let what = format!("{kind:?} of {width}");
            // The sum is rounded before it is normed.
            let sum = match added {
                true => {
                    let sum = (&x + &residual).unwrap();
                    let rounded = float.numbers(&float.bytes(&sum));
                    assert_eq!(found[..3 * width], rounded);
                    Tensor::from_vec(rounded, (3, width), &Device::Cpu).unwrap()
                }
                false => x.clone(),
            };
            let normed = &found[found.len() - 3 * width..];
            assert_close(normed, &plain.forward(&sum).unwrap(), float, &what);
        }
    }
}

#[test]
fn heads_are_turned_whole_and_in_part() {
    for (rotary, interleaved, float) in [
        (48, false, Float::Bf16),
        (48, true, Float::F16),
        (20, false, Float::F32),
        (20, true, Float::F32),
    ] {
        let (rows, heads, head_dim) = (5, 3, 48);
        let x = noise(&[rows, heads, head_dim], 3, float);
        let config = RopeConfig {
            rotary_dim: rotary,
            interleaved,
            ..RopeConfig::new(head_dim, 10_000.0)
        };
        let rope = Rope::new(&config, &Device::Cpu).unwrap();
        let positions: Vec<u32> = vec![0, 7, 8, 300, 4000];
        let expected = rope.plain_rotation(&positions).unwrap().apply(&x).unwrap();
        let (cos, sin) = angles(&rope, &positions);
        let pairs = Pairs {
            rows,
            heads,
            head_dim,
            rotary,
            interleaved,
        };
        let tensors = [
            float.bytes(&x),
            Float::F32.bytes(&cos),
            Float::F32.bytes(&sin),
        ];
        let bytes = run(
            &rotate(float.dtype(), &pairs).unwrap(),
            &tensors,
            float.dtype().size_in_bytes(),
        );
        assert_close(
            &float.numbers(&bytes),
            &expected,
            float,
            &format!("{rotary} {interleaved}"),
        );
    }
}

fn angles(rope: &Rope, positions: &[u32]) -> (Tensor, Tensor) {
    let frequencies = rope.inverse_frequencies();
    let each = |of: fn(f32) -> f32| {
        let all = positions
            .iter()
            .flat_map(|position| frequencies.iter().map(move |f| of(f * *position as f32)));
        Tensor::from_vec(
            all.collect::<Vec<f32>>(),
            (positions.len(), frequencies.len()),
            &Device::Cpu,
        )
        .unwrap()
    };
    (each(f32::cos), each(f32::sin))
}

#[test]
fn rows_go_to_their_slots_and_no_others() {
    // Rows of 80 bytes go by 16 bytes, rows of 42 by 2.
    for width in [40, 21] {
        let slots = [9, 0, 4, 11];
        let new = noise(&[slots.len(), width], 4, Float::F16);
        let before = noise(&[12, width], 5, Float::F16);
        let tensors = [Float::F16.bytes(&new), Float::F16.bytes(&before)];
        let after = Float::F16.numbers(&run(&into_slots(&slots, 2 * width), &tensors, 2));
        let expected: Vec<Vec<f32>> = (0..12)
            .map(|row| match slots.iter().position(|slot| *slot == row) {
                Some(at) => new.get(at).unwrap().to_vec1().unwrap(),
                None => before.get(row as usize).unwrap().to_vec1().unwrap(),
            })
            .collect();
        assert_eq!(after, expected.concat());
    }
}

#[test]
fn planes_are_given_their_bias_and_a_residual() {
    // Planes shorter than what a thread reads, of odd sizes, of whole reads, and more numbers than all threads take at once.
    for (batch, channels, plane, float) in [
        (2, 5, 1, Float::F16),
        (3, 7, 3, Float::Bf16),
        (2, 3, 35, Float::F32),
        (2, 4, 64, Float::Bf16),
        (1, 3, 1_500_001, Float::F32),
    ] {
        let shape = [batch, channels, plane];
        let (y, residual) = (noise(&shape, 9, float), noise(&shape, 10, float));
        let bias = noise(&[1, channels, 1], 11, float);
        let short = plane < 1000;
        let ways = [(true, true), (true, false), (false, true)];
        for (biased, added) in ways.into_iter().take(if short { 3 } else { 1 }) {
            let planes = Planes {
                count: batch * channels * plane,
                channels,
                plane,
                bias: biased,
                residual: added,
            };
            let work = add_to_planes(float.dtype(), &planes).unwrap();
            let tensors = match (biased, added) {
                (true, true) => vec![&bias, &y, &residual],
                (true, false) => vec![&bias, &y],
                _ => vec![&residual, &y],
            };
            let found = compute(&work, float, &tensors);
            let mut expected = y.clone();
            if biased {
                expected = expected.broadcast_add(&bias).unwrap();
            }
            if added {
                expected = (expected + &residual).unwrap();
            }
            let what = format!("{shape:?} {biased} {added}");
            assert_close(&found, &expected, float, &what);
        }
    }
    let nothing = Planes {
        count: 6,
        channels: 2,
        plane: 3,
        bias: false,
        residual: false,
    };
    assert_eq!(add_to_planes(DType::F32, &nothing), None);
}

#[test]
fn groups_are_normed_by_parts() {
    // Planes of odd sizes, so that groups and parts begin anywhere; the last in several parts, and far from zero.
    for (channels, groups, (height, width), shift, float) in [
        (6, 3, (5, 7), 0.0, Float::Bf16),
        (4, 4, (1, 1), 0.0, Float::F16),
        (8, 2, (33, 61), 0.0, Float::F16),
        (8, 2, (50, 61), 10.0, Float::F32),
    ] {
        let x = (noise(&[2, channels, height, width], 6, float) + shift).unwrap();
        let (weight, bias) = (noise(&[channels], 7, float), noise(&[channels], 8, float));
        for activation in [None, Some(Activation::Silu)] {
            let picture = Picture {
                batch: 2,
                channels,
                plane: height * width,
                groups,
                eps: 1e-5,
                activation,
            };
            let work = group_norm(float.dtype(), &picture, 132).unwrap();
            let found = compute(&work, float, &[&x, &weight, &bias]);
            let cut = Groups {
                count: groups,
                eps: 1e-5,
            };
            let norm =
                GroupNorm::plain((host(&weight), host(&bias)), cut, &Device::Cpu, DType::F32)
                    .unwrap();
            let expected = norm.forward(&x, activation).unwrap();
            assert_close(
                &found,
                &expected,
                float,
                &format!("{channels} in {groups}, {activation:?}"),
            );
        }
    }
}
