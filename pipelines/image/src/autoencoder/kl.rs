//! The autoencoder: encoder, decoder and the convolutions between. Tiles are in `tiles`.

use candle_core::{DType, Tensor};
use chandler_nn::conv2d::{Conv2d, Conv2dConfig};

use super::config::AutoencoderConfig;
use super::decoder::Decoder;
use super::encoder::Encoder;
use crate::error::Result;
use crate::layers::{Loaded, Loader, Placement};
use crate::unet::resnet::ResnetSizes;

/// Between what diffusers lets a logarithm of a variance be.
const LOG_VARIANCE: (f64, f64) = (-30.0, 20.0);

/// `diffusers`' AutoencoderKL. Its latents are its own; [`AutoencoderConfig::scaling`] goes between them and the denoiser's.
#[derive(Debug, Clone)]
pub struct AutoencoderKl {
    encoder: Encoder,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
    decoder: Decoder,
    placement: Placement,
    loaded: Loaded,
}

/// Where latents of a picture may lie: a normal distribution for each number.
#[derive(Debug, Clone)]
pub struct LatentDistribution {
    /// [batch, latent_channels, height, width], f32.
    pub mean: Tensor,
    /// The logarithms of the variances, of the same shape.
    pub logvar: Tensor,
}

impl LatentDistribution {
    /// Of what the encoder gives, [batch, 2 · latent_channels, height, width].
    ///
    /// # Errors
    /// When its channels are odd.
    pub fn of_moments(moments: &Tensor) -> Result<Self> {
        let half = moments.dim(1)? / 2;
        let (least, most) = LOG_VARIANCE;
        Ok(Self {
            mean: moments.narrow(1, 0, half)?.contiguous()?,
            logvar: moments.narrow(1, half, half)?.clamp(least, most)?,
        })
    }

    /// Latents drawn with `noise` of unit variance and the mean's shape.
    ///
    /// # Errors
    /// For noise of another shape.
    pub fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        let deviation = (&self.logvar * 0.5)?.exp()?;
        Ok((&self.mean + (deviation * noise)?)?)
    }
}

impl AutoencoderKl {
    /// Takes all weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the config says.
    pub fn load(loader: &Loader<'_>, config: &AutoencoderConfig) -> Result<Self> {
        let before = loader.loaded();
        let sizes = ResnetSizes {
            groups: config.groups,
            activation: config.activation,
            time: None,
        };
        let between = |name: &str, channels: usize, wanted: bool| {
            let conv = || loader.conv(name, (channels, channels, 1), Conv2dConfig::same(1));
            wanted.then(conv).transpose()
        };
        let latent = config.latent_channels;
        let mut autoencoder = Self {
            encoder: Encoder::load(&loader.at("encoder"), config, &sizes)?,
            quant: between("quant_conv", 2 * latent, config.use_quant_conv)?,
            post_quant: between("post_quant_conv", latent, config.use_post_quant_conv)?,
            decoder: Decoder::load(&loader.at("decoder"), config, &sizes)?,
            placement: loader.placement().clone(),
            loaded: Loaded::default(),
        };
        autoencoder.loaded = loader.loaded().since(before);
        Ok(autoencoder)
    }

    /// Pictures [batch, in_channels, height, width] in −1…1 to where their latents lie; height and width whole latents. On the CPU
    /// a sample's result has the same bits whatever else is in the batch.
    ///
    /// # Errors
    /// For other channels, or pictures of less than a latent.
    pub fn encode(&self, pictures: &Tensor) -> Result<LatentDistribution> {
        LatentDistribution::of_moments(&self.moments(pictures)?)
    }

    /// Latents [batch, latent_channels, height, width] to pictures, in f32 around −1…1, not clamped. On the CPU a sample's result
    /// has the same bits whatever else is in the batch.
    ///
    /// # Errors
    /// For other channels.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let mut x = self.taken(latents)?;
        if let Some(conv) = &self.post_quant {
            x = conv.forward(&x)?;
        }
        Ok(self.decoder.forward(&x)?.to_dtype(DType::F32)?)
    }

    /// What [`encode`](Self::encode) makes means and variances of.
    pub(super) fn moments(&self, pictures: &Tensor) -> Result<Tensor> {
        let mut x = self.encoder.forward(&self.taken(pictures)?)?;
        if let Some(conv) = &self.quant {
            x = conv.forward(&x)?;
        }
        Ok(x.to_dtype(DType::F32)?)
    }

    fn taken(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_device(&self.placement.device)?;
        Ok(x.to_dtype(self.placement.activations())?)
    }

    /// Numbers in its tensors.
    pub fn parameters(&self) -> u64 {
        self.loaded.parameters
    }

    /// Bytes of its tensors as they are kept, mapped ones included.
    pub fn bytes(&self) -> u64 {
        self.loaded.bytes
    }
}
