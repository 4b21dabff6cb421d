//! Rotary embeddings against transformers (`tests/fixtures/rope.json.gz`), on both paths, whole and of a part of each head.

use candle_core::Tensor;
use chandler_nn::rope::{Rope, RopeConfig, RopeScaling, Rotation};
use flate2::read::GzDecoder;

use crate::{CPU, error, numbers, tensor};

fn golden() -> serde_json::Value {
    let packed: &[u8] = include_bytes!("../fixtures/rope.json.gz");
    serde_json::from_reader(GzDecoder::new(packed)).unwrap()
}

fn list(value: &serde_json::Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap();
    numbers.iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn rope(head_dim: usize, theta: f64, scaling: RopeScaling) -> Rope {
    let config = RopeConfig {
        scaling,
        ..RopeConfig::new(head_dim, theta)
    };
    Rope::new(&config, &CPU).unwrap()
}

/// The cosines and sines of a rotation, read off its effect on 1 and 0.
fn angles(rope: &Rope, positions: &[u32], head_dim: usize) -> (Vec<f32>, Vec<f32>) {
    let half = head_dim / 2;
    let unit: Vec<f32> = (0..positions.len() * head_dim)
        .map(|i| if i % head_dim < half { 1.0 } else { 0.0 })
        .collect();
    let unit = Tensor::from_vec(unit, (positions.len(), 1, head_dim), &CPU).unwrap();
    let turned = rope.apply(&unit, positions).unwrap();
    let part = |from| numbers(&turned.narrow(2, from, half).unwrap());
    (part(0), part(half))
}

#[test]
fn frequencies_and_angles_are_transformers() {
    let golden = golden();
    let yarn = |factor, original_max_position| RopeScaling::Yarn {
        factor,
        original_max_position,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    };
    let cases = [
        ("default", rope(20, 1e4, RopeScaling::None)),
        ("theta500k", rope(16, 5e5, RopeScaling::None)),
        ("linear", rope(16, 1e4, RopeScaling::Linear { factor: 2.5 })),
        (
            "dynamic",
            rope(
                16,
                1e4,
                RopeScaling::Dynamic {
                    factor: 2.0,
                    original_max_position: 64,
                },
            ),
        ),
        (
            "llama3",
            rope(
                64,
                5e5,
                RopeScaling::Llama3 {
                    factor: 8.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_position: 8192,
                },
            ),
        ),
        ("yarn", rope(32, 1e4, yarn(4.0, 2048))),
        (
            "yarn_mscale",
            rope(
                32,
                1e6,
                RopeScaling::Yarn {
                    factor: 40.0,
                    original_max_position: 4096,
                    beta_fast: 16.0,
                    beta_slow: 2.0,
                    attention_factor: None,
                    mscale: Some(1.0),
                    mscale_all_dim: Some(0.7),
                    truncate: false,
                },
            ),
        ),
    ];
    for (name, rope) in cases {
        let golden = &golden[name];
        let expected = list(&golden["inv_freq"]);
        let head_dim = 2 * expected.len();
        // torch's vectorised pow may be one unit in the last place off.
        for (ours, theirs) in rope.inverse_frequencies().iter().zip(&expected) {
            let off = ours.to_bits().abs_diff(theirs.to_bits());
            assert!(off <= 1, "{name}: {ours} and {theirs}");
        }
        let scaling = golden["scaling"].as_f64().unwrap() as f32;
        assert!((rope.attention_scaling() - scaling).abs() < 1e-6, "{name}");
        let close = |positions: &[u32], cos: &str, sin: &str, tolerance: f32| {
            let (ours_cos, ours_sin) = angles(&rope, positions, head_dim);
            for (ours, theirs) in [
                (ours_cos, list(&golden[cos])),
                (ours_sin, list(&golden[sin])),
            ] {
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert!(
                        (ours - theirs).abs() < tolerance,
                        "{name} {positions:?}: {ours} {theirs}"
                    );
                }
            }
        };
        let positions: Vec<u32> = list(&golden["positions"])
            .iter()
            .map(|p| *p as u32)
            .collect();
        close(&positions, "cos", "sin", 1e-5);
        if name != "dynamic" {
            // One unit of a frequency near 1 is 0.006 here.
            close(&[100_003], "cos_100003", "sin_100003", 1e-2);
        }
    }
}

#[test]
fn rotations_are_transformers_on_both_paths() {
    let golden = &golden()["rotated"];
    let shape = (4, 3, 20);
    let x = Tensor::from_vec(list(&golden["x"]), shape, &CPU).unwrap();
    let y = Tensor::from_vec(list(&golden["y"]), shape, &CPU).unwrap();
    let rope = rope(20, 1e4, RopeScaling::None);
    let positions = [0, 1, 7, 63];
    assert!(error(&rope.apply(&x, &positions).unwrap(), &y) < 1e-6);
    let plain = rope.plain_rotation(&positions).unwrap();
    assert!(error(&plain.apply(&x).unwrap(), &y) < 1e-6);
}

/// Each head's first `rotary` numbers from two halves to neighbouring pairs, as llama.cpp's converter permutes Llama's rows.
fn neighbours(x: &Tensor, rotary: usize) -> Tensor {
    let (rows, heads, width) = x.dims3().unwrap();
    let halves = x.narrow(2, 0, rotary).unwrap();
    let halves = halves.reshape((rows, heads, 2, rotary / 2)).unwrap();
    let pairs = halves.transpose(2, 3).unwrap().contiguous().unwrap();
    let pairs = pairs.reshape((rows, heads, rotary)).unwrap();
    let rest = x.narrow(2, rotary, width - rotary).unwrap();
    Tensor::cat(&[pairs, rest.contiguous().unwrap()], 2).unwrap()
}

#[test]
fn neighbouring_pairs_turn_as_the_halves_do_bit_for_bit() {
    let positions = [0, 1, 7, 63];
    for rotary_dim in [20, 14, 2] {
        let halves = RopeConfig {
            rotary_dim,
            ..RopeConfig::new(20, 1e4)
        };
        let pairs = RopeConfig {
            interleaved: true,
            ..halves.clone()
        };
        let (halves, pairs) = (
            Rope::new(&halves, &CPU).unwrap(),
            Rope::new(&pairs, &CPU).unwrap(),
        );
        let x = tensor(&[4, 3, 20], 15);
        let expected = neighbours(&halves.apply(&x, &positions).unwrap(), rotary_dim);
        let permuted = neighbours(&x, rotary_dim);
        let found = pairs.apply(&permuted, &positions).unwrap();
        assert_eq!(numbers(&found), numbers(&expected), "{rotary_dim}");
        let plain = pairs.plain_rotation(&positions).unwrap();
        assert!(error(&plain.apply(&permuted).unwrap(), &expected) < 1e-6);
    }
}

#[test]
fn a_partial_rotation_leaves_the_rest_of_a_head() {
    let config = RopeConfig {
        rotary_dim: 8,
        ..RopeConfig::new(20, 1e4)
    };
    let rope = Rope::new(&config, &CPU).unwrap();
    let x = tensor(&[3, 5, 20], 15);
    let (ours, plain) = (
        rope.rotation(&[5, 0, 9]).unwrap().apply(&x).unwrap(),
        rope.plain_rotation(&[5, 0, 9]).unwrap().apply(&x).unwrap(),
    );
    assert!(error(&ours, &plain) < 1e-6);
    let rest = |t: &Tensor| numbers(&t.narrow(2, 8, 12).unwrap());
    assert_eq!(rest(&ours), rest(&x));
}

#[test]
fn a_rotation_by_given_angles_turns_neighbouring_pairs() {
    let x = Tensor::new(&[[[1f32, 0.0, 0.0, 2.0], [3.0, 4.0, 1.0, 1.0]]], &CPU).unwrap();
    let (cos, sin) = (vec![0.0, 1.0], vec![1.0, 0.0]);
    let turn = Rotation::of_pairs(4, (cos.clone(), sin), &CPU).unwrap();
    let turned = turn.apply(&x).unwrap();
    let expected = [0.0, 1.0, 0.0, 2.0, -4.0, 3.0, 1.0, 1.0];
    assert_eq!(
        turned.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        expected
    );
    assert!(Rotation::of_pairs(4, (cos.clone(), vec![1.0]), &CPU).is_err());
    assert!(Rotation::of_pairs(6, (cos.clone(), cos), &CPU).is_err());
}
