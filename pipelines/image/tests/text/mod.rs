//! Prompts and text encoders against transformers and diffusers, on the checkpoints that `fixtures/make_clip.py` and `make_t5.py` made.

mod clip;
mod t5;
mod tokenizer;

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use chandler_nn::weights::Snapshot;
use serde_json::Value;

use crate::on_device::{self, has_exact_company, tolerance};

pub fn fixture(name: &str) -> PathBuf {
    on_device::fixtures().join(name)
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

/// The [`error`] is under what may be off where the CPU comes as near as `on_the_cpu`.
#[track_caller]
pub fn close(found: &Tensor, expected: &Tensor, on_the_cpu: f32) {
    let error = error(found, expected);
    println!("error {error:e}");
    assert!(error < tolerance(on_the_cpu), "error {error:e}");
}

/// One row, alone and in company: of the same bits where that is promised, and near elsewhere.
#[track_caller]
pub fn same(alone: &Tensor, together: &Tensor) {
    match has_exact_company() {
        true => assert_eq!(numbers(alone), numbers(together)),
        false => close(alone, together, 0.0),
    }
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
