//! What a model is loaded with, and how an engine for it is started.

use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "models")]
use std::sync::mpsc::channel;
use std::time::Duration;

#[cfg(feature = "models")]
use chandler_core::LoadError;
use chandler_core::mock::{MockArtist, MockOptions, MockPipeline, MockRecogniser};
#[cfg(feature = "models")]
use chandler_nn::device::{DTypeChoice, DeviceOptions};
#[cfg(feature = "models")]
use chandler_nn::weights::{Activations, LoadStep, Snapshot, quantize::Quantize};

use super::{Beside, Engine, EngineOptions, Fetch, Loaded, Stage};
#[cfg(feature = "models")]
use super::{Brought, LoadProgress};
#[cfg(feature = "models")]
use crate::weights;
use crate::weights::store::Fetched;
use crate::weights::{Mock, Source, Wanted};

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
    /// `f32` or `int8`: what quantised weights are multiplied with.
    pub activations: String,
    /// Where results of work that need not be done twice are kept.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of the host's memory that are free for the work, where that is known.
    pub host_memory: Option<u64>,
    /// CPU threads for arithmetic; one per processor that the process may use when not given.
    pub threads: Option<usize>,
    /// Denoising steps of a picture whose request says none.
    pub image_steps: Option<usize>,
    /// Guidance of a picture whose request says none.
    pub image_guidance: Option<f64>,
    /// Whether finished pictures go through a model's safety checker.
    pub safety_checker: bool,
    /// What goes beside the model, and where it is.
    pub beside: Vec<Beside>,
    /// What brings files that are elsewhere.
    pub fetch: Option<Fetch>,
    /// What was fetched besides the model, and must stay as long as it.
    pub kept: Vec<Arc<Fetched>>,
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
            image_steps: None,
            image_guidance: None,
            safety_checker: true,
            speculate: 0,
            quantize: None,
            activations: "f32".to_owned(),
            cache_dir: None,
            host_memory: None,
            threads: None,
            beside: Vec::new(),
            fetch: None,
            kept: Vec::new(),
        }
    }
}

/// A model and where it is.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its files, if they are here.
    pub source: Source,
    /// Where they are, if they are not.
    pub wanted: Wanted,
}

/// Threads that the numeric library below would start by itself, where this build has one.
pub fn library_threads() -> Option<usize> {
    #[cfg(feature = "models")]
    let threads = Some(chandler_nn::device::library_threads());
    #[cfg(not(feature = "models"))]
    let threads = None;
    threads
}

/// Starts an engine for a model. Returns at once; what goes wrong while loading is the engine's status.
pub fn start(model: Model, load: LoadOptions, options: EngineOptions) -> Engine {
    Engine::launch(options, move |progress| match model.source {
        Source::Mock(kind) => {
            progress.stage(Stage::BuildingModel);
            Ok(mock(kind, &load))
        }
        #[cfg(feature = "models")]
        source => with_files(source, &model.wanted, load, progress),
    })
}

fn mock(kind: Mock, load: &LoadOptions) -> Loaded {
    match kind {
        Mock::Image => Loaded::new(MockArtist::new(load.max_rows, Duration::ZERO)),
        Mock::Speech => Loaded::new(MockRecogniser::new(load.max_rows, Duration::ZERO)),
        Mock::Text => Loaded::new(MockPipeline::new(MockOptions {
            rows: load.max_rows,
            context_length: load.max_model_len.unwrap_or(MOCK_CONTEXT),
            ..MockOptions::default()
        })),
    }
}

/// Fetches what is elsewhere, and loads; a model in shards while they come.
#[cfg(feature = "models")]
fn with_files(
    source: Source,
    wanted: &Wanted,
    load: LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    if !matches!(source, Source::Remote) {
        return load.with_others(progress)?.open(&source, progress);
    }
    match load.store()?.begin(wanted, progress)? {
        Brought::Whole(fetched) => {
            let source =
                weights::fetched(&fetched).map_err(|error| LoadError(error.to_string()))?;
            let loaded = load.with_others(progress)?.open(&source, progress)?;
            Ok(loaded.keeping(fetched))
        }
        Brought::Begun(dir, coming) => {
            let arrivals = Arc::new(super::arriving::Shards(coming.arrivals().clone()));
            let source = Source::Snapshot(Snapshot::arriving(dir, arrivals));
            let loaded = std::thread::scope(|scope| {
                // Dropped at the end of the load, also by a panic: then the other thread ends.
                let (_loading, over) = channel();
                let watch = coming.watch();
                scope.spawn(move || watch.follow(progress, &over));
                load.with_others(progress)?.open(&source, progress)
            });
            let fetched = coming.whole(progress);
            // What went wrong with the fetch says more than what loading made of it.
            match (fetched, loaded) {
                (Ok(fetched), Ok(loaded)) => Ok(loaded.keeping(fetched)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            }
        }
    }
}

#[cfg(feature = "models")]
impl LoadProgress<'_> {
    /// What a pipeline tells of its loading.
    pub(super) fn step(&self, step: LoadStep) {
        match step {
            LoadStep::Weights { done, total } => {
                self.stage(Stage::ReadingWeights);
                self.bytes(done, total);
            }
            LoadStep::Quantizing { done, total } => {
                self.stage(Stage::Quantizing);
                self.bytes(done, total);
            }
            LoadStep::Building => self.stage(Stage::BuildingModel),
        }
    }
}

#[cfg(feature = "models")]
impl LoadOptions {
    pub(super) fn store(&self) -> Result<&Fetch, LoadError> {
        let none = || LoadError("there is no store to fetch it".to_owned());
        self.fetch.as_ref().ok_or_else(none)
    }

    /// Sets the threads that arithmetic takes.
    pub(super) fn settle_threads(&self) -> Result<(), LoadError> {
        match self.threads {
            Some(threads) => chandler_nn::device::set_threads(threads)
                .map_err(|error| LoadError::context("threads", error)),
            None => Ok(()),
        }
    }

    pub(super) fn device(&self) -> Result<DeviceOptions, LoadError> {
        let choice = self.device.parse();
        let tuning = self.cuda_tuning.parse();
        Ok(DeviceOptions {
            choice: choice.map_err(|error| LoadError::context("device", error))?,
            allow_cpu: self.allow_cpu,
            tuning: tuning.map_err(|error: String| LoadError::context("cuda_tuning", error))?,
            plain: false,
        })
    }

    pub(super) fn dtype(&self) -> Result<DTypeChoice, LoadError> {
        let choice = self.dtype.parse();
        choice.map_err(|error| LoadError::context("dtype", error))
    }

    pub(super) fn quantize(&self) -> Result<Option<Quantize>, LoadError> {
        let Some(scheme) = &self.quantize else {
            return Ok(None);
        };
        let scheme = scheme.parse();
        Ok(Some(Quantize {
            scheme: scheme.map_err(|error: String| LoadError::context("quantize", error))?,
            cache: self.cache_dir.clone(),
        }))
    }

    pub(super) fn activations(&self) -> Result<Activations, LoadError> {
        let activations = self.activations.parse();
        activations.map_err(|error: String| LoadError::context("activations", error))
    }

    fn open(self, source: &Source, progress: &LoadProgress<'_>) -> Result<Loaded, LoadError> {
        let loaded = match source {
            Source::Snapshot(snapshot) => super::registry::load(snapshot, &self, progress)?,
            Source::Gguf(path) => super::registry::load_gguf(path, &self, progress)?,
            Source::Checkpoint(path) => super::registry::load_checkpoint(path, &self, progress)?,
            Source::Mock(_) | Source::Remote => {
                return Err(LoadError("nothing was fetched".to_owned()));
            }
        };
        Ok(loaded.keeping(self.kept))
    }
}
