//! How a language model is loaded from the worker's options: the one place where the two vocabularies meet.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chandler_core::LoadError;
use chandler_nn::device::DeviceOptions;
use chandler_nn::weights::Snapshot;
use chandler_nn::weights::quantize::Quantize;
use chandler_text::chat::CivilTime;
use chandler_text::{BatchLimits, LoadStep, TextOptions, TextPipeline};

use super::load::LoadOptions;
use super::{LoadProgress, Loaded, Stage};
use crate::weights::Location;

/// Loads a language model.
pub(super) fn load(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    if let Some(threads) = options.threads {
        chandler_nn::device::set_threads(threads).map_err(|e| LoadError::context("threads", e))?;
    }
    let text = TextOptions {
        device: device(options)?,
        dtype: options
            .dtype
            .parse()
            .map_err(|e| LoadError::context("dtype", e))?,
        max_model_len: options.max_model_len,
        limits: BatchLimits {
            max_rows: options.max_rows,
            prefill_chunk: options.prefill_chunk,
            prefix_cache: options.prefix_cache,
            speculate: options.speculate,
        },
        cache_bytes: options.kv_cache_bytes,
        quantize: quantize(options)?,
        clock: Arc::new(now),
        adapters: adapters(options)?,
    };
    let report = |step: LoadStep| match step {
        LoadStep::Weights { done, total } => {
            progress.stage(Stage::ReadingWeights);
            progress.bytes(done, total);
        }
        LoadStep::Quantizing { done, total } => {
            progress.stage(Stage::Quantizing);
            progress.bytes(done, total);
        }
        LoadStep::Building => progress.stage(Stage::BuildingModel),
    };
    TextPipeline::load(snapshot, text, &report)
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}

fn device(options: &LoadOptions) -> Result<DeviceOptions, LoadError> {
    Ok(DeviceOptions {
        choice: options
            .device
            .parse()
            .map_err(|e| LoadError::context("device", e))?,
        allow_cpu: options.allow_cpu,
        tuning: options
            .cuda_tuning
            .parse()
            .map_err(|e: String| LoadError::context("cuda_tuning", e))?,
    })
}

fn quantize(options: &LoadOptions) -> Result<Option<Quantize>, LoadError> {
    let Some(scheme) = &options.quantize else {
        return Ok(None);
    };
    Ok(Some(Quantize {
        scheme: scheme
            .parse()
            .map_err(|e: String| LoadError::context("quantize", e))?,
        cache: options.cache_dir.clone(),
    }))
}

fn adapters(options: &LoadOptions) -> Result<Vec<(String, Snapshot)>, LoadError> {
    let adapters = options.adapters.iter().map(|(name, wanted)| {
        let refuse = |reason: String| LoadError::context(&format!("adapter {name}"), reason);
        let Location::Directory(path) = &wanted.location else {
            return Err(refuse(format!("{} is no directory", wanted.location)));
        };
        let snapshot = Snapshot::dir(path).map_err(|error| refuse(error.to_string()))?;
        Ok((name.clone(), snapshot))
    });
    adapters.collect()
}

/// The date that templates are told.
fn now() -> CivilTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    CivilTime::from_unix_seconds(since.as_secs() as i64)
}
