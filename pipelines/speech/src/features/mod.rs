//! Samples into what a model reads: Whisper's log-mel spectrogram ([`Mel`] for one window, [`MelStream`] for a recording
//! of any length) and wav2vec2's normalised samples ([`normalize_samples`]). Knows no model and no tensor library.

mod config;
mod filters;
mod mel;
mod spectrum;
mod wav2vec2;

pub use config::{FeatureError, MelConfig, Wav2Vec2Config};
pub use mel::{Mel, MelStream, MelWindow, loudest, normalize};
pub use wav2vec2::normalize_samples;
