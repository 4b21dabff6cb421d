//! One model card, and the arithmetic that ties its numbers together.

use std::collections::BTreeMap;

use chandler_core::Task;
use serde::{Deserialize, Serialize};

/// A model card. A number that nobody has read or computed is left out, never guessed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Its name here.
    pub id: String,
    /// Further names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it does, by its Hugging Face pipeline tag.
    pub task: Task,
    /// Where its files are: a hub id, `embedded`, `embedded-asr`, `embedded-image`, `mock`, `mock-asr` or `mock-image`.
    pub source: String,
    /// The revision to take when the user names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The architecture in its config.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Number of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Number of weights of each part, by its folder, of a model that has several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, u64>,
    /// Numeric type of the published weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// Bytes of the published weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// Tokens it can hold at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<u64>,
    /// Licence, as the hub tags it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Whether its files need an account that accepted terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gated: Option<bool>,
    /// How sure we are that it works here.
    pub tested: Tested,
    /// Where the numbers of this card were read or how they were computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_of_numbers: Option<String>,
    /// The decoder's dimensions in config.json, from which parameters and cache sizes follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The sizes of an encoder and decoder of speech.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hearing: Option<Hearing>,
    /// The sizes of a denoiser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawing: Option<Drawing>,
    /// Settings this model wants where the user says nothing, by the keys of the settings file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, toml::Value>,
    /// Anything a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How sure we are that a model works here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tested {
    /// This model's own weights were run here.
    Here,
    /// Its architecture is held against the reference implementation on other weights.
    Parity,
    /// Nothing speaks against it, and nobody has tried.
    Expected,
    /// Its task or architecture is not served yet.
    NotServedYet,
}

impl Tested {
    /// The word as the cards write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Parity => "parity",
            Self::Expected => "expected",
            Self::NotServedYet => "not-served-yet",
        }
    }
}

/// Where a model's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Inside this program, under this name.
    Within(&'a str),
    /// On the Hugging Face hub, under this id.
    Hub(&'a str),
}

/// The dimensions of a decoder-only transformer with gated feed-forward layers, by config.json's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// `vocab_size`
    pub vocab: u64,
    /// `hidden_size`
    pub hidden: u64,
    /// `num_hidden_layers`
    pub layers: u64,
    /// `num_attention_heads`
    pub heads: u64,
    /// `num_key_value_heads`
    pub kv_heads: u64,
    /// `head_dim`, or hidden / heads
    pub head_dim: u64,
    /// `intermediate_size`
    pub intermediate: u64,
    /// `tie_word_embeddings`
    pub tied: bool,
    /// Biases on the query, key and value projections.
    #[serde(default)]
    pub qkv_bias: bool,
    /// Weights of a layer's norms together, where they are more than the two of `hidden` that Llama has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norms: Option<u64>,
    /// Experts of a layer, each with a feed-forward layer of `intermediate`, chosen by a router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<u64>,
}

/// The dimensions of a Whisper model, by openai-whisper's ModelDimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hearing {
    /// `n_audio_state`, which is `n_text_state`
    pub width: u64,
    /// `n_audio_layer`
    pub encoder_layers: u64,
    /// `n_text_layer`
    pub decoder_layers: u64,
    /// `n_audio_head`, which is `n_text_head`
    pub heads: u64,
    /// `n_vocab`
    pub vocab: u64,
    /// `n_mels`
    pub mels: u64,
}

impl Hearing {
    /// Number of weights, with the encoder's table of positions.
    pub fn parameters(&self) -> u64 {
        let d = self.width;
        let convolutions = 3 * d * (self.mels + d) + 2 * d;
        let encoder = convolutions + 1500 * d + self.encoder_layers * (12 * d * d + 12 * d) + 2 * d;
        let decoder = (self.vocab + 448) * d + self.decoder_layers * (16 * d * d + 17 * d) + 2 * d;
        encoder + decoder
    }
}

/// What the work on a picture follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawing {
    /// Pixels of a side of the pictures that it was made for.
    pub side: u64,
    /// Channels of a UNet's first level, or the width of a transformer's residual stream.
    pub channels: u64,
    /// Whether the autoencoder is computed in f32 where the rest is in f16 (`force_upcast`).
    #[serde(default)]
    pub upcast: bool,
}

impl Shape {
    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let attention = self.hidden * (q + 2 * kv) + q * self.hidden;
        let biases = if self.qkv_bias { q + 2 * kv } else { 0 };
        let router = self.experts.unwrap_or(0) * self.hidden;
        let feed_forward = 3 * self.hidden * self.intermediate * self.experts.unwrap_or(1) + router;
        let norms = self.norms.unwrap_or(2 * self.hidden);
        let embeddings = self.vocab * self.hidden * if self.tied { 1 } else { 2 };
        self.layers * (attention + biases + feed_forward + norms) + embeddings + self.hidden
    }

    /// Elements of the key-value cache for one token.
    pub fn cache_elements_per_token(&self) -> u64 {
        2 * self.layers * self.kv_heads * self.head_dim
    }
}

impl Card {
    /// Every name it answers to, its id first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// Where its files are.
    pub fn origin(&self) -> Origin<'_> {
        match self.source.as_str() {
            "embedded" => Origin::Within("demo"),
            "embedded-asr" => Origin::Within("demo-asr"),
            "embedded-image" => Origin::Within("demo-image"),
            within @ ("mock" | "mock-asr" | "mock-image") => Origin::Within(within),
            hub => Origin::Hub(hub),
        }
    }

    /// Whether a name means this card; a hub id does too.
    pub fn answers_to(&self, name: &str) -> bool {
        let hub = matches!(self.origin(), Origin::Hub(id) if id.eq_ignore_ascii_case(name));
        hub || self.names().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether a lower-case text stands in what describes it.
    pub fn mentions(&self, wanted: &str) -> bool {
        let described = [Some(self.source.as_str()), Some(self.task.tag())];
        let further = [self.architecture.as_deref(), self.licence.as_deref()];
        self.names()
            .chain(described.into_iter().chain(further).flatten())
            .any(|text| text.to_lowercase().contains(wanted))
    }

    /// Checks that its numbers agree with each other and say where they come from.
    ///
    /// # Errors
    /// What does not agree.
    pub fn check(&self) -> Result<(), String> {
        let numbers =
            self.parameters.is_some() || self.weight_bytes.is_some() || self.context.is_some();
        if numbers && self.source_of_numbers.is_none() {
            return Err("has numbers and no source_of_numbers".to_owned());
        }
        if let (Some(shape), Some(parameters)) = (self.shape, self.parameters)
            && shape.parameters() != parameters
        {
            return Err(format!(
                "parameters is {parameters}; its shape has {}",
                shape.parameters()
            ));
        }
        if let (Some(hearing), Some(parameters)) = (self.hearing, self.parameters)
            && hearing.parameters() != parameters
        {
            let has = hearing.parameters();
            return Err(format!("parameters is {parameters}; its hearing has {has}"));
        }
        let parts: u64 = self.components.values().sum();
        if let Some(parameters) = self.parameters
            && parts != 0
            && parts != parameters
        {
            return Err(format!(
                "parameters is {parameters}; its components have {parts}"
            ));
        }
        let width = match self.dtype.as_deref() {
            None => return Ok(()),
            Some("f32") => 4,
            Some("f16" | "bf16") => 2,
            Some(other) => return Err(format!("dtype is `{other}`; use f32, f16 or bf16")),
        };
        match (self.parameters, self.weight_bytes) {
            (Some(parameters), Some(bytes)) if bytes != parameters * width => Err(format!(
                "weight_bytes is {bytes}; {parameters} weights of {width} bytes are {}",
                parameters * width
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arithmetic_gives_the_published_parameter_counts() {
        // Llama 3.1 8B: 8,030,261,248; Qwen2.5 0.5B: 494,032,768 (the hub's safetensors summaries).
        let llama = Shape {
            vocab: 128_256,
            hidden: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            intermediate: 14_336,
            tied: false,
            qkv_bias: false,
            norms: None,
            experts: None,
        };
        assert_eq!(llama.parameters(), 8_030_261_248);
        // Mixtral 8x7B: 46,702,792,704.
        let mixtral = Shape {
            vocab: 32_000,
            experts: Some(8),
            ..llama
        };
        assert_eq!(mixtral.parameters(), 46_702_792_704);
        let qwen = Shape {
            vocab: 151_936,
            hidden: 896,
            layers: 24,
            heads: 14,
            kv_heads: 2,
            head_dim: 64,
            intermediate: 4864,
            tied: true,
            qkv_bias: true,
            norms: None,
            experts: None,
        };
        assert_eq!(qwen.parameters(), 494_032_768);
        assert_eq!(qwen.cache_elements_per_token(), 2 * 24 * 2 * 64);
    }
}
