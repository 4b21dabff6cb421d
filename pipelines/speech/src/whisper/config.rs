//! config.json of a Whisper model: its sizes, checked. What its tokens mean is in `generation`; how its audio is cut is in
//! `preprocessing`. Mirrors `transformers` configuration_whisper.py.

use chandler_nn::activation::Activation;
use chandler_nn::weights::Snapshot;

use crate::error::{Result, SpeechError};
use chandler_nn::fields::Fields;

pub(crate) const CONFIG_FILE: &str = "config.json";
/// The architecture's name in config.json.
pub const ARCHITECTURE: &str = "WhisperForConditionalGeneration";
/// Sizes past these are a damaged or hostile file; the largest model in use (large-v3) is a tenth of them or less.
const MOST_WIDTH: usize = 1 << 16;
const MOST_LAYERS: usize = 1 << 9;
const MOST_VOCAB: usize = 1 << 21;
const MOST_SOURCE: usize = 1 << 16;
const MOST_TARGET: usize = 1 << 14;
const MOST_MELS: usize = 1 << 10;
/// What transformers' `WhisperConfig` has for what is not written.
const DEFAULT_MEDIAN_FILTER: usize = 7;

/// The sizes of a Whisper model.
#[derive(Debug, Clone, PartialEq)]
pub struct WhisperConfig {
    /// Tokens that embedding and head have rows for.
    pub vocab_size: usize,
    /// Mel bins of a frame.
    pub mel_bins: usize,
    /// Width of the residual stream, of encoder and decoder.
    pub width: usize,
    /// The encoder's layers.
    pub encoder: StackConfig,
    /// The decoder's layers; fewer than the encoder's in distilled models.
    pub decoder: StackConfig,
    /// Positions that the encoder gives for a window: one for every [`INPUT_STRIDE`] frames.
    pub source_positions: usize,
    /// Tokens that the decoder has positions for.
    pub target_positions: usize,
    /// The feed-forward layers' activation.
    pub activation: Activation,
    /// Whether the head is the decoder's embedding.
    pub tied: bool,
    /// Frames of attention that are smoothed together before tokens are aligned; odd.
    pub median_filter_width: usize,
}

/// Layers of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackConfig {
    /// How many.
    pub layers: usize,
    /// Attention heads of each.
    pub heads: usize,
    /// Width inside the feed-forward layer.
    pub feed_forward: usize,
}

/// Frames that become one position: the strides of the encoder's two convolutions, which the architecture fixes.
pub const INPUT_STRIDE: usize = 2;

impl WhisperConfig {
    /// Reads a snapshot's config.json.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let fields = Fields::read(snapshot, CONFIG_FILE)?.ok_or_else(|| {
            SpeechError::config(
                CONFIG_FILE,
                format!("{snapshot} has none; a model in the Hugging Face layout does"),
            )
        })?;
        Self::of(&fields)
    }

    pub(crate) fn of(fields: &Fields) -> Result<Self> {
        check_architecture(fields)?;
        let width = fields.needed_size("d_model", MOST_WIDTH)?;
        let stack = |side: &str| -> Result<StackConfig> {
            let heads_field = format!("{side}_attention_heads");
            let heads = fields.needed_size(&heads_field, MOST_WIDTH)?;
            if !width.is_multiple_of(heads) {
                let message = format!("{heads} does not divide d_model, {width}");
                return Err(fields.fault(&heads_field, message).into());
            }
            Ok(StackConfig {
                layers: fields.needed_size(&format!("{side}_layers"), MOST_LAYERS)?,
                heads,
                feed_forward: fields.needed_size(&format!("{side}_ffn_dim"), MOST_WIDTH * 4)?,
            })
        };
        let activation = fields.text("activation_function")?.unwrap_or("gelu");
        let median_filter_width = fields
            .size("median_filter_width", MOST_SOURCE)?
            .unwrap_or(DEFAULT_MEDIAN_FILTER);
        if median_filter_width % 2 == 0 {
            let message = format!("{median_filter_width} is even; an odd number is wanted");
            return Err(fields.fault("median_filter_width", message).into());
        }
        Ok(Self {
            vocab_size: fields.needed_size("vocab_size", MOST_VOCAB)?,
            mel_bins: fields.needed_size("num_mel_bins", MOST_MELS)?,
            width,
            encoder: stack("encoder")?,
            decoder: stack("decoder")?,
            source_positions: fields.needed_size("max_source_positions", MOST_SOURCE)?,
            target_positions: fields.needed_size("max_target_positions", MOST_TARGET)?,
            activation: activation
                .parse()
                .map_err(|error| fields.fault("activation_function", format!("{error}")))?,
            // transformers ties the head unless it is told not to.
            tied: fields.flag("tie_word_embeddings")?.unwrap_or(true),
            median_filter_width,
        })
    }

    /// Mel frames of a window.
    pub fn window_frames(&self) -> usize {
        self.source_positions * INPUT_STRIDE
    }
}

fn check_architecture(fields: &Fields) -> Result<()> {
    let named = fields
        .get("architectures")
        .and_then(|value| value.as_array());
    let fault = match named.map(Vec::as_slice) {
        Some([one]) if one.as_str() == Some(ARCHITECTURE) => None,
        Some(other) => Some((
            "architectures",
            format!("{other:?} is not supported; [\"{ARCHITECTURE}\"] is"),
        )),
        // Some fine-tunes name no architecture.
        None if fields.text("model_type")? == Some("whisper") => None,
        None => Some((
            "architectures",
            format!("it is missing; [\"{ARCHITECTURE}\"] is supported"),
        )),
    };
    if let Some((field, message)) = fault {
        return Err(fields.fault(field, message).into());
    }
    if let Some(quantization) = fields.get("quantization_config") {
        let method = quantization.get("quant_method").and_then(|m| m.as_str());
        let message = format!(
            "weights quantised by {} are not read; use an f32, f16 or bf16 checkpoint",
            method.unwrap_or("an unknown method")
        );
        return Err(fields.fault("quantization_config", message).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn tiny() -> Value {
        json!({
            "architectures": [ARCHITECTURE], "vocab_size": 300, "num_mel_bins": 80, "d_model": 24,
            "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 50,
            "decoder_layers": 1, "decoder_attention_heads": 3, "decoder_ffn_dim": 40,
            "max_source_positions": 50, "max_target_positions": 64,
        })
    }

    fn said(change: Value) -> String {
        let mut config = tiny();
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        match WhisperConfig::of(&Fields::of(CONFIG_FILE, config)) {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sizes_are_read_and_what_is_not_written_is_transformers_default() {
        let config = WhisperConfig::of(&Fields::of(CONFIG_FILE, tiny())).unwrap();
        assert_eq!((config.window_frames(), config.decoder.layers), (100, 1));
        assert_eq!((config.median_filter_width, config.tied), (7, true));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (change, expected) in [
            (
                json!({"d_model": 0}),
                "config.json: d_model: 0 is not a whole number from 1 to 65536",
            ),
            (
                json!({"d_model": "wide"}),
                "config.json: d_model: \"wide\" is not a whole number",
            ),
            (
                json!({"vocab_size": 1e14}),
                "config.json: vocab_size: 100000000000000.0 is not",
            ),
            (
                json!({"decoder_attention_heads": 5}),
                "decoder_attention_heads: 5 does not divide d_model, 24",
            ),
            (
                json!({"architectures": ["BertModel"]}),
                "config.json: architectures: ",
            ),
            (
                json!({"architectures": null}),
                "config.json: architectures: it is missing",
            ),
            (
                json!({"activation_function": "sine"}),
                "config.json: activation_function: ",
            ),
            (
                json!({"median_filter_width": 4}),
                "median_filter_width: 4 is even",
            ),
            (
                json!({"quantization_config": {"quant_method": "awq"}}),
                "weights quantised by awq",
            ),
        ] {
            let found = said(change);
            assert!(found.contains(expected), "{found}");
        }
        assert!(!said(json!({"architectures": null, "model_type": "whisper"})).contains("missing"));
    }
}
