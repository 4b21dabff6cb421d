//! How a speech recogniser is loaded from the worker's options: the one place where the two vocabularies meet.

use chandler_core::LoadError;
use chandler_nn::weights::Snapshot;
use chandler_speech::{CtcPipeline, SpeechOptions, WhisperPipeline};

use super::load::LoadOptions;
use super::{LoadProgress, Loaded};

/// Loads a Whisper model.
pub(super) fn load_whisper(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    let speech = speech_options(options)?;
    WhisperPipeline::load(snapshot, &speech, &|step| progress.step(step))
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}

/// Loads a CTC model.
pub(super) fn load_ctc(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    let speech = speech_options(options)?;
    CtcPipeline::load(snapshot, &speech, &|step| progress.step(step))
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}

fn speech_options(options: &LoadOptions) -> Result<SpeechOptions, LoadError> {
    options.settle_threads()?;
    options.refuse_all_but(&[], "a speech model")?;
    if options.max_model_len.is_some() || options.speculate > 0 {
        tracing::warn!(
            "max_model_len and speculate are for language models: a speech model's window is its own"
        );
    }
    Ok(SpeechOptions {
        device: options.device()?,
        dtype: options.dtype()?,
        max_rows: options.max_rows,
        prefill_chunk: options.prefill_chunk,
        cache_bytes: options.kv_cache_bytes,
        quantize: options.quantize()?,
        activations: options.activations()?,
    })
}
