//! Tests of weight reading, and the files that they are made on: written by hand, so that they can lie.

mod arriving;
mod directory;
mod gguf;
mod gguf_properties;
mod header;
mod host_tensor;
mod properties;
mod quantize;
mod quantized;
mod snapshot;

use candle_core::{DType, Device, Tensor};

use super::*;

/// A file of this header and this many bytes of data, counting up.
fn file_of(header: &str, data_bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend((0..data_bytes).map(|byte| byte as u8));
    file
}

/// A file as the `safetensors` crate writes it.
fn written(tensors: &[(&str, Tensor)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let tensors = tensors.iter().map(|(name, tensor)| (*name, tensor.clone()));
    candle_core::safetensors::save(&tensors.collect(), &path).unwrap();
    std::fs::read(path).unwrap()
}

fn tensor(numbers: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap()
}

fn f32s(tensor: &HostTensor) -> Vec<f32> {
    assert_eq!(tensor.dtype(), DType::F32);
    let bytes = tensor.bytes().as_chunks::<4>().0;
    bytes
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}
