//! A UNet's names in the original layout, and its configuration. Mirrors `convert_ldm_unet_checkpoint` of `diffusers`
//! loaders/single_file_utils.py.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::contracting;
use super::kind::{Family, Kind};
use super::renaming::replaced;
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

const PREFIX: &str = "model.diffusion_model.";

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

/// A number and what is behind its dot.
fn numbered(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// A tensor's name in diffusers, in a network of so many residual blocks on each level.
pub(super) fn renamed(name: &str, layers: usize) -> Option<String> {
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

/// config.json, of a UNet whose latents are halved so often from pixels.
pub(super) fn config(checkpoint: &Checkpoint, kind: Kind, halvings: usize) -> Result<Value> {
    let mut config = contracting::config(checkpoint, PREFIX)?;
    let down = config["down_block_types"].as_array().into_iter().flatten();
    let up = down.rev().filter_map(Value::as_str);
    let up: Vec<String> = up.map(|kind| kind.replace("Down", "Up")).collect();
    let out = format!("{PREFIX}out.2.weight");
    config["_class_name"] = json!("UNet2DConditionModel");
    config["up_block_types"] = json!(up);
    config["out_channels"] = json!(checkpoint.side(&out, 0)?);
    config["sample_size"] = json!(kind.side().checked_shr(halvings as u32).unwrap_or(0));
    // Stable Diffusion 2.1 overflows f16 there, and diffusers takes 2.1's configuration for every 2.
    config["upcast_attention"] = json!(kind.family == Family::Two && !kind.masked);
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
