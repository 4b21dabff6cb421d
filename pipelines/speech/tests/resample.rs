//! The resampler against soxr: tests/make_resample_fixtures.py.

use std::f64::consts::TAU;
use std::path::Path;

use chandler_speech::audio::resample::{Rates, Resampler};
use serde_json::Value;

const SECONDS: f64 = 0.2;
const TONES: usize = 60;

/// The formulas of the script.
fn signal(kind: &str, rate: u32, top: f64) -> Vec<f32> {
    let count = (f64::from(rate) * SECONDS) as usize;
    let sample = |n: usize| {
        let t = n as f64 / f64::from(rate);
        let fade = 0.5 - 0.5 * (TAU * t / SECONDS).cos();
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

/// How far `got` is from `wanted`, in decibels.
fn distance(got: &[f32], wanted: &[f32]) -> f64 {
    let power: f64 = wanted.iter().map(|w| f64::from(*w).powi(2)).sum();
    let error: f64 = got
        .iter()
        .zip(wanted)
        .map(|(g, w)| f64::from(g - w).powi(2))
        .sum();
    10.0 * (power / error).log10()
}

#[test]
fn the_output_is_the_signal_at_the_new_rate_and_what_soxr_makes() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/resample");
    let cases = std::fs::read(fixtures.join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let file = case["file"].as_str().unwrap();
        let kind = case["kind"].as_str().unwrap();
        let soxr: Vec<f32> = std::fs::read(fixtures.join(file))
            .unwrap()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let rate = u32::try_from(case["rate"].as_u64().unwrap()).unwrap();
        let top = case["top"].as_f64().unwrap();
        let mut resampler = Resampler::new(&Rates::new(rate, 16_000));
        let mut out = Vec::new();
        for piece in signal(kind, rate, top).chunks(1000) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        assert_eq!(out.len(), soxr.len(), "{file}");
        let to_truth = distance(&out, &signal(kind, 16_000, top));
        let to_soxr = distance(&out, &soxr);
        eprintln!("{file}: {to_truth:.1} dB from the truth, {to_soxr:.1} dB from soxr");
        assert!(to_truth > 115.0, "{file}: {to_truth:.1} dB from the truth");
        // No further from soxr than soxr is from the truth, and a hundred decibels where soxr is exact.
        let own = case["soxr"].as_f64().unwrap();
        assert!(
            to_soxr > (own - 1.0).min(110.0),
            "{file}: {to_soxr:.1} dB from soxr"
        );
    }
}
