//! The tests of the text pipeline against what public libraries gave, as one binary so that candle is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ahead;
mod batching;
mod best_of;
mod chat;
mod drive;
mod families;
mod gguf;
mod hostile;
mod int8;
mod lora;
#[path = "../../nn/tests/on_device/mod.rs"]
mod on_device;
mod parity;
mod parking;
mod reuse;
mod sampling;
mod speculation;
mod structure;
mod tokenizer;
mod tools;
