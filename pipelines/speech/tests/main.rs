//! The tests of the speech crate against what public libraries gave, as one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod decoding;
mod features;
mod hostile;
mod resample;
mod vad;
