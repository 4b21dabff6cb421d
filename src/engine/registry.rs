//! Which pipeline serves which architecture, as a table. A modality registers itself here and nowhere else.

use std::path::Path;

use chandler_core::LoadError;
use chandler_nn::weights::Snapshot;

use super::load::LoadOptions;
#[cfg(feature = "speech")]
use super::load_speech;
#[cfg(feature = "text")]
use super::load_text;
use super::{LoadProgress, Loaded};

type Load = fn(&Snapshot, &LoadOptions, &LoadProgress<'_>) -> Result<Loaded, LoadError>;

/// A pipeline, and the architectures in config.json that it serves.
struct Registered {
    architectures: fn() -> Vec<&'static str>,
    load: Load,
}

const PIPELINES: &[Registered] = &[
    #[cfg(feature = "text")]
    Registered {
        architectures: || chandler_text::config::architectures().collect(),
        load: load_text::load,
    },
    #[cfg(feature = "speech")]
    Registered {
        architectures: || vec![chandler_speech::whisper::config::ARCHITECTURE],
        load: load_speech::load_whisper,
    },
    #[cfg(feature = "speech")]
    Registered {
        architectures: || vec![chandler_speech::ctc::config::ARCHITECTURE],
        load: load_speech::load_ctc,
    },
];

/// Loads a snapshot with the pipeline that serves its architecture.
pub(super) fn load(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    let architecture = architecture(snapshot)?;
    let serves = |p: &&Registered| (p.architectures)().contains(&architecture.as_str());
    match PIPELINES.iter().find(serves) {
        Some(pipeline) => (pipeline.load)(snapshot, options, progress),
        None => {
            let all = PIPELINES.iter().flat_map(|p| (p.architectures)());
            Err(LoadError(format!(
                "config.json: architectures: {architecture} is not served; {} are",
                all.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// Loads a GGUF file. Every model that llama.cpp has is a language model here, so that no other pipeline is asked.
pub(super) fn load_gguf(
    path: &Path,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    #[cfg(feature = "text")]
    {
        let snapshot =
            chandler_text::gguf::open(path).map_err(|error| LoadError(error.to_string()))?;
        load(&snapshot, options, progress)
    }
    #[cfg(not(feature = "text"))]
    {
        let _ = (options, progress);
        let message = "this build has no language models (feature `text`), and a GGUF file is one";
        Err(LoadError(format!("{}: {message}", path.display())))
    }
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
