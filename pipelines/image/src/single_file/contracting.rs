//! The half of a UNet that goes down and its middle, which a ControlNet has as well: a configuration from shapes. What configurations
//! say in `diffusers` loaders/single_file_utils.py (`create_unet_diffusers_config_from_ldm`) is told from shapes here, so that other
//! sizes take the same way.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::heads_of_64;
use super::refuse;
use crate::error::Result;

/// Heads of every attention where projections are convolutions; where they are matrices, heads are 64 wide.
const HEADS: usize = 8;
/// Numbers that each of SDXL's sizes is spread over.
const SIZES_WIDTH: usize = 256;

/// One level on the way down.
#[derive(Default)]
struct Level {
    channels: usize,
    /// Transformers behind each of its residual blocks.
    depths: Vec<usize>,
}

fn levels(checkpoint: &Checkpoint, prefix: &str) -> Result<Vec<Level>> {
    let mut levels = vec![Level::default()];
    for n in 1..checkpoint.count(&format!("{prefix}input_blocks.")) {
        let block = format!("{prefix}input_blocks.{n}");
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

/// Residual blocks of every level, of levels and a middle that a configuration of diffusers can say.
fn even(levels: &[Level], middle: usize) -> Result<usize, String> {
    let layers = levels.first().map_or(0, |level| level.depths.len());
    let uneven = |level: &Level| {
        let first = level.depths.first();
        level.depths.len() != layers || level.depths.iter().any(|depth| Some(depth) != first)
    };
    let last = levels
        .last()
        .and_then(|level| level.depths.first())
        .copied();
    let other_middle = last.is_some_and(|depth| depth > 0 && depth != middle);
    if layers > 0 && middle > 0 && !other_middle && !levels.iter().any(uneven) {
        return Ok(layers);
    }
    let depths: Vec<&[usize]> = levels.iter().map(|level| level.depths.as_slice()).collect();
    Err(format!(
        "it has {depths:?} transformers on its levels and {middle} in the middle; as many behind each residual block of a level, and in \
         the middle as on the last, are supported"
    ))
}

/// The fields that both networks have, of one whose tensors' names begin so.
pub(super) fn config(checkpoint: &Checkpoint, prefix: &str) -> Result<Value> {
    let path = checkpoint.path();
    let levels = levels(checkpoint, prefix)?;
    let middle = checkpoint.count(&format!("{prefix}middle_block.1.transformer_blocks."));
    let layers = even(&levels, middle).map_err(|message| refuse(path, message))?;
    let crossed = |level: &Level| level.depths.first().copied().unwrap_or(0);
    // What stands for a level without any is of no account, but that the middle has what stands for the last.
    let depth = |level: &Level| match crossed(level) {
        0 => middle,
        depth => depth,
    };
    let kind = |level: &Level| match crossed(level) {
        0 => "DownBlock2D",
        _ => "CrossAttnDownBlock2D",
    };
    let at = |name: &str| format!("{prefix}{name}");
    let transformer = at("middle_block.1.");
    let linear = checkpoint
        .shape(&format!("{transformer}proj_in.weight"))?
        .len()
        == 2;
    let context = format!("{transformer}transformer_blocks.0.attn2.to_k.weight");
    let channels: Vec<usize> = levels.iter().map(|level| level.channels).collect();
    let heads = channels.iter().map(|channels| match linear {
        true => heads_of_64(path, "one of its levels", *channels),
        false => Ok(HEADS),
    });
    let mut config = json!({
        "in_channels": checkpoint.side(&at("input_blocks.0.0.weight"), 1)?,
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": levels.iter().map(kind).collect::<Vec<&str>>(),
        "cross_attention_dim": checkpoint.side(&context, 1)?,
        "attention_head_dim": heads.collect::<Result<Vec<usize>>>()?,
        "transformer_layers_per_block": levels.iter().map(depth).collect::<Vec<usize>>(),
        "use_linear_projection": linear,
    });
    let label = at("label_emb.0.0.weight");
    if checkpoint.has(&label) {
        config["addition_embed_type"] = json!("text_time");
        config["addition_time_embed_dim"] = json!(SIZES_WIDTH);
        config["projection_class_embeddings_input_dim"] = json!(checkpoint.side(&label, 1)?);
    }
    Ok(config)
}
