//! config.json of a wav2vec2 model with a CTC head. Mirrors `transformers` configuration_wav2vec2.py.

use chandler_nn::activation::Activation;
use chandler_nn::weights::Snapshot;

use crate::error::{Result, SpeechError};
use chandler_nn::fields::Fields;

const FILE: &str = "config.json";
/// The architecture's name in config.json.
pub const ARCHITECTURE: &str = "Wav2Vec2ForCTC";
/// Sizes past these are a damaged or hostile file; the largest model in use (MMS, a billion weights) is a tenth of them or less.
const MOST_WIDTH: usize = 1 << 16;
const MOST_LAYERS: usize = 1 << 9;
const MOST_VOCAB: usize = 1 << 20;
const MOST_KERNEL: usize = 1 << 12;
const MOST_CONVOLUTIONS: usize = 32;

/// The sizes of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct CtcConfig {
    /// Characters that the head has rows for; an adapter has a head of its own.
    pub vocab_size: usize,
    /// The character that stands for nothing new.
    pub blank: u32,
    /// Width of the residual stream.
    pub width: usize,
    /// Layers of attention.
    pub layers: usize,
    /// Attention heads of each.
    pub heads: usize,
    /// Width inside the feed-forward layers.
    pub feed_forward: usize,
    /// The feed-forward layers' activation.
    pub activation: Activation,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// The convolutions over samples, first to last.
    pub convolutions: Vec<Convolution>,
    /// Whether they have biases.
    pub convolution_bias: bool,
    /// What is normed in them.
    pub extractor_norm: ExtractorNorm,
    /// Their activation.
    pub extractor_activation: Activation,
    /// Frames that the convolution which tells positions sees.
    pub position_kernel: usize,
    /// Its groups.
    pub position_groups: usize,
    /// Whether norms stand before attention and feed-forward layers, and not after.
    pub norm_first: bool,
    /// Width inside the layers of language adapters, for models that have them.
    pub adapter_width: Option<usize>,
}

/// A convolution over samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Channels that it gives.
    pub outputs: usize,
    /// Inputs that it sees.
    pub kernel: usize,
    /// Inputs between two outputs.
    pub stride: usize,
}

/// What is normed in the convolutions over samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtractorNorm {
    /// Each channel of the first over time.
    Channels,
    /// Each frame of every one.
    Frames,
}

impl CtcConfig {
    /// Reads a snapshot's config.json.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self> {
        let fields = Fields::read(snapshot, FILE)?.ok_or_else(|| {
            SpeechError::config(
                FILE,
                format!("{snapshot} has none; a model in the Hugging Face layout does"),
            )
        })?;
        Self::of(&fields)
    }

    fn of(fields: &Fields) -> Result<Self> {
        check_supported(fields)?;
        let width = size(fields, "hidden_size", 768, MOST_WIDTH)?;
        let heads = size(fields, "num_attention_heads", 12, MOST_WIDTH)?;
        let position_groups = size(fields, "num_conv_pos_embedding_groups", 16, MOST_WIDTH)?;
        for (name, parts) in [
            ("num_attention_heads", heads),
            ("num_conv_pos_embedding_groups", position_groups),
        ] {
            if !width.is_multiple_of(parts) {
                let message = format!("{parts} does not divide hidden_size, {width}");
                return Err(fields.fault(name, message).into());
            }
        }
        let vocab_size = size(fields, "vocab_size", 32, MOST_VOCAB)?;
        let norm_eps = fields.number("layer_norm_eps")?.unwrap_or(1e-5);
        if !(norm_eps > 0.0 && norm_eps < 1.0) {
            let message = format!("{norm_eps} is not between 0 and 1");
            return Err(fields.fault("layer_norm_eps", message).into());
        }
        Ok(Self {
            // MMS's is past the vocabulary of no language.
            blank: fields.id("pad_token_id", MOST_VOCAB)?.unwrap_or(0),
            vocab_size,
            width,
            layers: size(fields, "num_hidden_layers", 12, MOST_LAYERS)?,
            heads,
            feed_forward: size(fields, "intermediate_size", 3072, MOST_WIDTH * 4)?,
            activation: activation(fields, "hidden_act")?,
            norm_eps,
            convolutions: convolutions(fields)?,
            convolution_bias: fields.flag("conv_bias")?.unwrap_or(false),
            extractor_norm: extractor_norm(fields)?,
            extractor_activation: activation(fields, "feat_extract_activation")?,
            position_kernel: size(fields, "num_conv_pos_embeddings", 128, MOST_KERNEL)?,
            position_groups,
            norm_first: fields.flag("do_stable_layer_norm")?.unwrap_or(false),
            adapter_width: fields.size("adapter_attn_dim", MOST_WIDTH)?,
        })
    }

    /// Frames that so many samples give.
    pub fn frames(&self, samples: usize) -> usize {
        self.convolutions.iter().fold(samples, |length, layer| {
            match length.checked_sub(layer.kernel) {
                Some(rest) => rest / layer.stride + 1,
                None => 0,
            }
        })
    }

    /// Samples between two frames.
    pub fn samples_per_frame(&self) -> usize {
        let strides = self.convolutions.iter().map(|layer| layer.stride);
        strides.fold(1, usize::saturating_mul)
    }
}

/// A size, or what transformers' `Wav2Vec2Config` has for one that is not written.
fn size(fields: &Fields, name: &str, default: usize, most: usize) -> Result<usize> {
    Ok(fields.size(name, most)?.unwrap_or(default))
}

fn activation(fields: &Fields, name: &str) -> Result<Activation> {
    let written = fields.text(name)?.unwrap_or("gelu");
    written
        .parse()
        .map_err(|error| fields.fault(name, format!("{error}")).into())
}

fn extractor_norm(fields: &Fields) -> Result<ExtractorNorm> {
    match fields.text("feat_extract_norm")? {
        None | Some("group") => Ok(ExtractorNorm::Channels),
        Some("layer") => Ok(ExtractorNorm::Frames),
        Some(other) => {
            let message = format!("{other:?} is not supported; group and layer are");
            Err(fields.fault("feat_extract_norm", message).into())
        }
    }
}

fn convolutions(fields: &Fields) -> Result<Vec<Convolution>> {
    const DEFAULTS: [(&str, [usize; 7], usize); 3] = [
        ("conv_dim", [512; 7], MOST_WIDTH),
        ("conv_kernel", [10, 3, 3, 3, 3, 2, 2], MOST_KERNEL),
        ("conv_stride", [5, 2, 2, 2, 2, 2, 2], MOST_KERNEL),
    ];
    let read = |(name, default, most): (&str, [usize; 7], usize)| -> Result<Vec<usize>> {
        match fields.ids(name, most + 1)? {
            None => Ok(default.to_vec()),
            Some(list) => Ok(list.into_iter().map(|n| n as usize).collect()),
        }
    };
    let [outputs, kernels, strides] = DEFAULTS;
    let (outputs, kernels, strides) = (read(outputs)?, read(kernels)?, read(strides)?);
    let count = outputs.len();
    let counts = kernels.len() == count && strides.len() == count;
    let layers: Vec<Convolution> = outputs
        .into_iter()
        .zip(kernels.into_iter().zip(strides))
        .map(|(outputs, (kernel, stride))| Convolution {
            outputs,
            kernel,
            stride,
        })
        .collect();
    let whole = |layer: &Convolution| layer.outputs > 0 && layer.kernel > 0 && layer.stride > 0;
    if !counts || !(1..=MOST_CONVOLUTIONS).contains(&count) || !layers.iter().all(whole) {
        let message = format!(
            "conv_dim, conv_kernel and conv_stride are not lists of one length, from 1 to {MOST_CONVOLUTIONS}, of positive numbers"
        );
        return Err(fields.fault("conv_dim", message).into());
    }
    Ok(layers)
}

fn check_supported(fields: &Fields) -> Result<()> {
    let named = fields
        .get("architectures")
        .and_then(|value| value.as_array());
    match named.map(Vec::as_slice) {
        Some([one]) if one.as_str() == Some(ARCHITECTURE) => {}
        other => {
            let message = format!("{other:?} is not supported; [\"{ARCHITECTURE}\"] is");
            return Err(fields.fault("architectures", message).into());
        }
    }
    if fields.flag("add_adapter")?.unwrap_or(false) {
        return Err(fields
            .fault("add_adapter", "true is not supported; false is")
            .into());
    }
    if fields.get("quantization_config").is_some() {
        let message = "quantised weights are not read; use an f32, f16 or bf16 checkpoint";
        return Err(fields.fault("quantization_config", message).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(mut change: Value) -> Result<CtcConfig> {
        if change.get("architectures").is_none() {
            change["architectures"] = json!([ARCHITECTURE]);
        }
        CtcConfig::of(&Fields::of(FILE, change))
    }

    #[test]
    fn what_is_not_written_is_wav2vec2_base() {
        let config = of(json!({})).unwrap();
        assert_eq!((config.width, config.layers, config.blank), (768, 12, 0));
        // 25 ms windows every 20 ms.
        assert_eq!(
            (
                config.samples_per_frame(),
                config.frames(400),
                config.frames(399)
            ),
            (320, 1, 0)
        );
        assert_eq!(config.frames(16_000), 49);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (change, expected) in [
            (json!({"conv_dim": [512, 512]}), "config.json: conv_dim: "),
            (
                json!({"conv_stride": [5, 0, 2, 2, 2, 2, 2]}),
                "config.json: conv_dim: ",
            ),
            (json!({"conv_kernel": "x"}), "config.json: conv_kernel: "),
            (
                json!({"num_attention_heads": 7}),
                "num_attention_heads: 7 does not divide hidden_size, 768",
            ),
            (
                json!({"feat_extract_norm": "batch"}),
                "\"batch\" is not supported; group and layer are",
            ),
            (
                json!({"add_adapter": true}),
                "config.json: add_adapter: true is not supported",
            ),
            (
                json!({"architectures": ["HubertForCTC"]}),
                "config.json: architectures: ",
            ),
            (
                json!({"layer_norm_eps": 0}),
                "config.json: layer_norm_eps: 0 is not between",
            ),
        ] {
            let found = of(change).unwrap_err().to_string();
            assert!(found.contains(expected), "{found}");
        }
    }
}
