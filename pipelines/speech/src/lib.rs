//! Speech recognition: what audio is turned into, the models that read it, and how their tokens become a transcript with times.

pub mod ctc;
pub mod error;
mod fields;
pub mod layers;
pub mod whisper;
