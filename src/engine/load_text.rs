//! How a language model is loaded from the worker's options: the one place where the two vocabularies meet.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chandler_core::LoadError;
use chandler_nn::weights::Snapshot;
use chandler_text::chat::CivilTime;
use chandler_text::{BatchLimits, TextOptions, TextPipeline};

use super::beside::{Role, snapshot};
use super::load::LoadOptions;
use super::{LoadProgress, Loaded};

/// Loads a language model.
pub(super) fn load(
    model: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    options.settle_threads()?;
    options.refuse_all_but(&[Role::Adapter], "a language model")?;
    let text = TextOptions {
        device: options.device()?,
        dtype: options.dtype()?,
        max_model_len: options.max_model_len,
        limits: BatchLimits {
            max_rows: options.max_rows,
            prefill_chunk: options.prefill_chunk,
            prefix_cache: options.prefix_cache,
            speculate: options.speculate,
            drawing: None,
        },
        cache_bytes: options.kv_cache_bytes,
        quantize: options.quantize()?,
        activations: options.activations()?,
        clock: Arc::new(now),
        adapters: adapters(options)?,
    };
    let report = |step| progress.step(step);
    TextPipeline::load(model, text, &report)
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}

fn adapters(options: &LoadOptions) -> Result<Vec<(String, Snapshot)>, LoadError> {
    let file = |_: &Path| {
        Err(
            "a language model's adapter is a directory or repository as peft saves it: leave the file's name out"
                .to_owned(),
        )
    };
    options.opened(Role::Adapter, [&snapshot, &file])
}

/// The date that templates are told.
fn now() -> CivilTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    CivilTime::from_unix_seconds(since.as_secs() as i64)
}
