//! The tests of the text pipeline against what public libraries gave, as one binary so that candle is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batching;
mod chat;
mod families;
mod hostile;
mod parity;
mod sampling;
mod structure;
mod tokenizer;
mod tools;
