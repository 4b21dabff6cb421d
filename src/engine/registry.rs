//! Which pipeline serves which architecture, as a table. A modality registers itself here and nowhere else.

use std::path::Path;

use chandler_core::LoadError;
use chandler_nn::weights::Snapshot;

use super::load::LoadOptions;
#[cfg(feature = "image")]
use super::load_image;
#[cfg(feature = "speech")]
use super::load_speech;
#[cfg(feature = "text")]
use super::load_text;
use super::{LoadProgress, Loaded};

type Load = fn(&Snapshot, &LoadOptions, &LoadProgress<'_>) -> Result<Loaded, LoadError>;

/// A pipeline, and the architectures in config.json, or the classes in model_index.json, that it serves.
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
    #[cfg(feature = "image")]
    Registered {
        architectures: || chandler_image::model_index::classes().collect(),
        load: load_image::load,
    },
];

/// What a model of one part says its class in, and a model of several parts.
const FILES: [(&str, &str); 2] = [
    ("model_index.json", "/_class_name"),
    ("config.json", "/architectures/0"),
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
                "models of class {architecture} are not served; {} are",
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

/// Loads a safetensors file that is a model of its own, which only diffusion models are.
pub(super) fn load_checkpoint(
    path: &Path,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    #[cfg(feature = "image")]
    {
        let snapshot = chandler_image::single_file::open(path)
            .map_err(|error| LoadError(error.to_string()))?;
        load(&snapshot, options, progress)
    }
    #[cfg(not(feature = "image"))]
    {
        let _ = (options, progress);
        let message =
            "this build has no image models (feature `image`), and a safetensors file alone is one";
        Err(LoadError(format!("{}: {message}", path.display())))
    }
}

fn architecture(snapshot: &Snapshot) -> Result<String, LoadError> {
    for (file, field) in FILES {
        let read = snapshot.read(file);
        let Some(bytes) = read.map_err(|error| LoadError(error.to_string()))? else {
            continue;
        };
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| LoadError::context(file, error))?;
        let name = json.pointer(field).and_then(|name| name.as_str());
        return name.map(str::to_owned).ok_or_else(|| {
            let field = field.trim_start_matches('/').trim_end_matches("/0");
            LoadError(format!(
                "{file}: {field} is missing; it names the model's class"
            ))
        });
    }
    Err(LoadError(format!(
        "{snapshot} has no config.json and no model_index.json; a model in the Hugging Face layout has one of them"
    )))
}
