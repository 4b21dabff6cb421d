//! CLIP's vision tower: a transformer over the patches of a picture. Mirrors `transformers` models/clip/modeling_clip.py,
//! `CLIPVisionModel`.

use candle_core::Tensor;
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::Norm;

use super::config::VisionConfig;
use crate::error::Result;
use crate::layers::Loader;
use crate::text_encoder::clip::{Layer, Pass};

/// The tower.
pub(super) struct ClipVision {
    /// [1, 1, width]: the token that stands before the patches, and gathers what the picture is.
    class: Tensor,
    patches: Conv2d,
    /// [positions, width]
    positions: Tensor,
    before: Norm,
    layers: Vec<Layer>,
    after: Norm,
}

impl ClipVision {
    pub(super) fn load(config: &VisionConfig, at: &Loader<'_>) -> Result<Self> {
        let (width, eps) = (config.layer.width, config.layer.norm_eps);
        let embeddings = at.at("embeddings");
        let layers = at.at("encoder").at("layers");
        let patch = Conv2dConfig {
            stride: config.patch,
            padding: Padding::default(),
        };
        let class = embeddings.tensor("class_embedding", &[width])?;
        Ok(Self {
            class: class.reshape((1, 1, width))?,
            patches: embeddings.conv("patch_embedding", (3, width, config.patch), patch)?,
            positions: embeddings
                .tensor("position_embedding.weight", &[config.positions(), width])?,
            // The reference has it so.
            before: at.layer_norm("pre_layrnorm", width, eps)?,
            layers: (0..config.layers)
                .map(|number| Layer::load(config.layer, &layers.at(number)))
                .collect::<Result<_>>()?,
            after: at.layer_norm("post_layernorm", width, eps)?,
        })
    }

    /// `pictures` [batch, 3, side, side] to [batch, width]: `pooler_output`.
    pub(super) fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let patches = self.patches.forward(pictures)?;
        let patches = patches.flatten_from(2)?.transpose(1, 2)?;
        let (batch, _, width) = patches.dims3()?;
        let class = self.class.broadcast_as((batch, 1, width))?;
        let x = Tensor::cat(&[class, patches.contiguous()?], 1)?;
        let mut x = self.before.forward(&x.broadcast_add(&self.positions)?)?;
        let pass = Pass {
            mask: None,
            adapters: &AdapterRows::default(),
        };
        for layer in &self.layers {
            x = layer.forward(&x, &pass)?;
        }
        let gathered = x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        Ok(self.after.forward(&gathered)?)
    }
}
