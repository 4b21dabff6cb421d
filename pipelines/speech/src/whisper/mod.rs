//! Whisper: its files, encoder and decoder; how tokens are chosen, and how they become segments and words with times.

pub mod asked;
pub mod caches;
pub mod chunks;
pub mod config;
pub mod decoder;
pub mod decoding;
pub mod encoder;
pub mod fallback;
pub mod generation;
pub mod languages;
pub mod model;
pub mod preprocessing;
pub mod prompt;
pub mod rules;
pub mod segment;
pub mod sequential;
pub mod serving;
mod stack;
pub mod timing;
pub mod tokenizer;
pub mod tokens;

pub use config::WhisperConfig;
pub use generation::Generation;
pub use model::{Description, Whisper};
pub use tokenizer::Tokenizer;
pub use tokens::{Language, SpecialTokens, Task};
