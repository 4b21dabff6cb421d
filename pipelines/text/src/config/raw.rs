//! config.json as written: the family's defaults under it, the family's own names turned into the common ones, and then the
//! settings that all layers share.

use chandler_nn::norm::NormConfig;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::families::{Bias, FAMILIES, Family};
use super::layers::{Layers, Reader};
use super::{
    DecoderConfig, MOST_LAYERS, MOST_POSITIONS, MOST_WIDTH, OneOrMany, architectures, between,
    field,
};
use crate::error::{Result, TextError};

/// The fields that are read, by the names that most families give them.
#[derive(Deserialize)]
pub(super) struct Raw {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: Option<usize>,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f64,
    pub(super) max_position_embeddings: usize,
    pub(super) original_max_position_embeddings: Option<usize>,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    eos_token_id: Option<OneOrMany>,

    pub(super) use_sliding_window: Option<bool>,
    pub(super) sliding_window: Option<usize>,
    pub(super) max_window_layers: Option<usize>,
    pub(super) sliding_window_pattern: Option<usize>,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) no_rope_layers: Option<Vec<u8>>,
    pub(super) no_rope_layer_interval: Option<usize>,

    pub(super) rope_theta: Option<f64>,
    pub(super) rope_local_base_freq: Option<f64>,
    pub(super) rope_scaling: Option<Value>,
    pub(super) rope_parameters: Option<Value>,
    pub(super) partial_rotary_factor: Option<f64>,
    /// transformers' name, which its DeepSeek configurations have: neighbours make a rotated pair.
    pub(super) rope_interleave: Option<bool>,

    pub(super) query_pre_attn_scalar: Option<f64>,
    pub(super) attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    pub(super) scale_attn_weights: Option<bool>,
    pub(super) scale_attn_by_inverse_layer_idx: Option<bool>,

    pub(super) num_experts: Option<usize>,
    pub(super) num_experts_per_tok: Option<usize>,
    pub(super) moe_intermediate_size: Option<usize>,
    pub(super) norm_topk_prob: Option<bool>,
    pub(super) decoder_sparse_step: Option<usize>,
    pub(super) mlp_only_layers: Option<Vec<usize>>,
}

/// Settings that would change the numbers and that the decoder does not have.
const REFUSED: [&str; 2] = ["use_bidirectional_attention", "add_cross_attention"];

/// Reads the contents of a config.json.
pub(super) fn read(written: Map<String, Value>) -> Result<DecoderConfig> {
    let family = family(&written)?;
    let merged = merged(written, family)?;
    refuse_unsupported(&merged)?;
    let raw: Raw = serde_json::from_value(Value::Object(merged))
        .map_err(|error| TextError::config("config.json", format!("{error}")))?;
    raw.settle(family)
        .map_err(|error| in_its_words(error, family))
}

/// An error about a field, by the name that the family gives it.
fn in_its_words(error: TextError, family: &Family) -> TextError {
    match error {
        TextError::Config { field: at, message } => {
            let renamed = family.renamed.iter().find(|(_, ours)| at == field(ours));
            let at = renamed.map_or(at, |(theirs, _)| field(theirs));
            TextError::Config { field: at, message }
        }
        other => other,
    }
}

fn family(written: &Map<String, Value>) -> Result<&'static Family> {
    let known = || architectures().collect::<Vec<_>>().join(", ");
    let named = written.get("architectures").and_then(Value::as_array);
    let [Value::String(name)] = named.map(Vec::as_slice).unwrap_or_default() else {
        return Err(TextError::config(
            field("architectures"),
            format!(
                "{} does not name one architecture; served are {}",
                written.get("architectures").unwrap_or(&Value::Null),
                known()
            ),
        ));
    };
    FAMILIES
        .iter()
        .find(|family| family.architecture == name)
        .ok_or_else(|| {
            TextError::config(
                field("architectures"),
                format!("{name} is not supported; served are {}", known()),
            )
        })
}

/// The decoder's part of the file over the family's defaults, by common names.
fn merged(mut written: Map<String, Value>, family: &Family) -> Result<Map<String, Value>> {
    let fault = |error: serde_json::Error| TextError::config("config.json", format!("{error}"));
    if let Some(name) = family.nested {
        let Some(Value::Object(mut inner)) = written.remove(name) else {
            return Err(TextError::config(
                field(name),
                "it is missing, and holds the settings of the text model",
            ));
        };
        // What the outer model says of all its parts.
        for shared in ["eos_token_id", "tie_word_embeddings", "quantization_config"] {
            if let Some(value) = written.remove(shared) {
                inner.insert(shared.to_owned(), value);
            }
        }
        written = inner;
    }
    let mut all: Map<String, Value> = serde_json::from_str(family.defaults).map_err(fault)?;
    all.append(&mut written);
    for (theirs, ours) in family.renamed {
        if let Some(value) = all.remove(*theirs) {
            all.insert((*ours).to_owned(), value);
        }
    }
    Ok(all)
}

fn refuse_unsupported(merged: &Map<String, Value>) -> Result<()> {
    let present = |name: &str| merged.get(name).filter(|value| !value.is_null());
    if let Some(quantization) = present("quantization_config") {
        let method = quantization
            .get("quant_method")
            .and_then(Value::as_str)
            .unwrap_or("unknown");
        return Err(TextError::config(
            field("quantization_config"),
            format!(
                "weights quantised by {method} are not read; use an f32, f16 or bf16 checkpoint"
            ),
        ));
    }
    for name in REFUSED {
        if let Some(value) = present(name).filter(|value| **value != Value::Bool(false)) {
            return Err(TextError::config(
                field(name),
                format!("{value} is not supported; false is"),
            ));
        }
    }
    Ok(())
}

/// A cap of scores or logits; null and 0 are none.
pub(super) fn cap(name: &str, value: Option<f64>) -> Result<Option<f32>> {
    match value {
        None | Some(0.0) => Ok(None),
        Some(cap) if cap > 0.0 && cap.is_finite() => Ok(Some(cap as f32)),
        Some(cap) => Err(TextError::config(
            field(name),
            format!("{cap} is not a positive number"),
        )),
    }
}

impl Bias {
    fn settle(self, asked: Option<bool>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Asked => asked.unwrap_or(false),
        }
    }
}

/// Heads, and how wide one is.
pub(super) struct Heads {
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) head_dim: usize,
}

impl Raw {
    fn settle(mut self, family: &'static Family) -> Result<DecoderConfig> {
        let hidden_size = between("hidden_size", self.hidden_size, MOST_WIDTH)?;
        let heads = self.heads(hidden_size)?;
        let max_position = between(
            "max_position_embeddings",
            self.max_position_embeddings,
            MOST_POSITIONS,
        )?;
        let count = between("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS)?;
        let Layers {
            layers,
            ropes,
            max_position,
            extended,
        } = Reader {
            raw: &self,
            family,
            heads: &heads,
            count,
            max_position,
        }
        .read()?;
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        Ok(DecoderConfig {
            architecture: family.architecture.to_owned(),
            vocab_size: between("vocab_size", self.vocab_size, MOST_WIDTH * 16)?,
            activation: activation
                .parse()
                .map_err(|error| TextError::config(field("hidden_act"), format!("{error}")))?,
            norm: NormConfig {
                kind: family.norm,
                eps: self.norm_eps()?,
            },
            query_key_norm: family.query_key_norm,
            learned_positions: family.names.positions.map(|_| max_position),
            embedding_scale: family.scaled_embedding.then(|| (hidden_size as f64).sqrt()),
            final_softcap: cap("final_logit_softcapping", self.final_logit_softcapping)?,
            tied: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family.qkv_bias.settle(self.attention_bias),
            output_bias: family.output_bias.settle(self.attention_bias),
            mlp_bias: family.mlp_bias.settle(self.mlp_bias),
            eos: self
                .eos_token_id
                .take()
                .map(OneOrMany::into_vec)
                .unwrap_or_default(),
            names: family.names,
            heads: heads.queries,
            kv_heads: heads.keys,
            head_dim: heads.head_dim,
            hidden_size,
            layers,
            ropes,
            max_position,
            extended,
        })
    }

    fn heads(&self, hidden_size: usize) -> Result<Heads> {
        let queries = between("num_attention_heads", self.num_attention_heads, MOST_WIDTH)?;
        let keys = between(
            "num_key_value_heads",
            self.num_key_value_heads.unwrap_or(queries),
            queries,
        )?;
        if !queries.is_multiple_of(keys) {
            return Err(TextError::config(
                field("num_key_value_heads"),
                format!("{keys} does not divide num_attention_heads, {queries}"),
            ));
        }
        let head_dim = self.head_dim.unwrap_or(hidden_size / queries);
        Ok(Heads {
            head_dim: between("head_dim", head_dim, MOST_WIDTH)?,
            queries,
            keys,
        })
    }

    fn norm_eps(&self) -> Result<f64> {
        if self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0 {
            return Ok(self.rms_norm_eps);
        }
        Err(TextError::config(
            field("rms_norm_eps"),
            format!("{} is not between 0 and 1", self.rms_norm_eps),
        ))
    }

    /// Outputs of a feed-forward layer that is no expert; a plain one is four times as wide as the model if nothing is said.
    pub(super) fn feed_forward_width(&self, plain: bool) -> Result<usize> {
        let usual = Some(self.hidden_size.saturating_mul(4)).filter(|_| plain);
        let width = self.intermediate_size.or(usual).ok_or_else(|| {
            TextError::config(field("intermediate_size"), "it is missing or null")
        })?;
        between("intermediate_size", width, MOST_WIDTH * 4)
    }
}
