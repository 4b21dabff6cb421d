//! A safetensors file of tensors in memory.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A tensor as a file has it.
pub struct Stored {
    /// As the format writes it: `F32`, `BF16`.
    pub dtype: String,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Little-endian numbers, the last dimension's side by side.
    pub bytes: Vec<u8>,
}

/// The file's bytes; `texts` is an object of what is written about the tensors: `transformers` asks for a `format`, `pt`.
pub fn safetensors(tensors: &BTreeMap<String, Stored>, texts: Value) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), texts);
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += tensor.bytes.len();
        let entry =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    tensors.values().for_each(|one| bytes.extend(&one.bytes));
    bytes
}
