//! The safety checker of a model, where it has one and the settings want it run. It never fails a load: what cannot be run is passed over
//! with a word about it.

use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;

use super::plan::Plan;
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::safety::{ImageProcessor, SafetyChecker, SafetyConfig};

const FOLDER: &str = "safety_checker";
const CLASS: &str = "StableDiffusionSafetyChecker";
const CONFIG: &str = "safety_checker/config.json";
const PROCESSOR: &str = "feature_extractor/preprocessor_config.json";

/// The checker that finished pictures go through.
///
/// # Errors
/// When model_index.json does not say what the part is.
pub(super) fn checker(
    (snapshot, plan): (&Snapshot, &Plan),
    wanted: bool,
    placement: &Placement,
) -> Result<Option<SafetyChecker>> {
    let Some(class) = plan.index.part(FOLDER)? else {
        return Ok(None);
    };
    if !wanted {
        tracing::warn!("the model's safety checker is not run: the settings say so");
        return Ok(None);
    }
    match load(snapshot, class, placement) {
        Ok(checker) => {
            tracing::info!("finished pictures go through the model's safety checker");
            Ok(Some(checker))
        }
        Err(error) => {
            tracing::warn!(%error, "the model's safety checker is not run: it cannot be loaded");
            Ok(None)
        }
    }
}

fn load(snapshot: &Snapshot, class: &str, placement: &Placement) -> Result<SafetyChecker> {
    if class != CLASS {
        let message = format!("{FOLDER}: class {class:?} is not supported; {CLASS} is");
        return Err(ImageError::Input(message));
    }
    let none = || ImageError::Input(format!("{snapshot} has no {CONFIG}"));
    let config = SafetyConfig::of(&Fields::read(snapshot, CONFIG)?.ok_or_else(none)?)?;
    let processing = Fields::read(snapshot, PROCESSOR)?;
    let processing = processing.unwrap_or_else(|| Fields::none(PROCESSOR));
    let processor = ImageProcessor::of(&processing, config.vision.side)?;
    let weights = snapshot.part(FOLDER).part_weights()?;
    SafetyChecker::load(
        &config,
        processor,
        &Loader::new(weights.as_ref(), placement),
    )
}
