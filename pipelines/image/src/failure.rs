//! What a failed pass or load of an image model means. Apart from the pipeline, which only asks.

use candle_core::Device;
use chandler_core::StepError;
use chandler_nn::device::failure;

use crate::error::ImageError;

/// What the failure of a pass means for its batch.
pub(crate) fn of_pass(error: &ImageError) -> StepError {
    let nn = match error {
        ImageError::Nn(nn) => Some(nn),
        _ => None,
    };
    failure::of_pass(&error.to_string(), nn, String::new)
}

/// The error of a load, with sizes where memory ran out; `needed` are the bytes of the weights.
pub(crate) fn while_loading(error: ImageError, needed: u64, device: &Device) -> ImageError {
    let told = failure::while_loading(&error.to_string(), needed, device);
    told.map_or(error, ImageError::from)
}
