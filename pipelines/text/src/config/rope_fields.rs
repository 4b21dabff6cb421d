//! The fields that config.json has about rotary embeddings, in both spellings that transformers has used.

use chandler_nn::rope::RopeScaling;
use serde::Deserialize;
use serde_json::Value;

use super::{MOST_POSITIONS, between, field};
use crate::error::{Result, TextError};

/// `rope_scaling` of transformers 4 and `rope_parameters` of transformers 5.
#[derive(Deserialize, Clone, Default)]
pub(super) struct Rope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    #[serde(rename = "type")]
    old_type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    short_factor: Option<Vec<f64>>,
    long_factor: Option<Vec<f64>>,
    llama_4_scaling_beta: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
}

/// The lengths that a kind of scaling may depend on.
pub(super) struct Lengths {
    /// `max_position_embeddings`
    pub(super) max_position: usize,
    /// `original_max_position_embeddings`, where it stands outside; it counts before the one inside.
    pub(super) trained: Option<usize>,
    /// Whether more than the trained length is served.
    pub(super) long: bool,
    /// Numbers of a head that are rotated.
    pub(super) rotary_dim: usize,
}

impl Rope {
    /// What is written for layers with a window, or for those without. transformers 5 may nest it by `layer_types`; what is
    /// not nested is for all layers, or for those without a window where `parted` says that the others have a base of their own.
    pub(super) fn read(written: Option<&Value>, windowed: bool, parted: bool) -> Result<Self> {
        const KINDS: [&str; 2] = ["full_attention", "sliding_attention"];
        let written = match written {
            Some(all) if KINDS.iter().any(|kind| all.get(kind).is_some()) => all.get(if windowed {
                "sliding_attention"
            } else {
                "full_attention"
            }),
            _ if parted => None,
            flat => flat,
        };
        match written {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(value) => serde_json::from_value(value.clone()).map_err(|error| {
                TextError::config(
                    field("rope_parameters (or rope_scaling)"),
                    format!("{error}"),
                )
            }),
        }
    }

    /// The first Phi-3 checkpoints say `su`, and some `yarn`, for what is called longrope since.
    fn kind(&self) -> &str {
        let kind = self.rope_type.as_deref().or(self.old_type.as_deref());
        match kind.unwrap_or("default") {
            "su" => "longrope",
            "yarn" if self.short_factor.is_some() => "longrope",
            kind => kind,
        }
    }

    fn need(&self, name: &str, value: Option<f64>) -> Result<f64> {
        let kind = self.kind();
        match value {
            Some(v) if v > 0.0 && v.is_finite() => Ok(v),
            Some(v) => Err(TextError::config(
                field(name),
                format!("{v} is not a positive number"),
            )),
            None => Err(TextError::config(
                field(name),
                format!("rope type {kind} needs it"),
            )),
        }
    }

    /// The kind of scaling, with what it needs.
    pub(super) fn scaling(&self, lengths: &Lengths) -> Result<RopeScaling> {
        if let Some(beta) = self.llama_4_scaling_beta {
            return Err(TextError::config(
                field("llama_4_scaling_beta"),
                format!("{beta} is not supported; leave it out"),
            ));
        }
        let original = lengths
            .trained
            .or(self.original_max_position_embeddings)
            .unwrap_or(lengths.max_position);
        let original_max_position =
            between("original_max_position_embeddings", original, MOST_POSITIONS)?;
        Ok(match self.kind() {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear {
                factor: self.need("factor", self.factor)?,
            },
            "dynamic" => RopeScaling::Dynamic {
                factor: self.need("factor", self.factor)?,
                original_max_position,
            },
            "llama3" => RopeScaling::Llama3 {
                factor: self.need("factor", self.factor)?,
                low_freq_factor: self.need("low_freq_factor", self.low_freq_factor)?,
                high_freq_factor: self.need("high_freq_factor", self.high_freq_factor)?,
                original_max_position,
            },
            "yarn" => RopeScaling::Yarn {
                factor: self.need("factor", self.factor)?,
                original_max_position,
                beta_fast: self.beta_fast.unwrap_or(32.0),
                beta_slow: self.beta_slow.unwrap_or(1.0),
                attention_factor: self.attention_factor,
                mscale: self.mscale,
                mscale_all_dim: self.mscale_all_dim,
                truncate: self.truncate.unwrap_or(true),
            },
            "longrope" => self.longrope(lengths, original_max_position)?,
            other => {
                return Err(TextError::config(
                    field("rope_type"),
                    format!(
                        "{other} is not supported; default, linear, dynamic, llama3, yarn and longrope are"
                    ),
                ));
            }
        })
    }

    /// `_compute_longrope_parameters`: one list of factors up to the trained length, another past it.
    fn longrope(&self, lengths: &Lengths, original_max_position: usize) -> Result<RopeScaling> {
        let (name, factors) = match lengths.long {
            true => ("long_factor", &self.long_factor),
            false => ("short_factor", &self.short_factor),
        };
        let factors = factors.clone().ok_or_else(|| {
            TextError::config(field(name), "rope type longrope needs it".to_owned())
        })?;
        if 2 * factors.len() != lengths.rotary_dim {
            let (found, pairs) = (factors.len(), lengths.rotary_dim / 2);
            return Err(TextError::config(
                field(name),
                format!("{found} factors for {pairs} pairs of a head that are rotated"),
            ));
        }
        let whole = lengths.max_position as f64 / original_max_position as f64;
        Ok(RopeScaling::LongRope {
            factors,
            factor: self.factor.unwrap_or(whole),
            attention_factor: self.attention_factor,
            original_max_position,
        })
    }
}
