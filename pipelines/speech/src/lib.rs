//! Speech recognition: what audio is turned into, the models that read it, and how their tokens become a transcript with times.

pub mod audio;
pub mod ctc;
pub mod error;
pub mod features;
mod fields;
pub mod layers;
pub mod vad;
pub mod whisper;
