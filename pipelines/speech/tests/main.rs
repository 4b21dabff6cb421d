//! The tests of the speech crate against what public libraries gave, as one binary so that candle is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ctc;
mod decoding;
mod features;
mod hostile;
#[path = "../../nn/tests/on_device/mod.rs"]
mod on_device;
mod resample;
mod serving;
mod vad;
mod whisper;
