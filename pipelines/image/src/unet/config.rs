//! config.json of a UNet: its blocks, each with its sizes, checked. What is not written is what diffusers takes for it.
//! Mirrors `diffusers` models/unets/unet_2d_condition.py (UNet2DConditionModel.__init__).

use chandler_nn::activation::Activation;
use chandler_nn::fields::Fields;
use chandler_nn::group_norm::Groups;
use chandler_nn::weights::Snapshot;
use serde_json::{Value, json};

use super::per_block::{count, only, per_block, size, sizes, texts};
use super::time::Waves;
use crate::error::Result;

/// The class's name in config.json.
pub const CLASS: &str = "UNet2DConditionModel";
/// Sizes past these are a damaged or hostile file; the largest model in use (SDXL) is a sixth of them or less.
pub(super) const MOST_CHANNELS: usize = 1 << 14;
const MOST_WIDTH: usize = 1 << 16;
pub(super) const MOST_BLOCKS: usize = 8;
const MOST_LAYERS: usize = 32;
const MOST_DEPTH: usize = 64;
const MOST_KERNEL: usize = 15;
const MOST_SAMPLE: usize = 1 << 14;
/// The time embedding's width, in widths of the first block.
const TIME_WIDTH: usize = 4;

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
    pub(super) fn skip_channels(&self) -> Vec<usize> {
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

/// What all blocks' fields say, before it is known which block is which.
pub(super) struct Blocks {
    channels: Vec<usize>,
    layers: Vec<usize>,
    heads: Vec<usize>,
    context: Vec<usize>,
    only_cross: Vec<bool>,
    /// For each block one number, or one for each layer.
    depths: Vec<Value>,
    groups: usize,
    upcast: bool,
}

const DOWN: &str = "down_block_types";
const UP: &str = "up_block_types";
const DEPTHS: &str = "transformer_layers_per_block";
const UP_DEPTHS: &str = "reverse_transformer_layers_per_block";

impl Blocks {
    pub(super) fn of(fields: &Fields) -> Result<Self> {
        let default = [320, 640, 1280, 1280];
        let most = (MOST_BLOCKS, MOST_CHANNELS);
        let channels = sizes(fields, "block_out_channels", &default, most)?;
        let blocks = channels.len();
        let numbers = |name, default, most| {
            let of = size(most);
            per_block(fields, name, (blocks, default), ("a whole number", &of))
        };
        let groups = groups(fields)?.count;
        if let Some(odd) = channels.iter().find(|c| !c.is_multiple_of(groups)) {
            let message = format!("{odd} channels are not whole groups of {groups}");
            return Err(fields.fault("block_out_channels", message).into());
        }
        Ok(Self {
            layers: numbers("layers_per_block", 2, MOST_LAYERS)?,
            // By its name a width, by diffusers' use of it a count: see the comment in UNet2DConditionModel.__init__.
            heads: numbers("attention_head_dim", 8, MOST_CHANNELS)?,
            context: numbers("cross_attention_dim", 1280, MOST_WIDTH)?,
            only_cross: per_block(
                fields,
                "only_cross_attention",
                (blocks, false),
                ("true or false", &Value::as_bool),
            )?,
            depths: per_block(
                fields,
                DEPTHS,
                (blocks, json!(1)),
                ("a whole number", &|value| Some(value.clone())),
            )?,
            upcast: fields.flag("upcast_attention")?.unwrap_or(false),
            groups,
            channels,
        })
    }

    fn time(&self, fields: &Fields) -> Result<TimeConfig> {
        let first = self.channels.first().copied().unwrap_or_default();
        let width = fields.size("time_embedding_dim", MOST_WIDTH)?;
        Ok(TimeConfig {
            waves: waves(fields, "block_out_channels", first)?,
            width: width.unwrap_or(TIME_WIDTH * first),
            condition: fields.size("time_cond_proj_dim", MOST_WIDTH)?,
        })
    }

    fn down(&self, fields: &Fields) -> Result<Vec<BlockConfig>> {
        let crossed = "CrossAttnDownBlock2D";
        let plain = "DownBlock2D";
        let types = self.types(fields, DOWN, (plain, crossed), [true, true, true, false])?;
        let block = |(n, crossed): (usize, bool)| -> Result<BlockConfig> {
            let layers = self.layers.get(n).copied().unwrap_or_default();
            let depths = (DEPTHS, self.depths.get(n));
            self.block(fields, n, (crossed, layers), depths)
        };
        types.into_iter().enumerate().map(block).collect()
    }

    /// The lowest block first, each a layer more than the one that it answers.
    fn up(&self, fields: &Fields) -> Result<Vec<BlockConfig>> {
        let crossed = "CrossAttnUpBlock2D";
        let types = self.types(
            fields,
            UP,
            ("UpBlock2D", crossed),
            [false, true, true, true],
        )?;
        let written = fields.get(UP_DEPTHS).map(|value| value.as_array());
        let reversed: Vec<Value> = match written {
            None => self.depths.iter().rev().cloned().collect(),
            Some(Some(list)) if list.len() == self.channels.len() => list.clone(),
            Some(_) => {
                let message = format!("it is not a list of {}", self.channels.len());
                return Err(fields.fault(UP_DEPTHS, message).into());
            }
        };
        let name = match written {
            None => DEPTHS,
            Some(_) => UP_DEPTHS,
        };
        if written.is_none() && reversed.iter().any(Value::is_array) {
            let message = "it is missing, and transformer_layers_per_block has lists inside";
            return Err(fields.fault(UP_DEPTHS, message).into());
        }
        let block = |(n, crossed): (usize, bool)| -> Result<BlockConfig> {
            let level = self.channels.len().saturating_sub(n + 1);
            let layers = self.layers.get(level).copied().unwrap_or_default() + 1;
            self.block(fields, level, (crossed, layers), (name, reversed.get(n)))
        };
        types.into_iter().enumerate().map(block).collect()
    }

    fn mid(&self, fields: &Fields) -> Result<Option<TransformersConfig>> {
        let name = "mid_block_type";
        // Null means that there is none, and nothing written that there is one.
        if fields
            .entries()
            .any(|(key, value)| key == name && value.is_null())
        {
            return Ok(None);
        }
        only(fields, name, &json!("UNetMidBlock2DCrossAttn"))?;
        let level = self.channels.len().saturating_sub(1);
        let depth = match self.depths.last() {
            Some(Value::Array(list)) => list.first(),
            other => other,
        };
        Ok(Some(TransformersConfig {
            // Only the blocks that go up and down are told of only_cross_attention.
            sizes: TransformerSizes {
                only_cross_attention: false,
                ..self.transformer(fields, level)?
            },
            depths: depths(fields, (DEPTHS, depth), 1)?,
        }))
    }

    /// Which blocks have transformers.
    fn types(
        &self,
        fields: &Fields,
        name: &str,
        (plain, crossed): (&str, &str),
        default: [bool; 4],
    ) -> Result<Vec<bool>> {
        let default = default.map(|is_crossed| if is_crossed { crossed } else { plain });
        let found = texts(fields, name, &default)?;
        if found.len() != self.channels.len() {
            let message = format!(
                "there are {}, and block_out_channels has {}",
                found.len(),
                self.channels.len()
            );
            return Err(fields.fault(name, message).into());
        }
        let of = |found: &String| match found.as_str() {
            it if it == plain => Ok(false),
            it if it == crossed => Ok(true),
            other => {
                let message = format!("`{other}` is not supported; {plain} and {crossed} are");
                Err(fields.fault(name, message).into())
            }
        };
        found.iter().map(of).collect()
    }

    fn block(
        &self,
        fields: &Fields,
        level: usize,
        (crossed, layers): (bool, usize),
        depth: (&str, Option<&Value>),
    ) -> Result<BlockConfig> {
        let transformers = match crossed {
            false => None,
            true => Some(TransformersConfig {
                sizes: self.transformer(fields, level)?,
                depths: depths(fields, depth, layers)?,
            }),
        };
        Ok(BlockConfig {
            channels: self.channels.get(level).copied().unwrap_or_default(),
            layers,
            transformers,
        })
    }

    fn transformer(&self, fields: &Fields, level: usize) -> Result<TransformerSizes> {
        let at = |list: &[usize]| list.get(level).copied().unwrap_or_default();
        let (width, heads) = (at(&self.channels), at(&self.heads));
        if heads == 0 || !width.is_multiple_of(heads) {
            let message = format!("{heads} heads do not divide {width} channels");
            return Err(fields.fault("attention_head_dim", message).into());
        }
        Ok(TransformerSizes {
            width,
            heads,
            context: at(&self.context),
            groups: self.groups,
            only_cross_attention: self.only_cross.get(level).copied().unwrap_or_default(),
            upcast: self.upcast,
        })
    }
}

/// Depths of a block's transformers: one number for all `layers`, or a list.
fn depths(
    fields: &Fields,
    (name, value): (&str, Option<&Value>),
    layers: usize,
) -> Result<Vec<usize>> {
    let value = value.unwrap_or(&Value::Null);
    let found = match value {
        Value::Array(list) if list.len() >= layers => {
            let depth = |value: &Value| count(value, MOST_DEPTH);
            list.iter().take(layers).map(depth).collect()
        }
        one => count(one, MOST_DEPTH).map(|depth| vec![depth; layers]),
    };
    found.ok_or_else(|| {
        let message = format!(
            "{value} is neither a whole number up to {MOST_DEPTH} nor a list of {layers} of them"
        );
        fields.fault(name, message).into()
    })
}

fn groups(fields: &Fields) -> Result<Groups> {
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

fn waves(fields: &Fields, name: &str, width: usize) -> Result<Waves> {
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
