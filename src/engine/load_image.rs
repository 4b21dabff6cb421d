//! How an image model is loaded from the worker's options: the one place where the two vocabularies meet.

use chandler_core::LoadError;
use chandler_image::{ImageOptions, ImagePipeline};
use chandler_nn::weights::Snapshot;

use super::load::LoadOptions;
use super::{LoadProgress, Loaded};

/// Loads a diffusion model.
pub(super) fn load(
    snapshot: &Snapshot,
    options: &LoadOptions,
    progress: &LoadProgress<'_>,
) -> Result<Loaded, LoadError> {
    options.settle_threads()?;
    if !options.adapters.is_empty() {
        let message = "an image model takes no adapters (LoRA) yet";
        return Err(LoadError::context("lora", message));
    }
    if options.quantize.is_some() {
        let message = "an image model is not quantised while it is loaded: leave it out";
        return Err(LoadError::context("quantize", message));
    }
    if options.max_model_len.is_some() || options.speculate > 0 {
        tracing::warn!(
            "max_model_len and speculate are for language models: an image model has no context"
        );
    }
    let image = ImageOptions {
        device: options.device()?,
        dtype: options.dtype()?,
        max_rows: options.max_rows,
        host_memory: options.host_memory,
        controls: options.controls()?,
    };
    ImagePipeline::load(snapshot, &image, &|step| progress.step(step))
        .map(Loaded::new)
        .map_err(|error| LoadError(error.to_string()))
}
