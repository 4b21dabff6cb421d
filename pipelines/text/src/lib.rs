//! Language models as a step machine: one decoder that every family is a setting of, tokenizer and chat template as
//! Hugging Face has them, and a batch that requests join and leave at every step.

mod answer;
mod batch;
pub mod chat;
pub mod config;
mod constraint;
pub mod decoder;
mod deliver;
pub mod error;
mod failure;
mod generation;
pub mod gguf;
mod launched;
mod load;
mod parking;
mod pipeline;
mod planning;
mod prepare;
mod prepared;
mod quantize;
mod ranking;
mod row;
mod running;
mod speculation;
mod stop;
pub mod tokenizer;

pub use launched::Drawing;
pub use load::TextOptions;
pub use pipeline::{BatchLimits, TextPipeline};
pub use prepare::TextPreparer;
pub use prepared::TextPrepared;
