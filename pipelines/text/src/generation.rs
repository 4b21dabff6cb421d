//! generation_config.json: the settings that a model's makers sample it with.

use chandler_nn::weights::Snapshot;
use serde_json::{Map, Value};

use crate::config::{DecoderConfig, OneOrMany, parse};
use crate::error::{Result, TextError};

/// generation_config.json: how the model's makers sample it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end an answer.
    pub eos: Vec<u32>,
    /// `false` makes greedy decoding the default.
    pub do_sample: Option<bool>,
    /// Default temperature.
    pub temperature: Option<f64>,
    /// Default top-k.
    pub top_k: Option<u32>,
    /// Default top-p.
    pub top_p: Option<f64>,
    /// Default min-p.
    pub min_p: Option<f64>,
    /// Default repetition penalty.
    pub repetition_penalty: Option<f64>,
    /// Tokens of an answer when the request does not say.
    pub max_new_tokens: Option<u32>,
}

impl GenerationConfig {
    /// Reads a snapshot's generation_config.json. Where there is none, config.json's end tokens count, as in transformers.
    ///
    /// # Errors
    /// Names the field that is not of its type.
    pub fn from_snapshot(snapshot: &Snapshot, config: &DecoderConfig) -> Result<Self> {
        const FILE: &str = "generation_config.json";
        let Some(map) = parse::<Map<String, Value>>(snapshot, FILE)? else {
            return Ok(Self {
                eos: config.eos.clone(),
                ..Self::default()
            });
        };
        let number = |name: &str| -> Result<Option<f64>> {
            match map.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => value.as_f64().map(Some).ok_or_else(|| {
                    TextError::config(
                        format!("{FILE}: {name}"),
                        format!("{value} is not a number"),
                    )
                }),
            }
        };
        let eos = match map.get("eos_token_id") {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => serde_json::from_value::<OneOrMany>(value.clone())
                .map_err(|_| {
                    TextError::config(
                        format!("{FILE}: eos_token_id"),
                        format!("{value} is no token id"),
                    )
                })?
                .into_vec(),
        };
        Ok(Self {
            eos,
            do_sample: map.get("do_sample").and_then(Value::as_bool),
            temperature: number("temperature")?,
            top_k: number("top_k")?.map(|k| k as u32),
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            repetition_penalty: number("repetition_penalty")?,
            max_new_tokens: number("max_new_tokens")?.map(|n| n as u32),
        })
    }
}
