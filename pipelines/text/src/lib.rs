//! Language models as a step machine: one decoder that every family is a setting of, tokenizer and chat template as
//! Hugging Face has them, sampling, and a batch that requests join and leave at every step.

mod answer;
mod batch;
pub mod chat;
pub mod config;
mod constraint;
pub mod decoder;
pub mod error;
mod generation;
mod load;
mod pipeline;
mod prepare;
mod row;
pub mod sampling;
mod stop;
pub mod tokenizer;

pub use load::{BLOCK_SIZE, LoadStep, TextOptions};
pub use pipeline::{BatchLimits, TextPipeline};
pub use prepare::{TextPrepared, TextPreparer};
