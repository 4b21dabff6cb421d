//! What a model is loaded with, and how an engine for it is started.

use std::path::PathBuf;

use chandler_core::mock::{MockOptions, MockPipeline};

use super::{Engine, EngineOptions, Loaded, Stage};
use crate::weights::{Resolved, Source};

/// How a model is to be run; every field has been checked as far as that goes without the model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Whether `auto` may be the CPU in a build with CUDA that finds no usable GPU.
    pub allow_cpu: bool,
    /// What is set up on a GPU, by name with commas between; `default`, or `none`.
    pub cuda_tuning: String,
    /// `auto`, `f32`, `f16` or `bf16`.
    pub dtype: String,
    /// A context window shorter than the model's, in tokens.
    pub max_model_len: Option<usize>,
    /// Rows at once.
    pub max_rows: usize,
    /// Prompt tokens per step.
    pub prefill_chunk: usize,
    /// Bytes of key-value cache.
    pub kv_cache_bytes: Option<u64>,
    /// Whether full cache blocks are kept for requests that begin alike.
    pub prefix_cache: bool,
    /// Tokens that each answer is guessed ahead; 0 guesses nothing.
    pub speculate: usize,
    /// `q4k` or `q8_0`: matrices are quantised while loading.
    pub quantize: Option<String>,
    /// Where results of work that need not be done twice are kept.
    pub cache_dir: Option<PathBuf>,
    /// CPU threads for arithmetic; one per core when not given.
    pub threads: Option<usize>,
    /// Adapters (LoRA) by name, and their directories.
    pub adapters: Vec<(String, PathBuf)>,
}

/// Words that the mock reads when nobody says.
const MOCK_CONTEXT: usize = 4096;

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: "auto".to_owned(),
            allow_cpu: false,
            cuda_tuning: "default".to_owned(),
            dtype: "auto".to_owned(),
            max_model_len: None,
            max_rows: 32,
            prefill_chunk: 256,
            kv_cache_bytes: None,
            prefix_cache: true,
            speculate: 0,
            quantize: None,
            cache_dir: None,
            threads: None,
            adapters: Vec::new(),
        }
    }
}

/// Starts an engine for a model. Returns at once; what goes wrong while loading is the engine's status.
pub fn start(resolved: Resolved, load: LoadOptions, options: EngineOptions) -> Engine {
    Engine::launch(options, move |progress| match resolved.source {
        Source::Mock => {
            progress.stage(Stage::BuildingModel);
            Ok(Loaded::new(MockPipeline::new(MockOptions {
                rows: load.max_rows,
                context_length: load.max_model_len.unwrap_or(MOCK_CONTEXT),
                ..MockOptions::default()
            })))
        }
        #[cfg(feature = "text")]
        Source::Snapshot(snapshot) => super::registry::load(&snapshot, &load, progress),
        #[cfg(feature = "text")]
        Source::Gguf(path) => super::registry::load_gguf(&path, &load, progress),
    })
}
