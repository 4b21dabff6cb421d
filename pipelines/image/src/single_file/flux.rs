//! The names of FLUX's transformer in the original layout, and its configuration. Mirrors
//! `convert_flux_transformer_checkpoint_to_diffusers` of `diffusers` loaders/single_file_utils.py.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::kind::Kind;
use super::refuse;
use super::renaming::{fused, replaced};
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

/// Width of a head, and how many of its numbers turn with each axis, which no tensor tells: as in all of FLUX.1.
const HEAD: usize = 128;
const AXES: [usize; 3] = [16, 56, 56];
/// By which a model is known that takes the guidance scale: dev, not schnell.
const GUIDANCE: &str = "guidance_in.in_layer.weight";

/// What is around the blocks: its name there, and in diffusers.
const AROUND: [(&str, &str); 9] = [
    (
        "time_in.in_layer.",
        "time_text_embed.timestep_embedder.linear_1.",
    ),
    (
        "time_in.out_layer.",
        "time_text_embed.timestep_embedder.linear_2.",
    ),
    (
        "vector_in.in_layer.",
        "time_text_embed.text_embedder.linear_1.",
    ),
    (
        "vector_in.out_layer.",
        "time_text_embed.text_embedder.linear_2.",
    ),
    (
        "guidance_in.in_layer.",
        "time_text_embed.guidance_embedder.linear_1.",
    ),
    (
        "guidance_in.out_layer.",
        "time_text_embed.guidance_embedder.linear_2.",
    ),
    ("txt_in.", "context_embedder."),
    ("img_in.", "x_embedder."),
    ("final_layer.linear.", "proj_out."),
];
/// There shift and scale, and in diffusers scale and shift.
const LAST_NORM: &str = "final_layer.adaLN_modulation.1.";

/// What is in a block of two sequences.
const DOUBLE: [(&str, &str); 12] = [
    ("img_mod.lin.", "norm1.linear."),
    ("txt_mod.lin.", "norm1_context.linear."),
    ("img_attn.norm.query_norm.scale", "attn.norm_q.weight"),
    ("img_attn.norm.key_norm.scale", "attn.norm_k.weight"),
    ("txt_attn.norm.query_norm.scale", "attn.norm_added_q.weight"),
    ("txt_attn.norm.key_norm.scale", "attn.norm_added_k.weight"),
    ("img_attn.proj.", "attn.to_out.0."),
    ("txt_attn.proj.", "attn.to_add_out."),
    ("img_mlp.0.", "ff.net.0.proj."),
    ("img_mlp.2.", "ff.net.2."),
    ("txt_mlp.0.", "ff_context.net.0.proj."),
    ("txt_mlp.2.", "ff_context.net.2."),
];
/// Queries, keys and values in one.
const FUSED: [(&str, [&str; 3]); 2] = [
    ("img_attn.qkv.", ["attn.to_q.", "attn.to_k.", "attn.to_v."]),
    (
        "txt_attn.qkv.",
        ["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."],
    ),
];
/// What is in a block of one sequence.
const SINGLE: [(&str, &str); 4] = [
    ("modulation.lin.", "norm.linear."),
    ("norm.query_norm.scale", "attn.norm_q.weight"),
    ("norm.key_norm.scale", "attn.norm_k.weight"),
    ("linear2.", "proj_out."),
];
/// Queries, keys, values and the feed-forward layer in one: three of the residual stream's width, and the rest.
const SINGLE_FUSED: &str = "linear1.";
const SINGLE_PARTS: [&str; 4] = ["attn.to_q.", "attn.to_k.", "attn.to_v.", "proj_mlp."];

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, kind: Kind) -> Result<Pieces> {
    let width = checkpoint.side(&format!("{}img_in.weight", kind.prefix), 0)?;
    let mut pieces = Pieces::new();
    for stored in checkpoint.under(kind.prefix) {
        let name = stored.strip_prefix(kind.prefix).unwrap_or(stored);
        for (name, change) in renamed(name, width) {
            pieces.insert(name, Piece::new(stored, change));
        }
    }
    Ok(pieces)
}

/// A tensor's names in diffusers, in a transformer of this width.
fn renamed(name: &str, width: usize) -> Vec<(String, Change)> {
    if let Some(rest) = name.strip_prefix(LAST_NORM) {
        return vec![(format!("norm_out.linear.{rest}"), Change::Swapped)];
    }
    if let Some(found) = replaced(&AROUND, name) {
        return vec![(found, Change::None)];
    }
    let block = |blocks: &str| {
        let (number, rest) = name.strip_prefix(blocks)?.split_once('.')?;
        Some((number.parse::<usize>().ok()?, rest))
    };
    if let Some((number, rest)) = block("double_blocks.") {
        let mut parts = fused(&FUSED, rest);
        parts.extend(replaced(&DOUBLE, rest).map(|found| (found, Change::None)));
        return inside(&format!("transformer_blocks.{number}"), parts);
    }
    let Some((number, rest)) = block("single_blocks.") else {
        return Vec::new();
    };
    let parts = match rest.strip_prefix(SINGLE_FUSED) {
        Some(rest) => {
            let part = |(n, part): (usize, &&str)| {
                let change = match n {
                    0..3 => Change::Rows(n * width, width),
                    _ => Change::From(n * width),
                };
                (format!("{part}{rest}"), change)
            };
            SINGLE_PARTS.iter().enumerate().map(part).collect()
        }
        None => {
            let found = replaced(&SINGLE, rest).into_iter();
            found.map(|found| (found, Change::None)).collect()
        }
    };
    inside(&format!("single_transformer_blocks.{number}"), parts)
}

fn inside(block: &str, parts: Vec<(String, Change)>) -> Vec<(String, Change)> {
    let parts = parts.into_iter();
    parts
        .map(|(name, change)| (format!("{block}.{name}"), change))
        .collect()
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, kind: Kind) -> Result<Value> {
    let at = |name: &str| format!("{}{name}", kind.prefix);
    let side = |name: &str, dim: usize| checkpoint.side(&at(name), dim);
    let width = side("img_in.weight", 0)?;
    let head = side("double_blocks.0.img_attn.norm.key_norm.scale", 0)?;
    if head != HEAD || !width.is_multiple_of(HEAD) {
        let message = format!(
            "its transformer is {width} wide in heads of {head}, and no tensor says how they turn: heads of {HEAD} are usual; put \
             transformer/config.json beside"
        );
        return Err(refuse(checkpoint.path(), message));
    }
    Ok(json!({
        "_class_name": "FluxTransformer2DModel",
        "patch_size": 1,
        "in_channels": side("img_in.weight", 1)?,
        "out_channels": side("final_layer.linear.weight", 0)?,
        "num_layers": checkpoint.count(&at("double_blocks.")),
        "num_single_layers": checkpoint.count(&at("single_blocks.")),
        "attention_head_dim": head,
        "num_attention_heads": width / head,
        "joint_attention_dim": side("txt_in.weight", 1)?,
        "pooled_projection_dim": side("vector_in.in_layer.weight", 1)?,
        "guidance_embeds": is_guided(checkpoint, kind),
        "axes_dims_rope": AXES,
    }))
}

/// Whether the guidance scale is an input: dev, not schnell.
pub(super) fn is_guided(checkpoint: &Checkpoint, kind: Kind) -> bool {
    checkpoint.has(&format!("{}{GUIDANCE}", kind.prefix))
}
