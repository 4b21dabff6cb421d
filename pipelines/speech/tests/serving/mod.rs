//! Whole requests through the pipelines, as the engine drives them: the contract of every pipeline, and what requests may ask for.

mod ctc;
mod driver;
mod reference;
mod whisper;
