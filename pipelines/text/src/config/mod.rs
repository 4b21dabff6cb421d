//! The one decoder's settings, as needed. config.json as written is in `raw`, what it says about each layer in `layers`, and
//! what a family does differently is a row of `families`; what is not understood is an error that names the field, never
//! ignored.

mod families;
mod layers;
mod raw;
mod rope_fields;
#[cfg(test)]
mod tests;

use chandler_nn::activation::Activation;
use chandler_nn::attention::AttentionConfig;
use chandler_nn::norm::NormConfig;
use chandler_nn::rope::RopeConfig;
use chandler_nn::weights::Snapshot;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Result, TextError};
use families::FAMILIES;
pub use families::QueryKeyNorm;
pub(crate) use families::{LayerNames, Names, Packing};

/// The architectures that this crate serves, by their names in config.json.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|family| family.architecture)
}

/// The settings of the decoder.
#[derive(Debug, Clone)]
pub struct DecoderConfig {
    /// The architecture's name.
    pub architecture: String,
    /// Tokens that embedding and head have rows for.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// The layers, first to last.
    pub layers: Vec<LayerConfig>,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Every norm.
    pub norm: NormConfig,
    /// The norm of queries and keys.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Rotary embeddings, as layers refer to them; none where positions are learned.
    pub ropes: Vec<RopeConfig>,
    /// Tokens of context.
    pub max_position: usize,
    /// What a longer context than `max_position` needs, where the model has such a setting.
    pub extended: Option<Extended>,
    /// Rows of the table of learned positions.
    pub learned_positions: Option<usize>,
    /// What embeddings are multiplied by.
    pub embedding_scale: Option<f64>,
    /// Logits become cap·tanh(logit / cap).
    pub final_softcap: Option<f32>,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Biases of the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias of the output projection.
    pub output_bias: bool,
    /// Biases of the feed-forward layer.
    pub mlp_bias: bool,
    /// The feed-forward layer's activation.
    pub activation: Activation,
    /// Tokens that end an answer, when there is no generation_config.json.
    pub eos: Vec<u32>,
    /// What the family calls its tensors.
    pub(crate) names: Names,
}

/// The settings of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerConfig {
    /// Scale, window and soft cap.
    pub attention: AttentionConfig,
    /// Which of the model's rotary embeddings turns its queries and keys, if any.
    pub rope: Option<usize>,
    /// What follows the attention.
    pub feed_forward: FeedForwardConfig,
}

/// A feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForwardConfig {
    /// down(activation(gate(x)) · up(x))
    Gated {
        /// Outputs of gate and up.
        width: usize,
    },
    /// down(activation(up(x)))
    Plain {
        /// Outputs of up.
        width: usize,
    },
    /// Gated ones, of which a router chooses a few for each row.
    Experts(ExpertsConfig),
}

/// Experts and their router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// Outputs of an expert's gate and up.
    pub width: usize,
    /// Experts.
    pub count: usize,
    /// Experts that a row goes through.
    pub per_token: usize,
    /// Whether the chosen experts' shares are made to add up to 1.
    pub normalised: bool,
}

/// The other setting of a model that has one for short contexts and one for long ones (longrope).
#[derive(Debug, Clone, PartialEq)]
pub struct Extended {
    /// Tokens of context.
    pub max_position: usize,
    /// In place of [`DecoderConfig::ropes`].
    pub ropes: Vec<RopeConfig>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    pub(crate) fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// Sizes past these are a damaged or hostile file; the largest models in use are a tenth of them.
const MOST_WIDTH: usize = 1 << 20;
const MOST_LAYERS: usize = 1 << 12;
const MOST_EXPERTS: usize = 1 << 12;
const MOST_POSITIONS: usize = 1 << 26;

/// A JSON file of a snapshot.
pub(crate) fn parse<T: DeserializeOwned>(snapshot: &Snapshot, file: &str) -> Result<Option<T>> {
    let Some(bytes) = snapshot.read(file)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| TextError::config(file, format!("{error}")))
}

impl DecoderConfig {
    /// Reads a snapshot's config.json.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let written: Map<String, Value> = parse(snapshot, "config.json")?.ok_or_else(|| {
            TextError::config(
                "config.json",
                format!("{snapshot} has none; a model in the Hugging Face layout does"),
            )
        })?;
        raw::read(written)
    }

    /// The same model for a context of `asked` tokens, or of its own choice.
    ///
    /// A longrope model has one list of factors for sequences within its trained length and another for longer ones, and
    /// transformers computes a sequence anew when it outgrows the first. Here keys are never computed anew, so the context
    /// decides for all sequences, as in vLLM: up to the trained length, which is what is served when nothing is asked, the
    /// short factors; past it the long ones.
    ///
    /// # Errors
    /// Names `max_model_len` when it is not within what the model can do.
    pub fn for_context(mut self, asked: Option<usize>) -> Result<Self> {
        let Some(asked) = asked else {
            return Ok(self);
        };
        let longest = self.extended.as_ref().map(|longer| longer.max_position);
        let most = longest.unwrap_or(self.max_position);
        if !(2..=most).contains(&asked) {
            return Err(TextError::config(
                "max_model_len",
                format!("{asked} is not between 2 and {most}, the context that config.json states"),
            ));
        }
        if let Some(longer) = self.extended.take_if(|_| asked > self.max_position) {
            self.ropes = longer.ropes;
        }
        self.max_position = asked;
        Ok(self)
    }
}

fn field(name: &str) -> String {
    format!("config.json: {name}")
}

fn between(name: &str, value: usize, most: usize) -> Result<usize> {
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(TextError::config(
            field(name),
            format!("{value} is not between 1 and {most}"),
        ))
    }
}
