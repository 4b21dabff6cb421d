//! Speech: from the bytes of an audio file to what a model reads.

pub mod audio;
pub mod features;
pub mod vad;
