//! A request's wishes about voice activity as the detector takes them. Apart from the detector, which knows no request.

use chandler_core::{LongForm, RequestError, VoiceActivity};

use super::Ear;
use crate::vad::VadOptions;

/// What the detector hears.
const RATE: u32 = 16_000;
/// A pause where audio may be cut into chunks, as faster-whisper's batched pipeline has it.
const CHUNK_PAUSE_MS: u32 = 160;

/// How speech is to be found, where that is wanted: for its own sake, or because audio longer than `window` seconds is cut there.
///
/// # Errors
/// [`RequestError`] when the model hears at another rate than the detector.
pub(crate) fn vad_options(
    asked: Option<VoiceActivity>,
    long_form: LongForm,
    (ear, window): (&Ear, f64),
) -> Result<Option<VadOptions>, RequestError> {
    let chunks = long_form == LongForm::Chunks;
    if asked.is_none() && !chunks {
        return Ok(None);
    }
    if ear.sample_rate != RATE {
        let message = format!(
            "voice activity is found at {RATE} Hz, and this model hears at {}",
            ear.sample_rate
        );
        return Err(RequestError::unsupported("vad_filter", message));
    }
    let asked = asked.unwrap_or_default();
    let default = VadOptions::default();
    let pause = match chunks {
        true => CHUNK_PAUSE_MS,
        false => default.min_silence_duration_ms,
    };
    let pad = asked.speech_pad_ms.unwrap_or(default.speech_pad_ms);
    // The shortest that the detector takes with such padding.
    let least = pad as f32 / 500.0 + 1.0;
    let longest = chunks.then(|| (window as f32).max(least));
    Ok(Some(VadOptions {
        threshold: asked.threshold.unwrap_or(default.threshold),
        neg_threshold: asked.neg_threshold,
        min_speech_duration_ms: asked
            .min_speech_duration_ms
            .unwrap_or(default.min_speech_duration_ms),
        max_speech_duration_s: asked.max_speech_duration_s.or(longest),
        min_silence_duration_ms: asked.min_silence_duration_ms.unwrap_or(pause),
        speech_pad_ms: pad,
    }))
}
