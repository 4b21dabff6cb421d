//! From samples to frames: wav2vec2's convolutions, each with its norm and activation, and the projection into the encoder.
//! Mirrors `transformers` modeling_wav2vec2.py (Wav2Vec2FeatureEncoder, Wav2Vec2FeatureProjection).

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::channel_norm::ChannelNorm;
use chandler_nn::conv::{Conv1d, Conv1dConfig};
use chandler_nn::linear::Linear;
use chandler_nn::norm::Norm;

use super::config::{CtcConfig, ExtractorNorm};
use crate::error::Result;
use crate::layers::Loader;

/// torch's own, which the norms inside the convolutions are left at.
const EPS: f64 = 1e-5;

/// The convolutions and the projection.
pub(super) struct Extractor {
    layers: Vec<Layer>,
    activation: Activation,
    norm: Norm,
    projection: Linear,
}

struct Layer {
    convolution: Conv1d,
    norm: LayerNorm,
}

enum LayerNorm {
    None,
    Channels(ChannelNorm),
    Frames(Norm),
}

impl Extractor {
    pub(super) fn load(config: &CtcConfig, loader: &Loader<'_>) -> Result<Self> {
        let mut layers = Vec::with_capacity(config.convolutions.len());
        let mut inputs = 1;
        for (index, layer) in config.convolutions.iter().enumerate() {
            let base = format!("feature_extractor.conv_layers.{index}");
            let settings = Conv1dConfig {
                stride: layer.stride,
                padding: 0,
                groups: 1,
            };
            let shape = [layer.outputs, inputs, layer.kernel];
            let name = format!("{base}.layer_norm");
            layers.push(Layer {
                convolution: loader.conv(
                    &format!("{base}.conv"),
                    shape,
                    settings,
                    config.convolution_bias,
                )?,
                norm: match config.extractor_norm {
                    ExtractorNorm::Frames => {
                        LayerNorm::Frames(loader.norm(&name, layer.outputs, EPS)?)
                    }
                    ExtractorNorm::Channels if index == 0 => {
                        let part =
                            |part: &str| loader.tensor(&format!("{name}.{part}"), &[layer.outputs]);
                        LayerNorm::Channels(ChannelNorm::new(
                            &part("weight")?,
                            &part("bias")?,
                            EPS,
                        )?)
                    }
                    ExtractorNorm::Channels => LayerNorm::None,
                },
            });
            inputs = layer.outputs;
        }
        Ok(Self {
            layers,
            activation: config.extractor_activation,
            norm: loader.norm("feature_projection.layer_norm", inputs, config.norm_eps)?,
            projection: loader.linear(
                "feature_projection.projection",
                [config.width, inputs],
                true,
            )?,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| {
            layer.convolution.bytes()
                + match &layer.norm {
                    LayerNorm::None => 0,
                    LayerNorm::Channels(norm) => norm.bytes(),
                    LayerNorm::Frames(norm) => norm.bytes(),
                }
        });
        layers.sum::<usize>() + self.norm.bytes() + self.projection.bytes()
    }

    /// How many convolutions there are.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// One convolution: `x` [time, channels] to fewer rows.
    pub(super) fn convolve(&self, index: usize, x: &Tensor) -> Result<Tensor> {
        let Some(layer) = self.layers.get(index) else {
            return Ok(x.clone());
        };
        let x = layer.convolution.forward(&x.unsqueeze(0)?)?.squeeze(0)?;
        let x = match &layer.norm {
            LayerNorm::None => x,
            LayerNorm::Channels(norm) => norm.forward(&x)?,
            LayerNorm::Frames(norm) => norm.forward(&x)?,
        };
        Ok(self.activation.forward(&x)?)
    }

    /// Frames [rows, channels] as the encoder takes them, [rows, width].
    pub(super) fn project(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.projection.forward(&self.norm.forward(x)?)?)
    }
}
