//! Which pipeline serves which architecture, as a table. A modality registers itself here and nowhere else.

use std::path::Path;

use chandler_core::LoadError;
use chandler_nn::weights::Snapshot;

use super::load::LoadOptions;
use super::{LoadProgress, Loaded, load_text};

type Load = fn(&Snapshot, &LoadOptions, &LoadProgress<'_>) -> Result<Loaded, LoadError>;

/// A pipeline, and the architectures in config.json that it serves.
struct Registered {
    serves: fn(&str) -> bool,
    load: Load,
}

const PIPELINES: &[Registered] = &[Registered {
    serves: |architecture| chandler_text::config::architectures().any(|a| a == architecture),
    load: load_text::load,
}];

/// Loads a snapshot with the pipeline that serves its architecture.
pub(super) fn load(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    let architecture = architecture(snapshot)?;
    match PIPELINES.iter().find(|p| (p.serves)(&architecture)) {
        Some(pipeline) => (pipeline.load)(snapshot, options, progress),
        None => Err(LoadError(format!(
            "config.json: architectures: {architecture} is not served; {} are",
            chandler_text::config::architectures()
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Loads a GGUF file. Every model that llama.cpp has is a language model here, so that no other pipeline is asked.
pub(super) fn load_gguf(
    path: &Path,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    let snapshot = chandler_text::gguf::open(path).map_err(|error| LoadError(error.to_string()))?;
    load(&snapshot, options, progress)
}

fn architecture(snapshot: &Snapshot) -> Result<String, LoadError> {
    let bytes = snapshot
        .read("config.json")
        .map_err(|error| LoadError(error.to_string()))?
        .ok_or_else(|| {
            LoadError(format!(
                "{snapshot} has no config.json; a model in the Hugging Face layout does"
            ))
        })?;
    let config: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| LoadError::context("config.json", error))?;
    config
        .pointer("/architectures/0")
        .and_then(|name| name.as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            LoadError(
                "config.json: architectures is missing; it names the model's class".to_owned(),
            )
        })
}
