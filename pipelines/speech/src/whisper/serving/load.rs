//! From a snapshot to a pipeline: read the small files, bring the weights in, size the caches.

use candle_core::DType;
use chandler_core::{CacheSize, ModelInfo};
use chandler_nn::weights::{LoadStep, Snapshot};

use super::pipeline::WhisperPipeline;
use super::prepare::WhisperPreparer;
use crate::error::{Result, SpeechError};
use crate::failure;
use crate::features::{Mel, MelConfig};
use crate::listening::Ear;
use crate::load::{DEFAULT_CACHE_BYTES, SpeechOptions, open};
use crate::whisper::caches::{CacheLimits, Caches};
use crate::whisper::config::{ARCHITECTURE, WhisperConfig};
use crate::whisper::decoding::{BatchLimits, DecodingBatch};
use crate::whisper::model::{Description, Whisper, quantize_role, stored_dtype};
use chandler_nn::fields::Fields;

/// Windows whose encoding is at hand, at most.
const WINDOWS: usize = 8;
/// Windows that a GPU encodes together; a CPU is kept busy by one.
const TOGETHER: usize = 4;

impl WhisperPipeline {
    /// Loads a Whisper model.
    ///
    /// # Errors
    /// Names the file and field, tensor or device at fault.
    pub fn load(
        snapshot: &Snapshot,
        options: &SpeechOptions,
        progress: &(dyn Fn(LoadStep) + Sync),
    ) -> Result<Self> {
        let description = Description::from_snapshot(snapshot)?;
        let ear = Ear::mel(Mel::new(mel_config(snapshot, &description)?));
        let role = |name: &str| quantize_role(name, &description.config);
        let opened = open(snapshot, options, (stored_dtype, &role), progress)?;
        let activations = opened.placement.activations();
        let limits = limits(
            &description.config,
            options,
            activations,
            opened.device().is_cpu(),
        )?;
        let bytes = Caches::bytes_for(&description.config, limits.caches, activations);
        let needed = opened.weight_bytes() + bytes as u64;
        let info = info(
            opened.info(ARCHITECTURE, languages(&description)),
            &description,
            (limits, bytes),
        );
        let (device, parking) = (opened.device().clone(), opened.parking());
        let explain = |error| failure::while_loading(error, needed, &device);
        let model = Whisper::load(
            description.clone(),
            opened.weights.as_ref(),
            opened.placement,
        );
        let model = model.map_err(explain)?;
        let batch = DecodingBatch::new(&model, limits).map_err(explain)?;
        let preparer = WhisperPreparer::new(description, ear, info, limits.caches.sequences);
        Ok(Self {
            model,
            batch,
            preparer: preparer.into(),
            running: Vec::new(),
            turn: 0,
            parking,
        })
    }
}

fn languages(description: &Description) -> Vec<String> {
    let generation = &description.generation;
    match generation.multilingual {
        true => generation
            .tokens
            .languages
            .iter()
            .map(|one| one.code.clone())
            .collect(),
        false => Vec::new(),
    }
}

fn info(
    base: ModelInfo,
    description: &Description,
    (limits, bytes): (BatchLimits, usize),
) -> ModelInfo {
    let positions = description.config.target_positions;
    ModelInfo {
        context_length: positions,
        vocab_size: description.config.vocab_size,
        cache: Some(CacheSize {
            bytes: bytes as u64,
            blocks: limits.caches.windows,
            tokens: positions * limits.caches.sequences,
        }),
        ..base
    }
}

/// preprocessor_config.json as the spectrogram's side reads it; a checkpoint without one is made as Whisper's own are, with its bins.
fn mel_config(snapshot: &Snapshot, description: &Description) -> Result<MelConfig> {
    const FILE: &str = "preprocessor_config.json";
    let fields = Fields::read(snapshot, FILE)?;
    let bins = description.config.mel_bins;
    let timing = &description.timing;
    let window_samples = timing.window_frames * timing.hop;
    let json = match fields {
        Some(fields) => fields.into_value(),
        None => serde_json::json!({}),
    };
    let read = MelConfig::from_json(&json)
        .map_err(|error| SpeechError::config(FILE, error.to_string()))?;
    Ok(MelConfig {
        bins,
        window_samples,
        ..read
    })
}

/// What the batch holds, as far as the budget goes.
fn limits(
    config: &WhisperConfig,
    options: &SpeechOptions,
    dtype: DType,
    is_cpu: bool,
) -> Result<BatchLimits> {
    let budget = options.cache_bytes.unwrap_or(DEFAULT_CACHE_BYTES);
    let mut caches = CacheLimits {
        windows: WINDOWS.min(options.max_rows).max(1),
        sequences: options.max_rows.max(1),
    };
    let bytes = |caches| Caches::bytes_for(config, caches, dtype) as u64;
    while bytes(caches) > budget && (caches.windows > 1 || caches.sequences > 1) {
        caches.windows = caches.windows.div_ceil(2);
        caches.sequences = caches.sequences.div_ceil(2);
    }
    if bytes(caches) > budget {
        let message = format!(
            "{budget} bytes do not hold one window and one transcript, which take {}",
            bytes(caches)
        );
        return Err(SpeechError::config("kv_cache_memory", message));
    }
    Ok(BatchLimits {
        caches,
        prompt_rows: options.prefill_chunk.max(1),
        encoded_together: if is_cpu {
            1
        } else {
            TOGETHER.min(caches.windows)
        },
    })
}
