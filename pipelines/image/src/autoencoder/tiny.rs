//! The tiny autoencoder that previews are made with. Mirrors `diffusers` models/autoencoders/autoencoder_tiny.py (AutoencoderTiny),
//! vae.py (EncoderTiny, DecoderTiny) and models/unets/unet_2d_blocks.py (AutoencoderTinyBlock).

use candle_core::{DType, Tensor};
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};
use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;
use serde_json::json;

use super::config::{MOST_BLOCKS, MOST_CHANNELS, MOST_LAYERS};
use super::scaling::Scaling;
use crate::config_fields::{only, sizes};
use crate::error::Result;
use crate::layers::{Loaded, Loader, Placement};
use crate::unet::config::needed;

/// The class's name in config.json.
pub const CLASS: &str = "AutoencoderTiny";
/// Beyond this latents are bent to it.
const LATENT_BOUND: f64 = 3.0;
const MOST_SCALE: usize = 16;

/// What an AutoencoderTiny is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct TinyConfig {
    /// Channels of pictures that go in.
    pub in_channels: usize,
    /// Channels of pictures that come out.
    pub out_channels: usize,
    /// Channels of latents.
    pub latent_channels: usize,
    /// The encoder's stages, between two of which height and width are halved.
    pub encoder: TinyStages,
    /// The decoder's.
    pub decoder: TinyStages,
    /// What height and width become between two of the decoder's stages.
    pub upsampling_scaling_factor: usize,
    /// Between its latents and the denoiser's: usually the same.
    pub scaling: Scaling,
}

/// Stages of one width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TinyStages {
    /// The width; the architecture has no way from one to another.
    pub channels: usize,
    /// Blocks of each stage.
    pub blocks: Vec<usize>,
}

impl TinyConfig {
    /// Reads a snapshot's `file`.
    ///
    /// # Errors
    /// Names the field that is missing, absurd or asks for something that is not supported.
    pub fn read(snapshot: &Snapshot, file: &str) -> Result<Self> {
        Self::of(&needed(snapshot, file)?)
    }

    /// The same of fields that were read already.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of(fields: &Fields) -> Result<Self> {
        only(fields, "_class_name", &json!(CLASS))?;
        only(fields, "act_fn", &json!("relu"))?;
        only(fields, "upsample_fn", &json!("nearest"))?;
        let size = |name, default| -> Result<usize> {
            Ok(fields.size(name, MOST_CHANNELS)?.unwrap_or(default))
        };
        let latent_channels = size("latent_channels", 4)?;
        let scale = fields.size("upsampling_scaling_factor", MOST_SCALE)?;
        Ok(Self {
            in_channels: size("in_channels", 3)?,
            out_channels: size("out_channels", 3)?,
            latent_channels,
            encoder: stages(fields, "encoder", &[1, 3, 3, 3])?,
            decoder: stages(fields, "decoder", &[3, 3, 3, 1])?,
            upsampling_scaling_factor: scale.unwrap_or(2),
            scaling: Scaling::of(fields, 1.0, latent_channels)?,
        })
    }
}

fn stages(fields: &Fields, side: &str, default: &[usize]) -> Result<TinyStages> {
    let name = format!("{side}_block_out_channels");
    let channels = sizes(fields, &name, &[64; 4], (MOST_BLOCKS, MOST_CHANNELS))?;
    let count = format!("num_{side}_blocks");
    let blocks = sizes(fields, &count, default, (MOST_BLOCKS, MOST_LAYERS))?;
    let first = channels.first().copied().unwrap_or_default();
    if blocks.len() != channels.len() || channels.iter().any(|width| *width != first) {
        let message = format!("{channels:?} is not {} times the same number", blocks.len());
        return Err(fields.fault(&name, message).into());
    }
    Ok(TinyStages {
        channels: first,
        blocks,
    })
}

/// A decoder, and an encoder, small enough to run at every step.
#[derive(Debug, Clone)]
pub struct AutoencoderTiny {
    encoder: Vec<Stage>,
    encoder_out: Conv2d,
    decoder_in: Conv2d,
    decoder: Vec<Stage>,
    scale: usize,
    placement: Placement,
    loaded: Loaded,
}

/// Some blocks with a convolution before them in the encoder, after them in the decoder.
#[derive(Debug, Clone)]
struct Stage {
    conv: Conv2d,
    blocks: Vec<Block>,
}

impl AutoencoderTiny {
    /// Takes all weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the config says.
    pub fn load(loader: &Loader<'_>, config: &TinyConfig) -> Result<Self> {
        let before = loader.loaded();
        let (encoder, encoder_out) = load_encoder(&loader.at("encoder"), config)?;
        let (decoder_in, decoder) = load_decoder(&loader.at("decoder"), config)?;
        Ok(Self {
            encoder,
            encoder_out,
            decoder_in,
            decoder,
            scale: config.upsampling_scaling_factor,
            placement: loader.placement().clone(),
            loaded: loader.loaded().since(before),
        })
    }

    /// Pictures [batch, in_channels, height, width] in −1…1 to latents, f32.
    ///
    /// # Errors
    /// For other channels.
    pub fn encode(&self, pictures: &Tensor) -> Result<Tensor> {
        // Inside pictures are in 0…1.
        let mut x = self.taken(pictures)?.affine(0.5, 0.5)?;
        for stage in &self.encoder {
            x = stage.conv.forward(&x)?;
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
        }
        Ok(self.encoder_out.forward(&x)?.to_dtype(DType::F32)?)
    }

    /// Latents [batch, latent_channels, height, width] to pictures in f32 around −1…1, not clamped.
    ///
    /// # Errors
    /// For other channels.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.taken(latents)?;
        let bent = ((latents / LATENT_BOUND)?.tanh()? * LATENT_BOUND)?;
        let mut x = self.decoder_in.forward(&bent)?.relu()?;
        let last = self.decoder.len().saturating_sub(1);
        for (n, stage) in self.decoder.iter().enumerate() {
            for block in &stage.blocks {
                x = block.forward(&x)?;
            }
            if n != last {
                let (_, _, height, width) = x.dims4()?;
                x = x.upsample_nearest2d(self.scale * height, self.scale * width)?;
            }
            x = stage.conv.forward(&x)?;
        }
        Ok(x.affine(2.0, -1.0)?.to_dtype(DType::F32)?)
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

/// Layers are numbered as torch's Sequential numbers them.
fn load_encoder(loader: &Loader<'_>, config: &TinyConfig) -> Result<(Vec<Stage>, Conv2d)> {
    let TinyStages { channels, blocks } = &config.encoder;
    let mut number = 0;
    let mut stages = Vec::new();
    for (n, count) in blocks.iter().enumerate() {
        let (inputs, stride) = if n == 0 {
            (config.in_channels, 1)
        } else {
            (*channels, 2)
        };
        let conv = Conv2dConfig {
            stride,
            padding: Padding::all(1),
        };
        let name = format!("layers.{number}");
        stages.push(Stage {
            conv: loader.conv(&name, (inputs, *channels, 3), conv)?,
            blocks: load_blocks(loader, number + 1, (*count, *channels))?,
        });
        number += 1 + count;
    }
    let out = (*channels, config.latent_channels, 3);
    let out = loader.conv(&format!("layers.{number}"), out, Conv2dConfig::same(3))?;
    Ok((stages, out))
}

fn load_decoder(loader: &Loader<'_>, config: &TinyConfig) -> Result<(Conv2d, Vec<Stage>)> {
    let TinyStages { channels, blocks } = &config.decoder;
    let conv = |number: usize, inputs: usize, outputs: usize| {
        let name = format!("layers.{number}");
        loader.conv(&name, (inputs, outputs, 3), Conv2dConfig::same(3))
    };
    let first = conv(0, config.latent_channels, *channels)?;
    // After the first convolution comes its activation.
    let mut number = 2;
    let last = blocks.len().saturating_sub(1);
    let mut stages = Vec::new();
    for (n, count) in blocks.iter().enumerate() {
        let blocks = load_blocks(loader, number, (*count, *channels))?;
        // The upsampling has a number, too.
        number += count + usize::from(n != last);
        let outputs = if n == last {
            config.out_channels
        } else {
            *channels
        };
        stages.push(Stage {
            conv: conv(number, *channels, outputs)?,
            blocks,
        });
        number += 1;
    }
    Ok((first, stages))
}

fn load_blocks(
    loader: &Loader<'_>,
    start: usize,
    (count, channels): (usize, usize),
) -> Result<Vec<Block>> {
    let numbers = start..start + count;
    numbers
        .map(|number| Block::load(&loader.at(format_args!("layers.{number}")), channels))
        .collect()
}

/// Three convolutions, added to what came in.
#[derive(Debug, Clone)]
struct Block {
    convs: [Conv2d; 3],
}

impl Block {
    fn load(loader: &Loader<'_>, channels: usize) -> Result<Self> {
        let conv = |name: &str| loader.conv(name, (channels, channels, 3), Conv2dConfig::same(3));
        Ok(Self {
            convs: [conv("conv.0")?, conv("conv.2")?, conv("conv.4")?],
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.convs;
        let h = second.forward(&first.forward(x)?.relu()?)?.relu()?;
        Ok(third.forward_added(&h, x)?.relu()?)
    }
}
