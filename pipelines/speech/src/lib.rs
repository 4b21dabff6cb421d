//! Speech recognition: what audio is turned into, the models that read it, and how their tokens become a transcript with times.

pub mod audio;
pub mod ctc;
pub mod error;
mod failure;
pub mod features;
pub mod layers;
mod listening;
mod load;
mod repetition;
mod sample;
pub mod vad;
pub mod whisper;

pub use ctc::serving::{CtcPipeline, CtcPrepared, CtcPreparer};
pub use load::SpeechOptions;
pub use whisper::serving::{WhisperPipeline, WhisperPrepared, WhisperPreparer};
