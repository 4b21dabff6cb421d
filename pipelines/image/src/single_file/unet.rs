//! A UNet's names in the original layout, and its configuration from its shapes. Mirrors `convert_ldm_unet_checkpoint` of `diffusers`
//! loaders/single_file_utils.py; what configurations say there is told from shapes here, so that other sizes take the same way.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::heads_of_64;
use super::kind::{Family, Kind};
use super::refuse;
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

const PREFIX: &str = "model.diffusion_model.";
/// Heads of every attention where projections are convolutions; where they are matrices, heads are 64 wide.
const HEADS: usize = 8;
/// Numbers that each of SDXL's sizes is spread over.
const SIZES_WIDTH: usize = 256;

/// What is around the blocks: its name there, and in diffusers.
const AROUND: [(&str, &str); 7] = [
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.0.0.", "add_embedding.linear_1."),
    ("label_emb.0.2.", "add_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
];

/// What is in a residual block.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
];

/// All tensors, of a UNet of so many residual blocks on each level.
pub(super) fn pieces(checkpoint: &Checkpoint, layers: usize) -> Pieces {
    let piece = |stored: &str| {
        let name = renamed(stored.strip_prefix(PREFIX)?, layers)?;
        Some((name, Piece::new(stored, Change::None)))
    };
    checkpoint.under(PREFIX).filter_map(piece).collect()
}

/// Replaces a beginning by what a table has for it.
fn replaced(table: &[(&str, &str)], name: &str) -> Option<String> {
    table.iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        Some(format!("{to}{rest}"))
    })
}

/// A number and what is behind its dot.
fn numbered(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

fn renamed(name: &str, layers: usize) -> Option<String> {
    if let Some(found) = replaced(&AROUND, name) {
        return Some(found);
    }
    let (block, rest) = name.split_once('.')?;
    let (number, rest) = numbered(rest)?;
    if block == "middle_block" {
        // A residual block, a transformer, a residual block.
        let place = number.saturating_sub(1);
        return match number % 2 {
            0 => Some(format!(
                "mid_block.resnets.{place}.{}",
                replaced(&RESNET, rest)?
            )),
            _ => Some(format!("mid_block.attentions.{place}.{rest}")),
        };
    }
    let (inside, rest) = numbered(rest)?;
    let (folder, number, resampler) = match block {
        "input_blocks" => ("down_blocks", number.checked_sub(1)?, "downsamplers.0.conv"),
        "output_blocks" => ("up_blocks", number, "upsamplers.0.conv"),
        _ => return None,
    };
    let (level, layer) = (number / (layers + 1), number % (layers + 1));
    let resampled = rest.strip_prefix("op.").filter(|_| inside == 0);
    // Behind a residual block, or behind it and a transformer.
    let resampled = resampled.or_else(|| rest.strip_prefix("conv.").filter(|_| inside > 0));
    match (resampled, inside) {
        (Some(rest), _) => Some(format!("{folder}.{level}.{resampler}.{rest}")),
        (None, 0) => {
            let rest = replaced(&RESNET, rest)?;
            Some(format!("{folder}.{level}.resnets.{layer}.{rest}"))
        }
        (None, 1) => Some(format!("{folder}.{level}.attentions.{layer}.{rest}")),
        _ => None,
    }
}

/// One level on the way down.
#[derive(Default)]
struct Level {
    channels: usize,
    /// Transformers behind each of its residual blocks.
    depths: Vec<usize>,
}

fn levels(checkpoint: &Checkpoint) -> Result<Vec<Level>> {
    let mut levels = vec![Level::default()];
    for n in 1..checkpoint.count(&format!("{PREFIX}input_blocks.")) {
        let block = format!("{PREFIX}input_blocks.{n}");
        if checkpoint.has(&format!("{block}.0.op.weight")) {
            levels.push(Level::default());
        } else if let Some(level) = levels.last_mut() {
            level.channels = checkpoint.side(&format!("{block}.0.out_layers.3.weight"), 0)?;
            let depth = checkpoint.count(&format!("{block}.1.transformer_blocks."));
            level.depths.push(depth);
        }
    }
    Ok(levels)
}

/// config.json, of a UNet whose latents have so many `pixels` on each of their sides.
pub(super) fn config(checkpoint: &Checkpoint, kind: Kind, pixels: usize) -> Result<Value> {
    let path = checkpoint.path();
    let levels = levels(checkpoint)?;
    let layers = levels.first().map_or(0, |level| level.depths.len());
    let uneven = |level: &Level| {
        let first = level.depths.first();
        level.depths.len() != layers || level.depths.iter().any(|depth| Some(depth) != first)
    };
    let middle = checkpoint.count(&format!("{PREFIX}middle_block.1.transformer_blocks."));
    let last = levels
        .last()
        .and_then(|level| level.depths.first())
        .copied();
    let other_middle = last.is_some_and(|depth| depth > 0 && depth != middle);
    if layers == 0 || middle == 0 || other_middle || levels.iter().any(uneven) {
        let depths: Vec<&[usize]> = levels.iter().map(|level| level.depths.as_slice()).collect();
        let message = format!(
            "its UNet has {depths:?} transformers on its levels and {middle} in the middle; as many behind each residual block of a \
             level, and in the middle as on the last, are supported"
        );
        return Err(refuse(path, message));
    }
    let crossed = |level: &Level| level.depths.first().copied().unwrap_or(0);
    // What stands for a level without any is of no account, but that the middle has what stands for the last.
    let depth = |level: &Level| match crossed(level) {
        0 => middle,
        depth => depth,
    };
    let types = |with: &str, without: &str, level: &Level| match crossed(level) {
        0 => without.to_owned(),
        _ => with.to_owned(),
    };
    let down = levels.iter();
    let down: Vec<String> = down
        .map(|l| types("CrossAttnDownBlock2D", "DownBlock2D", l))
        .collect();
    let up = levels.iter().rev();
    let up: Vec<String> = up
        .map(|l| types("CrossAttnUpBlock2D", "UpBlock2D", l))
        .collect();
    let at = |name: &str| format!("{PREFIX}{name}");
    let transformer = at("middle_block.1.");
    let linear = checkpoint
        .shape(&format!("{transformer}proj_in.weight"))?
        .len()
        == 2;
    let context = format!("{transformer}transformer_blocks.0.attn2.to_k.weight");
    let channels: Vec<usize> = levels.iter().map(|level| level.channels).collect();
    let heads = channels.iter().map(|channels| match linear {
        true => heads_of_64(path, "a level of its UNet", *channels),
        false => Ok(HEADS),
    });
    let mut config = json!({
        "_class_name": "UNet2DConditionModel",
        "sample_size": kind.side() / pixels,
        "in_channels": checkpoint.side(&at("input_blocks.0.0.weight"), 1)?,
        "out_channels": checkpoint.side(&at("out.2.weight"), 0)?,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": checkpoint.side(&context, 1)?,
        "attention_head_dim": heads.collect::<Result<Vec<usize>>>()?,
        "transformer_layers_per_block": levels.iter().map(depth).collect::<Vec<usize>>(),
        "use_linear_projection": linear,
        // Stable Diffusion 2.1 overflows f16 there, and diffusers takes 2.1's configuration for every 2.
        "upcast_attention": kind.family == Family::Two && !kind.masked,
    });
    let label = at("label_emb.0.0.weight");
    if checkpoint.has(&label) {
        config["addition_embed_type"] = json!("text_time");
        config["addition_time_embed_dim"] = json!(SIZES_WIDTH);
        config["projection_class_embeddings_input_dim"] = json!(checkpoint.side(&label, 1)?);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn blocks_are_numbered_through_there_and_by_level_here() {
        for (there, here) in [
            ("input_blocks.0.0.bias", "conv_in.bias"),
            (
                "input_blocks.3.0.op.weight",
                "down_blocks.0.downsamplers.0.conv.weight",
            ),
            (
                "input_blocks.5.1.norm.bias",
                "down_blocks.1.attentions.1.norm.bias",
            ),
            (
                "input_blocks.4.0.skip_connection.bias",
                "down_blocks.1.resnets.0.conv_shortcut.bias",
            ),
            (
                "middle_block.2.out_layers.3.bias",
                "mid_block.resnets.1.conv2.bias",
            ),
            (
                "middle_block.1.proj_in.bias",
                "mid_block.attentions.0.proj_in.bias",
            ),
            (
                "output_blocks.2.1.conv.bias",
                "up_blocks.0.upsamplers.0.conv.bias",
            ),
            (
                "output_blocks.5.2.conv.bias",
                "up_blocks.1.upsamplers.0.conv.bias",
            ),
            (
                "output_blocks.11.0.emb_layers.1.bias",
                "up_blocks.3.resnets.2.time_emb_proj.bias",
            ),
        ] {
            assert_eq!(renamed(there, 2).as_deref(), Some(here));
        }
        assert_eq!(renamed("input_blocks.1.0.what.bias", 2), None);
        assert_eq!(renamed("time_embed.cond_proj.weight", 2), None);
    }
}
