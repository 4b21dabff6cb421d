//! config.json of an AutoencoderKL: its sizes, checked. What is not written is what diffusers takes for it.

use chandler_nn::activation::Activation;
use chandler_nn::fields::Fields;
use chandler_nn::group_norm::Groups;
use chandler_nn::weights::Snapshot;
use serde_json::json;

use super::scaling::Scaling;
use super::tiles::TileSizes;
use crate::config_fields::{only, sizes, texts};
use crate::error::Result;
use crate::unet::config::{activation, needed};

/// The class's name in config.json.
pub const CLASS: &str = "AutoencoderKL";
/// Sizes past these are a damaged or hostile file; those in use are a sixteenth of them or less.
pub(super) const MOST_CHANNELS: usize = 1 << 13;
pub(super) const MOST_BLOCKS: usize = 8;
pub(super) const MOST_LAYERS: usize = 16;
const MOST_SAMPLE: usize = 1 << 14;
/// What Encoder and Decoder add to their group norms' variance.
const EPS: f64 = 1e-6;

/// What an AutoencoderKL is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoencoderConfig {
    /// Channels of pictures that go in.
    pub in_channels: usize,
    /// Channels of pictures that come out.
    pub out_channels: usize,
    /// Channels of latents.
    pub latent_channels: usize,
    /// Channels of each block, from the picture down; between two of them height and width are halved.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks in each block of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Of all group norms.
    pub groups: Groups,
    /// Of residual blocks.
    pub activation: Activation,
    /// Whether the middle has attention.
    pub mid_block_add_attention: bool,
    /// Whether a convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a convolution goes before the decoder.
    pub use_post_quant_conv: bool,
    /// Between its latents and the denoiser's.
    pub scaling: Scaling,
    /// Height and width that it was made for, which is also a tile's.
    pub sample_size: usize,
    /// Whether half precision overflows in it: then it is to be loaded in f32, or its overflowing weights in bf16.
    pub force_upcast: bool,
}

impl AutoencoderConfig {
    /// Reads a snapshot's `file`, such as `vae/config.json`.
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
        let most = (MOST_BLOCKS, MOST_CHANNELS);
        let channels = sizes(fields, "block_out_channels", &[64], most)?;
        check_types(
            fields,
            "down_block_types",
            ("DownEncoderBlock2D", &channels),
        )?;
        check_types(fields, "up_block_types", ("UpDecoderBlock2D", &channels))?;
        let groups = fields.size("norm_num_groups", MOST_CHANNELS)?.unwrap_or(32);
        if let Some(odd) = channels.iter().find(|c| !c.is_multiple_of(groups)) {
            let message = format!("{odd} channels are not whole groups of {groups}");
            return Err(fields.fault("block_out_channels", message).into());
        }
        let size = |name, default| -> Result<usize> {
            Ok(fields.size(name, MOST_CHANNELS)?.unwrap_or(default))
        };
        let flag = |name| -> Result<bool> { Ok(fields.flag(name)?.unwrap_or(true)) };
        let latent_channels = size("latent_channels", 4)?;
        Ok(Self {
            in_channels: size("in_channels", 3)?,
            out_channels: size("out_channels", 3)?,
            latent_channels,
            layers_per_block: fields.size("layers_per_block", MOST_LAYERS)?.unwrap_or(1),
            groups: Groups {
                count: groups,
                eps: EPS,
            },
            activation: activation(fields)?,
            mid_block_add_attention: flag("mid_block_add_attention")?,
            use_quant_conv: flag("use_quant_conv")?,
            use_post_quant_conv: flag("use_post_quant_conv")?,
            scaling: Scaling::of(fields, 0.18215, latent_channels)?,
            sample_size: sample_size(fields)?,
            force_upcast: flag("force_upcast")?,
            block_out_channels: channels,
        })
    }

    /// Pixels of a latent's side.
    pub fn pixels(&self) -> usize {
        1 << (self.block_out_channels.len().saturating_sub(1))
    }

    /// diffusers' tiles for this autoencoder.
    ///
    /// # Errors
    /// As [`TileSizes::new`], for a sample size that makes no tiles.
    pub fn tile_sizes(&self) -> Result<TileSizes> {
        TileSizes::new(self.sample_size, self.pixels())
    }
}

fn check_types(fields: &Fields, name: &str, (known, channels): (&str, &[usize])) -> Result<()> {
    let types = texts(fields, name, &[known])?;
    if let Some(other) = types.iter().find(|found| *found != known) {
        let message = format!("`{other}` is not supported; {known} is");
        return Err(fields.fault(name, message).into());
    }
    if types.len() != channels.len() {
        let message = format!(
            "there are {}, and block_out_channels has {}",
            types.len(),
            channels.len()
        );
        return Err(fields.fault(name, message).into());
    }
    Ok(())
}

/// A number, or a list of which diffusers' tiles take the first.
fn sample_size(fields: &Fields) -> Result<usize> {
    let name = "sample_size";
    let list = fields.get(name).filter(|value| value.is_array());
    let first = match list {
        Some(_) => sizes(fields, name, &[], (2, MOST_SAMPLE))?.first().copied(),
        None => fields.size(name, MOST_SAMPLE)?,
    };
    Ok(first.unwrap_or(32))
}
