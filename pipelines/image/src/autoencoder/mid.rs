//! The middle of encoder and decoder: residual blocks around attention of all pixels to all. Mirrors `diffusers`
//! models/unets/unet_2d_blocks.py (UNetMidBlock2D).

use candle_core::Tensor;
use chandler_nn::dense_attention::dense_attention;
use chandler_nn::group_norm::GroupNorm;
use chandler_nn::lora::AdapterRows;

use super::config::AutoencoderConfig;
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::Projection;
use crate::unet::resnet::{ResnetBlock, ResnetSizes};

/// Two residual blocks, and attention between them in models that have it.
#[derive(Debug, Clone)]
pub(super) struct MidBlock {
    first: ResnetBlock,
    attention: Option<Attention>,
    last: ResnetBlock,
}

impl MidBlock {
    pub(super) fn load(
        loader: &Loader<'_>,
        config: &AutoencoderConfig,
        sizes: &ResnetSizes,
    ) -> Result<Self> {
        let channels = config
            .block_out_channels
            .last()
            .copied()
            .unwrap_or_default();
        let resnet = |name: &str| ResnetBlock::load(&loader.at(name), (channels, channels), sizes);
        let attention = config
            .mid_block_add_attention
            .then(|| Attention::load(&loader.at("attentions.0"), channels, sizes));
        Ok(Self {
            first: resnet("resnets.0")?,
            attention: attention.transpose()?,
            last: resnet("resnets.1")?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x, None)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.last.forward(&x, None)
    }
}

/// One head over all channels.
#[derive(Debug, Clone)]
struct Attention {
    norm: GroupNorm,
    query: Projection,
    key: Projection,
    value: Projection,
    out: Projection,
}

impl Attention {
    fn load(loader: &Loader<'_>, channels: usize, sizes: &ResnetSizes) -> Result<Self> {
        // Checkpoints made before diffusers 0.12 have the old names.
        let [query, key, value, out] = match loader.has("query.weight") {
            true => ["query", "key", "value", "proj_attn"],
            false => ["to_q", "to_k", "to_v", "to_out.0"],
        };
        let layer = |name: &str| Projection::load(loader, name, channels, channels);
        Ok(Self {
            norm: loader.group_norm("group_norm", channels, sizes.groups)?,
            query: layer(query)?,
            key: layer(key)?,
            value: layer(value)?,
            out: layer(out)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let normed = self.norm.forward(x, None)?;
        let rows = normed.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let layers = [&self.query, &self.key, &self.value];
        // No adapter is for an autoencoder.
        let none = AdapterRows::default();
        let [q, k, v] = Projection::forward_many(layers, &rows.flatten_to(1)?, &none)?;
        let of_samples = |x: Tensor| x.reshape((batch, height * width, channels));
        let (q, k, v) = (of_samples(q)?, of_samples(k)?, of_samples(v)?);
        let scale = (channels as f64).powf(-0.5);
        let mixed = dense_attention((&q, &k, &v), 1, scale, None)?;
        let rows = self.out.forward(&mixed.flatten_to(1)?, &none)?;
        let pixels = of_samples(rows)?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((batch, channels, height, width))?;
        Ok((pixels + x)?)
    }
}
