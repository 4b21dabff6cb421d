//! What a failed pass, load or reset means to the engine: memory that ran out, with what was needed and what is free; a device that is
//! gone; or something that other requests may not meet. Apart from `trouble`, which knows CUDA's errors and no engine.

use candle_core::Device;
use chandler_core::StepError;

use super::trouble::{self, Consequence};
use crate::error::NnError;

/// What the failure of a pass means for its batch. `host` is the error where it is one of this crate; `sizes` says what the pass needed,
/// where memory ran out.
pub fn of_pass(text: &str, host: Option<&NnError>, sizes: impl FnOnce() -> String) -> StepError {
    if let Some(NnError::HostMemory { .. }) = host {
        return StepError::OutOfMemory(text.to_owned());
    }
    match trouble::of(text).map(|trouble| trouble.consequence) {
        Some(Consequence::OutOfMemory) => {
            StepError::OutOfMemory(format!("{}{}", trouble::explain(text), sizes()))
        }
        Some(Consequence::Lost) => StepError::Fatal(trouble::explain(text)),
        // A kernel that this GPU has no code for: the requests that need it fail, the others do not.
        Some(Consequence::Setup) | None => StepError::Batch(trouble::explain(text)),
    }
}

/// The error of a load in plain words, with sizes where memory ran out; `needed` are the bytes of weights and cache. None for an error
/// that says enough by itself.
pub fn while_loading(text: &str, needed: u64, device: &Device) -> Option<NnError> {
    let trouble = trouble::of(text)?;
    let sizes = match trouble.consequence {
        Consequence::OutOfMemory => format!(
            "; weights and cache need about {}{}",
            mebibytes(needed),
            free(device)
        ),
        Consequence::Lost | Consequence::Setup => String::new(),
    };
    Some(NnError::Device(format!(
        "{}{sizes}",
        trouble::explain(text)
    )))
}

/// Waits for the device: an error of CUDA that no other call gets past is only seen then.
///
/// # Errors
/// [`StepError::Fatal`] when it does not come back.
pub fn recover(device: &Device) -> Result<(), StepError> {
    super::recover(device).map_err(|error| StepError::Fatal(trouble::explain(&error.to_string())))
}

/// How much of the device's memory is free, where it can be asked: `, and 3 MiB of 9 MiB are free`.
pub fn free(device: &Device) -> String {
    match super::memory(device) {
        Some((free, total)) => {
            format!(", and {} of {} are free", mebibytes(free), mebibytes(total))
        }
        None => String::new(),
    }
}

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
