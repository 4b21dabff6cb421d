//! The fields of a UNet's config.json that say what its blocks are, together: which have transformers, and of what sizes. Apart from
//! `config`, which holds what comes of them and reads the rest.

use chandler_nn::fields::Fields;
use serde_json::{Value, json};

use super::config::{
    BlockConfig, MOST_BLOCKS, MOST_CHANNELS, MOST_DEPTH, MOST_LAYERS, MOST_WIDTH, TimeConfig,
    TransformerSizes, TransformersConfig, groups, waves,
};
use crate::config_fields::{count, only, per_block, size, sizes, texts};
use crate::error::Result;

/// The time embedding's width, in widths of the first block.
const TIME_WIDTH: usize = 4;

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

    pub(super) fn time(&self, fields: &Fields) -> Result<TimeConfig> {
        let first = self.channels.first().copied().unwrap_or_default();
        let width = fields.size("time_embedding_dim", MOST_WIDTH)?;
        Ok(TimeConfig {
            waves: waves(fields, "block_out_channels", first)?,
            width: width.unwrap_or(TIME_WIDTH * first),
            condition: fields.size("time_cond_proj_dim", MOST_WIDTH)?,
        })
    }

    pub(super) fn down(&self, fields: &Fields) -> Result<Vec<BlockConfig>> {
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
    pub(super) fn up(&self, fields: &Fields) -> Result<Vec<BlockConfig>> {
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

    pub(super) fn mid(&self, fields: &Fields) -> Result<Option<TransformersConfig>> {
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
