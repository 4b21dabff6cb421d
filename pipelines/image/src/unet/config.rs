//! config.json of a UNet: its blocks, each with its sizes, checked. What is not written is what diffusers takes for it.
//! Mirrors `diffusers` models/unets/unet_2d_condition.py (UNet2DConditionModel.__init__).

use chandler_nn::activation::Activation;
use chandler_nn::fields::Fields;
use chandler_nn::group_norm::Groups;
use chandler_nn::weights::Snapshot;
use serde_json::{Value, json};

use super::block_fields::Blocks;
use crate::config_fields::{count, only, sizes};
use crate::embeddings::Waves;
use crate::error::Result;

/// The class's name in config.json.
pub const CLASS: &str = "UNet2DConditionModel";
/// Sizes past these are a damaged or hostile file; the largest model in use (SDXL) is a sixth of them or less.
pub(super) const MOST_CHANNELS: usize = 1 << 14;
pub(super) const MOST_WIDTH: usize = 1 << 16;
pub(super) const MOST_BLOCKS: usize = 8;
pub(super) const MOST_LAYERS: usize = 32;
pub(super) const MOST_DEPTH: usize = 64;
const MOST_KERNEL: usize = 15;
const MOST_SAMPLE: usize = 1 << 14;

/// What a UNet is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct UNetConfig {
    /// The half that goes down, and the middle.
    pub contracting: ContractingConfig,
    /// The blocks that go up, the lowest first.
    pub up: Vec<BlockConfig>,
    /// Channels of what it gives.
    pub out_channels: usize,
    /// Side of the last convolution's kernel; odd.
    pub conv_out_kernel: usize,
    /// Whether latents are taken from 0…1 to −1…1 first.
    pub center_input_sample: bool,
    /// Height and width of latents that it was made for, where that is written.
    pub sample_size: Option<[usize; 2]>,
}

/// The half that a ControlNet has too.
#[derive(Debug, Clone, PartialEq)]
pub struct ContractingConfig {
    /// Channels of what goes in: 4, 9 for inpainting (latents, mask, masked latents).
    pub in_channels: usize,
    /// Side of the first convolution's kernel; odd.
    pub conv_in_kernel: usize,
    /// How timesteps become rows.
    pub time: TimeConfig,
    /// SDXL's pooled text and sizes, where it has them.
    pub text_time: Option<TextTimeConfig>,
    /// The blocks, the highest first.
    pub down: Vec<BlockConfig>,
    /// The transformer of the middle; a distilled model may have no middle.
    pub mid: Option<TransformersConfig>,
    /// Around pictures that are halved; 0 means below and to the right only.
    pub downsample_padding: usize,
    /// Of all group norms but those of transformers, whose epsilon is fixed.
    pub groups: Groups,
    /// Of residual blocks and the time embedding.
    pub activation: Activation,
}

/// How a timestep becomes a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeConfig {
    /// The waves of a timestep.
    pub waves: Waves,
    /// Width of what is made of them.
    pub width: usize,
    /// Width of a guidance embedding that is added: latent consistency models'.
    pub condition: Option<usize>,
}

/// `addition_embed_type: text_time`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextTimeConfig {
    /// The waves of each of the numbers that say sizes.
    pub waves: Waves,
    /// Width of the pooled text and all waves together.
    pub width: usize,
}

/// One block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockConfig {
    /// Channels of what it gives.
    pub channels: usize,
    /// Residual blocks.
    pub layers: usize,
    /// The transformers after each of them, in blocks that have them.
    pub transformers: Option<TransformersConfig>,
}

/// The transformers of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformersConfig {
    /// What they have in common.
    pub sizes: TransformerSizes,
    /// Blocks of each.
    pub depths: Vec<usize>,
}

/// What transformers of a block have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerSizes {
    /// Channels of the picture, numbers in a row.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the words.
    pub context: usize,
    /// Of the group norm.
    pub groups: usize,
    /// Whether both attentions are to the words.
    pub only_cross_attention: bool,
    /// Whether attention is in f32 whatever the dtype.
    pub upcast: bool,
}

/// What has one value in all models that are supported.
fn fixed() -> Vec<(&'static str, Value)> {
    vec![
        ("num_attention_heads", Value::Null),
        ("encoder_hid_dim", Value::Null),
        ("encoder_hid_dim_type", Value::Null),
        ("class_embed_type", Value::Null),
        ("num_class_embeds", Value::Null),
        ("class_embeddings_concat", json!(false)),
        ("dual_cross_attention", json!(false)),
        ("attention_type", json!("default")),
        ("resnet_time_scale_shift", json!("default")),
        ("time_embedding_type", json!("positional")),
        ("time_embedding_act_fn", Value::Null),
        ("timestep_post_act", Value::Null),
        ("mid_block_scale_factor", json!(1)),
    ]
}

impl UNetConfig {
    /// Reads a snapshot's `file`, such as `unet/config.json`.
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
        let blocks = Blocks::of(fields)?;
        Ok(Self {
            contracting: ContractingConfig::of(fields, &blocks)?,
            up: blocks.up(fields)?,
            out_channels: fields.size("out_channels", MOST_CHANNELS)?.unwrap_or(4),
            conv_out_kernel: kernel(fields, "conv_out_kernel")?,
            center_input_sample: fields.flag("center_input_sample")?.unwrap_or(false),
            sample_size: sample_size(fields)?,
        })
    }
}

/// A component's config.json.
pub(crate) fn needed(snapshot: &Snapshot, file: &str) -> Result<Fields> {
    let found = Fields::read(snapshot, file)?;
    found.ok_or_else(|| {
        let message = format!("{snapshot} has none; a model in the diffusers layout does");
        chandler_nn::error::NnError::config(file, message).into()
    })
}

impl ContractingConfig {
    /// Channels of what it leaves on the way down: the first convolution's, each layer's, and each halved picture's.
    pub(crate) fn skip_channels(&self) -> Vec<usize> {
        let mut channels: Vec<usize> = self.down.iter().take(1).map(|b| b.channels).collect();
        for (n, block) in self.down.iter().enumerate() {
            let halved = usize::from(n + 1 < self.down.len());
            channels.extend(vec![block.channels; block.layers + halved]);
        }
        channels
    }

    /// The part of a UNet's or a ControlNet's fields that both have.
    pub(super) fn of(fields: &Fields, blocks: &Blocks) -> Result<Self> {
        for (name, known) in fixed() {
            only(fields, name, &known)?;
        }
        Ok(Self {
            in_channels: fields.size("in_channels", MOST_CHANNELS)?.unwrap_or(4),
            conv_in_kernel: kernel(fields, "conv_in_kernel")?,
            time: blocks.time(fields)?,
            text_time: text_time(fields)?,
            down: blocks.down(fields)?,
            mid: blocks.mid(fields)?,
            downsample_padding: match fields.get("downsample_padding") {
                None => 1,
                Some(value) => count(value, 3).ok_or_else(|| {
                    fields.fault(
                        "downsample_padding",
                        format!("{value} is not a whole number from 0 to 3"),
                    )
                })?,
            },
            groups: groups(fields)?,
            activation: activation(fields)?,
        })
    }
}

pub(super) fn groups(fields: &Fields) -> Result<Groups> {
    Ok(Groups {
        count: fields.size("norm_num_groups", MOST_CHANNELS)?.unwrap_or(32),
        eps: fields.number("norm_eps")?.unwrap_or(1e-5),
    })
}

pub(crate) fn activation(fields: &Fields) -> Result<Activation> {
    match fields.text("act_fn")?.unwrap_or("silu") {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        other => {
            let message = format!("`{other}` is not supported; silu, swish and gelu are");
            Err(fields.fault("act_fn", message).into())
        }
    }
}

fn kernel(fields: &Fields, name: &str) -> Result<usize> {
    let side = fields.size(name, MOST_KERNEL)?.unwrap_or(3);
    if side % 2 == 0 {
        let message = format!("{side} is even; an odd number is wanted");
        return Err(fields.fault(name, message).into());
    }
    Ok(side)
}

pub(super) fn waves(fields: &Fields, name: &str, width: usize) -> Result<Waves> {
    let freq_shift = fields.number("freq_shift")?.unwrap_or(0.0);
    if width / 2 == 0 || (width / 2) as f64 <= freq_shift {
        let message = format!("{width} numbers are no waves with a freq_shift of {freq_shift}");
        return Err(fields.fault(name, message).into());
    }
    Ok(Waves {
        width,
        flip_sin_to_cos: fields.flag("flip_sin_to_cos")?.unwrap_or(true),
        freq_shift,
    })
}

fn text_time(fields: &Fields) -> Result<Option<TextTimeConfig>> {
    if fields.get("addition_embed_type").is_none() {
        return Ok(None);
    }
    only(fields, "addition_embed_type", &json!("text_time"))?;
    let name = "addition_time_embed_dim";
    let width = fields.needed_size(name, MOST_WIDTH)?;
    Ok(Some(TextTimeConfig {
        waves: waves(fields, name, width)?,
        width: fields.needed_size("projection_class_embeddings_input_dim", MOST_WIDTH)?,
    }))
}

/// One number for both sides, or [height, width].
fn sample_size(fields: &Fields) -> Result<Option<[usize; 2]>> {
    let name = "sample_size";
    if fields.get(name).is_none_or(|value| !value.is_array()) {
        return Ok(fields.size(name, MOST_SAMPLE)?.map(|side| [side, side]));
    }
    match sizes(fields, name, &[], (2, MOST_SAMPLE))?.as_slice() {
        [height, width] => Ok(Some([*height, *width])),
        other => {
            let message = format!("{other:?} is neither a number nor height and width");
            Err(fields.fault(name, message).into())
        }
    }
}
