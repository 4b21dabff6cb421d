//! The resampler against soxr: tests/make_resample_fixtures.py.

use std::f64::consts::TAU;
use std::path::Path;

use chandler_speech::audio::resample::{Rates, Resampler};
use serde_json::Value;

const SECONDS: f64 = 0.2;
const TONES: usize = 60;

/// The formulas of the script.
fn signal(kind: &str, rate: f64, top: f64, count: usize) -> Vec<f32> {
    let sample = |n: usize| {
        let t = n as f64 / rate;
        let fade = 0.5 - 0.5 * (TAU * n as f64 / count as f64).cos();
        let value = if kind == "chirp" {
            0.5 * (TAU * (50.0 * t + 0.5 * (top - 50.0) * t * t / SECONDS)).sin()
        } else {
            let tone = |k: f64| {
                (TAU * (50.0 + (top - 50.0) * k / (TONES - 1) as f64) * t + 0.7 * k * k).cos()
            };
            (0..TONES).map(|k| tone(k as f64)).sum::<f64>() / TONES as f64
        };
        (value * fade) as f32
    };
    (0..count).map(sample).collect()
}

#[test]
fn the_output_is_soxrs_to_a_hundred_decibels() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resample");
    let cases = std::fs::read(fixtures.join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let file = case["file"].as_str().unwrap();
        let expected: Vec<f32> = std::fs::read(fixtures.join(file))
            .unwrap()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let rate = u32::try_from(case["rate"].as_u64().unwrap()).unwrap();
        let count = usize::try_from(case["inputs"].as_u64().unwrap()).unwrap();
        let top = case["top"].as_f64().unwrap();
        let input = signal(case["kind"].as_str().unwrap(), f64::from(rate), top, count);
        let mut resampler = Resampler::new(&Rates::new(rate, 16_000));
        let mut out = Vec::new();
        for piece in input.chunks(1000) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        assert_eq!(out.len(), expected.len(), "{file}");
        let power: f64 = expected.iter().map(|e| f64::from(*e).powi(2)).sum();
        let error: f64 = out
            .iter()
            .zip(&expected)
            .map(|(o, e)| f64::from(o - e).powi(2))
            .sum();
        let ratio = 10.0 * (power / error).log10();
        eprintln!("{file}: {ratio:.1} dB");
        assert!(ratio > 100.0, "{file}: {ratio:.1} dB");
    }
}
