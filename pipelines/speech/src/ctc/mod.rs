//! CTC models: wav2vec2 and MMS, which say at every frame which character is spoken. Frames go through a stack of convolutions and a
//! stack of attention once; there is no decoder.

pub mod adapter;
pub mod config;
pub mod encoder;
mod extractor;
pub mod model;
pub mod serving;
pub mod vocabulary;

pub use adapter::Adapter;
pub use config::CtcConfig;
pub use model::{Ctc, Hearing, Spoken};
pub use vocabulary::{CtcText, CtcWord, Vocabularies, Vocabulary};
