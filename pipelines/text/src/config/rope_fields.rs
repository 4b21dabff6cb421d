//! The fields that config.json has about rotary embeddings, in both spellings that transformers has used.

use chandler_nn::rope::RopeScaling;
use serde::Deserialize;

use crate::config::{MOST_POSITIONS, between, field};
use crate::error::{Result, TextError};

/// `rope_scaling` of transformers 4 and `rope_parameters` of transformers 5.
#[derive(Deserialize, Clone, Default)]
pub(crate) struct Rope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; some files have both.
    #[serde(rename = "type")]
    old_type: Option<String>,
    pub(crate) rope_theta: Option<f64>,
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
    pub(crate) partial_rotary_factor: Option<f64>,
}

impl Rope {
    fn kind(&self) -> &str {
        self.rope_type
            .as_deref()
            .or(self.old_type.as_deref())
            .unwrap_or("default")
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
    pub(crate) fn scaling(&self, max_position: usize) -> Result<RopeScaling> {
        let original = self
            .original_max_position_embeddings
            .unwrap_or(max_position);
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
            other => {
                return Err(TextError::config(
                    field("rope_type"),
                    format!(
                        "{other} is not supported; default, linear, dynamic, llama3 and yarn are"
                    ),
                ));
            }
        })
    }
}
