//! Whisper against transformers and openai-whisper, on the tiny checkpoints in `fixtures/whisper`.

mod batching;
mod files;
mod long;
mod parity;
mod tokenizer;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use chandler_nn::weights::Snapshot;
use chandler_speech::layers::Placement;
use chandler_speech::whisper::decoding::{BatchLimits, DecodingBatch, Job, Outcome, WindowId};
use chandler_speech::whisper::{Description, Whisper};
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::on_device;

pub const CHECKPOINTS: [&str; 3] = ["multilingual-f32", "english-f16", "distil-bf16"];

pub fn fixture(name: &str) -> PathBuf {
    on_device::fixtures().join("whisper").join(name)
}

/// Where the tests compute.
pub fn placement(plain: bool) -> Placement {
    Placement {
        device: on_device::device(),
        dtype: [on_device::dtype, on_device::plain_dtype][usize::from(plain)](),
        plain,
    }
}

pub fn load(name: &str) -> Whisper {
    load_as(name, placement(false))
}

/// In candle operations throughout, as on a device that has no kernels of ours.
pub fn load_plain(name: &str) -> Whisper {
    load_as(name, placement(true))
}

fn load_as(name: &str, placement: Placement) -> Whisper {
    let snapshot = Snapshot::dir(fixture(name)).unwrap();
    let description = Description::from_snapshot(&snapshot).unwrap();
    let weights = snapshot.weights().unwrap();
    Whisper::load(description, weights.as_ref(), placement).unwrap()
}

pub fn json(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(file)).unwrap()).unwrap()
}

/// The same of a file that is packed.
pub fn packed(file: &str) -> Value {
    let file = std::fs::File::open(fixture(file)).unwrap();
    serde_json::from_reader(GzDecoder::new(file)).unwrap()
}

pub fn tensors(file: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(file), &Device::Cpu).unwrap()
}

pub fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().unwrap().iter();
    list.map(|n| n.as_u64().unwrap() as u32).collect()
}

pub fn numbers(x: &Tensor) -> Vec<f32> {
    let x = x.to_dtype(DType::F32).unwrap();
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// max|a−b| / max|b|, as design.md defines it.
pub fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let largest = expected.iter().map(|b| b.abs()).fold(0.0, f32::max);
    differences.fold(0.0, f32::max) / largest
}

/// A spectrogram [mel bins, frames] as frames of mel bins.
pub fn frames(mel: &Tensor) -> Vec<f32> {
    numbers(&mel.t().unwrap())
}

/// The windows that a checkpoint's answers are about.
pub fn windows(name: &str) -> Vec<Vec<f32>> {
    let mels = &tensors(&format!("{name}/expected.safetensors"))["mels"];
    let count = mels.dim(0).unwrap();
    (0..count).map(|n| frames(&mels.get(n).unwrap())).collect()
}

pub fn batch(model: &Whisper) -> DecodingBatch {
    DecodingBatch::new(model, BatchLimits::default()).unwrap()
}

/// Asks one question about an open window, and waits.
pub fn ask(model: &Whisper, batch: &mut DecodingBatch, window: WindowId, job: Job) -> Outcome {
    batch.submit(model, window, job).unwrap();
    for _ in 0..10_000 {
        let mut progress = batch.step(model).unwrap();
        if let Some((id, outcome)) = progress.outcomes.pop() {
            assert_eq!(id, window);
            return outcome;
        }
        assert!(!progress.is_idle(), "a question without an answer");
    }
    panic!("a question that takes for ever");
}
