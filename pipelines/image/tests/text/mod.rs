//! Prompts and text encoders against transformers and diffusers, on the checkpoints that `fixtures/make_clip.py` and `make_t5.py` made.

mod clip;
mod t5;
mod tokenizer;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use chandler_nn::weights::Snapshot;
use serde_json::Value;

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub fn snapshot(name: &str) -> Snapshot {
    Snapshot::dir(fixture(name)).unwrap()
}

pub fn json(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(file)).unwrap()).unwrap()
}

pub fn tensors(file: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(file), &Device::Cpu).unwrap()
}

pub fn texts(value: &Value) -> Vec<String> {
    let each = value.as_array().unwrap().iter();
    each.map(|text| text.as_str().unwrap().to_owned()).collect()
}

pub fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().unwrap().iter();
    list.map(|n| n.as_u64().unwrap() as u32).collect()
}

pub fn numbers(x: &Tensor) -> Vec<f32> {
    let x = x.to_dtype(DType::F32).unwrap();
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// The [`error`] is under `tolerance`.
#[track_caller]
pub fn close(found: &Tensor, expected: &Tensor, tolerance: f32) {
    let error = error(found, expected);
    println!("error {error:e}");
    assert!(error < tolerance, "error {error:e}");
}

/// max|a−b| / max|b|, of tensors of one shape.
#[track_caller]
pub fn error(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (numbers(found), numbers(expected));
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let largest = expected.iter().map(|b| b.abs()).fold(0.0, f32::max);
    differences.fold(0.0, f32::max) / largest
}
