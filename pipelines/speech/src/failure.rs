//! What a failed pass or load of a speech model means. Apart from the pipelines, which only ask.

use candle_core::Device;
use chandler_core::StepError;
use chandler_nn::device::failure;

use crate::error::SpeechError;

/// What the failure of a pass means for its batch.
pub(crate) fn of_pass(error: &SpeechError) -> StepError {
    let nn = match error {
        SpeechError::Nn(nn) => Some(nn),
        _ => None,
    };
    failure::of_pass(&error.to_string(), nn, String::new)
}

/// The error of a load, with sizes where memory ran out; `needed` are the bytes of weights and caches.
pub(crate) fn while_loading(error: SpeechError, needed: u64, device: &Device) -> SpeechError {
    let told = failure::while_loading(&error.to_string(), needed, device);
    told.map_or(error, SpeechError::from)
}
