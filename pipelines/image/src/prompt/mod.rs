//! Prompts: a text's tokens, their weights, and chunks of as many as the encoder reads. Apart from `text_encoder`, which computes.
//!
//! The way of a prompt through CLIP: [`weighting::parse`] cuts it where its weights change, [`chunks::Chunks::new`] makes windows of
//! tokens, [`chunks::Chunks::pad_to`] gives prompt and negative prompt as many, [`encode::encode`] makes hidden states of them,
//! [`compose`] puts those of several encoders together. T5 reads one long text instead: [`t5_text::T5Text`].

pub mod chunks;
mod clip_files;
pub mod clip_tokenizer;
pub(crate) mod clip_vocabulary;
pub mod compose;
pub mod encode;
mod folder;
mod sentencepiece;
pub mod t5_text;
pub mod t5_tokenizer;
pub mod tags;
pub mod weighting;
