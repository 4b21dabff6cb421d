//! config.json as written, and the one decoder's settings as needed. A family is a row of a table
//! that says how it differs; what is not understood is an error that names the field, never ignored.

use chandler_nn::activation::Activation;
use chandler_nn::rope::{RopeConfig, RopeScaling};
use chandler_nn::weights::Snapshot;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Result, TextError};
use crate::rope_fields::Rope;

/// What a family does differently where config.json does not say.
struct Family {
    architecture: &'static str,
    /// Biases of the query, key and value projections where `attention_bias` does not decide.
    qkv_bias: bool,
    /// Whether `attention_bias` decides, for these and for the output projection.
    reads_attention_bias: bool,
}

/// Sources: `transformers` modeling_llama.py and modeling_qwen2.py.
const FAMILIES: [Family; 2] = [
    Family {
        architecture: "LlamaForCausalLM",
        qkv_bias: false,
        reads_attention_bias: true,
    },
    Family {
        architecture: "Qwen2ForCausalLM",
        qkv_bias: true,
        reads_attention_bias: false,
    },
];

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
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f64,
    /// Rotary embedding.
    pub rope: RopeConfig,
    /// Tokens of context.
    pub max_position: usize,
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
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    architectures: Vec<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f64,
    max_position_embeddings: usize,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    layer_types: Option<Vec<String>>,
    quantization_config: Option<Value>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    partial_rotary_factor: Option<f64>,
    eos_token_id: Option<OneOrMany>,
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
pub(crate) const MOST_POSITIONS: usize = 1 << 26;

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
        let raw: Raw = parse(snapshot, "config.json")?.ok_or_else(|| {
            TextError::config(
                "config.json",
                format!("{snapshot} has none; a model in the Hugging Face layout does"),
            )
        })?;
        raw.settle()
    }
}

pub(crate) fn field(name: &str) -> String {
    format!("config.json: {name}")
}

pub(crate) fn between(name: &str, value: usize, most: usize) -> Result<usize> {
    if (1..=most).contains(&value) {
        Ok(value)
    } else {
        Err(TextError::config(
            field(name),
            format!("{value} is not between 1 and {most}"),
        ))
    }
}

/// Tokens of context: dynamic scaling is the one kind whose `max_position_embeddings` is the trained length alone.
fn window(max_position: usize, scaling: &RopeScaling) -> usize {
    match scaling {
        RopeScaling::Dynamic { factor, .. } => {
            ((max_position as f64 * factor) as usize).min(MOST_POSITIONS)
        }
        _ => max_position,
    }
}

impl Raw {
    fn family(&self) -> Result<&'static Family> {
        let known = || architectures().collect::<Vec<_>>().join(", ");
        let [name] = self.architectures.as_slice() else {
            return Err(TextError::config(
                field("architectures"),
                format!(
                    "{:?} does not name one architecture; served are {}",
                    self.architectures,
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

    fn settle(self) -> Result<DecoderConfig> {
        let family = self.family()?;
        self.refuse_unsupported()?;
        let heads = between("num_attention_heads", self.num_attention_heads, MOST_WIDTH)?;
        let kv_heads = between(
            "num_key_value_heads",
            self.num_key_value_heads.unwrap_or(heads),
            heads,
        )?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(TextError::config(
                field("num_key_value_heads"),
                format!("{kv_heads} does not divide num_attention_heads, {heads}"),
            ));
        }
        let hidden_size = between("hidden_size", self.hidden_size, MOST_WIDTH)?;
        let head_dim = between(
            "head_dim",
            self.head_dim.unwrap_or(hidden_size / heads),
            MOST_WIDTH,
        )?;
        if !head_dim.is_multiple_of(2) {
            return Err(TextError::config(
                field("head_dim"),
                format!("{head_dim} is odd; rotary embeddings turn pairs"),
            ));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(TextError::config(
                field("rms_norm_eps"),
                format!("{} is not between 0 and 1", self.rms_norm_eps),
            ));
        }
        let max_position = between(
            "max_position_embeddings",
            self.max_position_embeddings,
            MOST_POSITIONS,
        )?;
        let rope = self.rope(head_dim, max_position)?;
        let attention_bias = self.attention_bias.filter(|_| family.reads_attention_bias);
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        Ok(DecoderConfig {
            architecture: family.architecture.to_owned(),
            vocab_size: between("vocab_size", self.vocab_size, MOST_WIDTH * 16)?,
            intermediate_size: between(
                "intermediate_size",
                self.intermediate_size,
                MOST_WIDTH * 4,
            )?,
            layers: between("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS)?,
            activation: activation
                .parse()
                .map_err(|error| TextError::config(field("hidden_act"), format!("{error}")))?,
            max_position: window(max_position, &rope.scaling),
            rope,
            norm_eps: self.rms_norm_eps,
            tied: self.tie_word_embeddings.unwrap_or(false),
            qkv_bias: attention_bias.unwrap_or(family.qkv_bias),
            output_bias: attention_bias.unwrap_or(false),
            mlp_bias: self.mlp_bias.unwrap_or(false),
            eos: self
                .eos_token_id
                .map(OneOrMany::into_vec)
                .unwrap_or_default(),
            hidden_size,
            heads,
            kv_heads,
            head_dim,
        })
    }

    fn refuse_unsupported(&self) -> Result<()> {
        if let Some(quantization) = &self.quantization_config {
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
        if self.use_sliding_window == Some(true) {
            return Err(TextError::config(
                field("use_sliding_window"),
                "sliding-window attention is not supported yet",
            ));
        }
        let windowed = |kind: &&String| *kind != "full_attention";
        if let Some(kind) = self.layer_types.iter().flatten().find(windowed) {
            return Err(TextError::config(
                field("layer_types"),
                format!("{kind} is not supported yet; full_attention is"),
            ));
        }
        Ok(())
    }

    fn rope(&self, head_dim: usize, max_position: usize) -> Result<RopeConfig> {
        let rope = self
            .rope_parameters
            .clone()
            .or_else(|| self.rope_scaling.clone())
            .unwrap_or_default();
        let theta = rope.rope_theta.or(self.rope_theta).unwrap_or(10_000.0);
        if !(theta > 0.0 && theta.is_finite()) {
            return Err(TextError::config(
                field("rope_theta"),
                format!("{theta} is not a positive number"),
            ));
        }
        let partial = rope
            .partial_rotary_factor
            .or(self.partial_rotary_factor)
            .unwrap_or(1.0);
        if !(partial > 0.0 && partial <= 1.0) {
            return Err(TextError::config(
                field("partial_rotary_factor"),
                format!("{partial} is not above 0 and at most 1"),
            ));
        }
        Ok(RopeConfig {
            head_dim,
            rotary_dim: (head_dim as f64 * partial) as usize,
            theta,
            scaling: rope.scaling(max_position)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(change: impl FnOnce(&mut Value)) -> Result<DecoderConfig> {
        let mut value = json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 12, "intermediate_size": 20,
            "num_hidden_layers": 1, "num_attention_heads": 3, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
        });
        change(&mut value);
        serde_json::from_value::<Raw>(value)
            .map_err(|e| TextError::config("config.json", e.to_string()))?
            .settle()
    }

    fn complaint(change: impl FnOnce(&mut Value)) -> String {
        config(change).unwrap_err().to_string()
    }

    #[test]
    fn old_and_new_spellings_of_rope_agree() {
        let old = config(|c| {
            c["rope_theta"] = json!(20000.0);
            c["rope_scaling"] = json!({"type": "linear", "factor": 2.0});
        });
        let new = config(|c| {
            c["rope_parameters"] =
                json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 20000.0});
        });
        assert_eq!(
            format!("{:?}", old.unwrap().rope),
            format!("{:?}", new.unwrap().rope)
        );
    }

    #[test]
    fn a_rope_with_both_names_of_its_type_is_read() {
        let both = config(|c| {
            c["rope_scaling"] = json!({"type": "linear", "rope_type": "linear", "factor": 2.0})
        });
        assert!(matches!(
            both.unwrap().rope.scaling,
            RopeScaling::Linear { .. }
        ));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let text = complaint(|c| c["architectures"] = json!(["MambaForCausalLM"]));
        assert!(
            text.contains("MambaForCausalLM") && text.contains("Qwen2ForCausalLM"),
            "{text}"
        );
        let text = complaint(|c| c["rope_scaling"] = json!({"rope_type": "longrope"}));
        assert!(text.contains("longrope"), "{text}");
        let text = complaint(|c| c["quantization_config"] = json!({"quant_method": "awq"}));
        assert!(text.contains("awq"), "{text}");
        let text = complaint(|c| c["layer_types"] = json!(["full_attention", "sliding_attention"]));
        assert!(text.contains("sliding_attention"), "{text}");
        let text = complaint(|c| c["hidden_act"] = json!("mystery"));
        assert!(
            text.contains("hidden_act") && text.contains("mystery"),
            "{text}"
        );
    }

    #[test]
    fn absurd_sizes_are_named_and_nothing_is_allocated() {
        for name in [
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
        ] {
            for size in [json!(0), json!(1u64 << 50)] {
                let text = complaint(|c| c[name] = size.clone());
                assert!(
                    text.contains(name) || text.contains("head_dim"),
                    "{name}: {text}"
                );
            }
            assert!(config(|c| c[name] = json!(-1)).is_err());
        }
        let text = complaint(|c| c["num_key_value_heads"] = json!(2));
        assert!(text.contains("num_key_value_heads"), "{text}");
    }
}
