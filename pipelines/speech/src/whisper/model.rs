//! A Whisper model as it is loaded: what its files say, encoder and decoder.
//! Apart from decoding, which is handed the parts that it needs.

use std::sync::Arc;

use chandler_nn::weights::quantize::Role;
use chandler_nn::weights::{Snapshot, TensorSource};

use super::config::WhisperConfig;
use super::decoder::Decoder;
use super::encoder::Encoder;
use super::generation::Generation;
use super::preprocessing::Timing;
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::layers::{Loader, Placement};

/// What a Whisper model's files say, without its weights. Cheap to clone; `Send + Sync`.
#[derive(Debug, Clone)]
pub struct Description {
    /// Sizes.
    pub config: Arc<WhisperConfig>,
    /// Special tokens and what is never written.
    pub generation: Arc<Generation>,
    /// How samples, frames and seconds relate.
    pub timing: Timing,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl Description {
    /// Reads a snapshot's JSON files.
    ///
    /// # Errors
    /// Names the file and field at fault.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let config = WhisperConfig::from_snapshot(snapshot)?;
        let tokenizer = Tokenizer::from_snapshot(snapshot)?;
        Ok(Self {
            generation: Arc::new(Generation::from_snapshot(snapshot, &config, &tokenizer)?),
            timing: Timing::from_snapshot(snapshot, &config)?,
            config: Arc::new(config),
            tokenizer: Arc::new(tokenizer),
        })
    }
}

/// A loaded model.
pub struct Whisper {
    /// What its files say.
    pub description: Description,
    /// The encoder.
    pub encoder: Encoder,
    /// The decoder.
    pub decoder: Decoder,
    /// Where it is.
    pub placement: Placement,
}

/// What names of tensors begin with: as `WhisperForConditionalGeneration` is saved, and as `WhisperModel` is.
const PREFIXES: [&str; 2] = ["model.", ""];

impl Whisper {
    /// Builds the model from a source of tensors.
    ///
    /// # Errors
    /// A tensor that is missing, or whose shape or dtype is not what config.json says.
    pub fn load(
        description: Description,
        source: &dyn TensorSource,
        placement: Placement,
    ) -> Result<Self> {
        let loader = Loader {
            source,
            placement: &placement,
            prefix: prefix(source),
        };
        let encoder = Encoder::load(&description.config, &loader)?;
        let decoder = Decoder::load(&description.config, &loader)?;
        Ok(Self {
            description,
            encoder,
            decoder,
            placement,
        })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.encoder.bytes() + self.decoder.bytes()
    }
}

fn prefix(source: &dyn TensorSource) -> &'static str {
    let there = |prefix: &&&str| source.contains(&format!("{prefix}decoder.embed_tokens.weight"));
    let found = PREFIXES.iter().find(there).or(PREFIXES.first());
    found.copied().unwrap_or_default()
}

/// The tensor whose dtype is the checkpoint's.
pub fn stored_dtype(source: &dyn TensorSource) -> Result<candle_core::DType> {
    let name = format!("{}decoder.embed_tokens.weight", prefix(source));
    Ok(source.tensor(&name)?.dtype())
}

/// What a tensor is to quantise-on-load. Convolutions and positions stay as they are: they are a small part of the bytes, and
/// the convolutions' sums are long.
pub fn quantize_role(name: &str, config: &WhisperConfig) -> Role {
    let Some(stem) = name.strip_suffix(".weight") else {
        return Role::Kept;
    };
    match stem.rsplit('.').next().unwrap_or(stem) {
        "q_proj" | "k_proj" | "v_proj" | "out_proj" | "fc1" | "fc2" => Role::Matrix,
        "proj_out" => Role::Head,
        // A table that is the head too is read whole for every token; otherwise a row of it is.
        "embed_tokens" if config.tied => Role::Head,
        _ => Role::Kept,
    }
}
