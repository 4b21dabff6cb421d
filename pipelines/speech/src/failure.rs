//! What a failed pass or load means: memory that ran out, a device that is gone, or something that other requests may not meet.

use candle_core::Device;
use chandler_core::StepError;
use chandler_nn::device;
use chandler_nn::device::trouble::{self, Consequence};
use chandler_nn::error::NnError;

use crate::error::SpeechError;

/// What the failure of a pass means for its batch.
pub(crate) fn of_pass(error: &SpeechError) -> StepError {
    let text = error.to_string();
    if let SpeechError::Nn(NnError::HostMemory { .. }) = error {
        return StepError::OutOfMemory(text);
    }
    match trouble::of(&text).map(|trouble| trouble.consequence) {
        Some(Consequence::OutOfMemory) => StepError::OutOfMemory(trouble::explain(&text)),
        Some(Consequence::Lost) => StepError::Fatal(trouble::explain(&text)),
        // A kernel that this GPU has no code for: the requests that need it fail, the others do not.
        Some(Consequence::Setup) | None => StepError::Batch(trouble::explain(&text)),
    }
}

/// The error of a load, with sizes where memory ran out; `needed` are the bytes of weights and caches.
pub(crate) fn while_loading(error: SpeechError, needed: u64, device: &Device) -> SpeechError {
    let text = error.to_string();
    let Some(trouble) = trouble::of(&text) else {
        return error;
    };
    let mebibytes = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    let sizes = match (&trouble.consequence, device::memory(device)) {
        (Consequence::OutOfMemory, Some((free, total))) => format!(
            "; weights and caches need about {}, and {} of {} are free",
            mebibytes(needed),
            mebibytes(free),
            mebibytes(total)
        ),
        (Consequence::OutOfMemory, None) => {
            format!("; weights and caches need about {}", mebibytes(needed))
        }
        _ => String::new(),
    };
    NnError::Device(format!("{}{sizes}", trouble::explain(&text))).into()
}
