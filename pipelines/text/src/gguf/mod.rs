//! A GGUF file as a snapshot: its metadata as config.json, its tensors under their names in the Hugging Face layout, its
//! vocabulary as tokenizer.json. Apart from everything else so that nothing else knows that there is such a format.

mod architectures;
mod config;
mod pre_tokenizers;
mod tokenizer;
mod vocabulary;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chandler_nn::weights::gguf::GgufFile;
use chandler_nn::weights::{Snapshot, TensorSource};
use serde_json::Value;

use crate::error::{Result, TextError};
use weights::GgufWeights;

/// The tokenizer's files; when the first is beside a GGUF file, all of them are taken from there.
const TOKENIZER_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
/// What is taken from beside a GGUF file, if it is there: how the model's makers sample it, which no GGUF says.
const GENERATION_FILE: &str = "generation_config.json";

/// The model in a GGUF file (of a split one, the first): nothing is read yet but headers, and nothing is copied later but what
/// the converter changed. A tokenizer.json beside the file wins over the vocabulary in it; config.json is the file's own.
///
/// # Errors
/// Names the file and the key or tensor at fault, and the architecture when it is not one that is served.
pub fn open(path: &Path) -> Result<Snapshot> {
    let file = GgufFile::open(path)?;
    let row = config::architecture(file.metadata())?;
    let mut files = BTreeMap::new();
    let text = |value: &Value| {
        serde_json::to_vec(value)
            .map_err(|error| TextError::config(path.display().to_string(), error.to_string()))
    };
    files.insert(
        "config.json".to_owned(),
        text(&config::config(&file, row)?)?,
    );
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Snapshot::dir(parent)?,
        _ => Snapshot::dir(".")?,
    };
    let mut take = |name: &str| -> Result<bool> {
        let found = beside.read(name)?;
        let there = found.is_some();
        files.extend(found.map(|bytes| (name.to_owned(), bytes)));
        Ok(there)
    };
    take(GENERATION_FILE)?;
    let [tokenizer, others @ ..] = TOKENIZER_FILES;
    if take(tokenizer)? {
        for name in others {
            take(name)?;
        }
    } else {
        let made = tokenizer::files(file.metadata(), row.sentence_piece)?;
        files.insert(tokenizer.to_owned(), text(&made.tokenizer)?);
        files.insert("tokenizer_config.json".to_owned(), text(&made.config)?);
    }
    let weights: Arc<dyn TensorSource> = Arc::new(GgufWeights::new(file, row)?);
    Ok(Snapshot::composed(
        path.display().to_string(),
        files,
        weights,
    ))
}
