//! The names of Stable Diffusion 3's transformer in the original layout, and its configuration. Mirrors
//! `convert_sd3_transformer_checkpoint_to_diffusers` of `diffusers` loaders/single_file_utils.py.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::kind::Kind;
use super::refuse;
use super::renaming::{fused, replaced};
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

/// Width of a head where no norm of one tells it, as in `MMDiT` of the original code.
const HEAD: usize = 64;
/// Latents along the sides of the pictures that all published models were made for.
const USUAL_SIDE: usize = 128;

/// What is around the blocks: its name there, and in diffusers.
const AROUND: [(&str, &str); 7] = [
    ("x_embedder.proj.", "pos_embed.proj."),
    (
        "t_embedder.mlp.0.",
        "time_text_embed.timestep_embedder.linear_1.",
    ),
    (
        "t_embedder.mlp.2.",
        "time_text_embed.timestep_embedder.linear_2.",
    ),
    (
        "y_embedder.mlp.0.",
        "time_text_embed.text_embedder.linear_1.",
    ),
    (
        "y_embedder.mlp.2.",
        "time_text_embed.text_embedder.linear_2.",
    ),
    ("context_embedder.", "context_embedder."),
    ("final_layer.linear.", "proj_out."),
];
/// There shift and scale, and in diffusers scale and shift.
const LAST_NORM: &str = "final_layer.adaLN_modulation.1.";

/// What is in a block.
const BLOCK: [(&str, &str); 15] = [
    ("x_block.adaLN_modulation.1.", "norm1.linear."),
    ("x_block.attn.ln_q.", "attn.norm_q."),
    ("x_block.attn.ln_k.", "attn.norm_k."),
    ("x_block.attn.proj.", "attn.to_out.0."),
    ("x_block.attn2.ln_q.", "attn2.norm_q."),
    ("x_block.attn2.ln_k.", "attn2.norm_k."),
    ("x_block.attn2.proj.", "attn2.to_out.0."),
    ("x_block.mlp.fc1.", "ff.net.0.proj."),
    ("x_block.mlp.fc2.", "ff.net.2."),
    ("context_block.adaLN_modulation.1.", "norm1_context.linear."),
    ("context_block.attn.ln_q.", "attn.norm_added_q."),
    ("context_block.attn.ln_k.", "attn.norm_added_k."),
    ("context_block.attn.proj.", "attn.to_add_out."),
    ("context_block.mlp.fc1.", "ff_context.net.0.proj."),
    ("context_block.mlp.fc2.", "ff_context.net.2."),
];
/// Queries, keys and values in one.
const FUSED: [(&str, [&str; 3]); 3] = [
    (
        "x_block.attn.qkv.",
        ["attn.to_q.", "attn.to_k.", "attn.to_v."],
    ),
    (
        "x_block.attn2.qkv.",
        ["attn2.to_q.", "attn2.to_k.", "attn2.to_v."],
    ),
    (
        "context_block.attn.qkv.",
        ["attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."],
    ),
];

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, kind: Kind) -> Pieces {
    let layers = checkpoint.count(&format!("{}joint_blocks.", kind.prefix));
    let mut pieces = Pieces::new();
    for stored in checkpoint.under(kind.prefix) {
        let name = stored.strip_prefix(kind.prefix).unwrap_or(stored);
        for (name, change) in renamed(name, layers) {
            pieces.insert(name, Piece::new(stored, change));
        }
    }
    pieces
}

/// A tensor's names in diffusers, in a transformer of so many blocks.
fn renamed(name: &str, layers: usize) -> Vec<(String, Change)> {
    if name == "pos_embed" {
        return vec![("pos_embed.pos_embed".to_owned(), Change::None)];
    }
    if let Some(rest) = name.strip_prefix(LAST_NORM) {
        return vec![(format!("norm_out.linear.{rest}"), Change::Swapped)];
    }
    if let Some(found) = replaced(&AROUND, name) {
        return vec![(found, Change::None)];
    }
    let block = || {
        let (number, rest) = name.strip_prefix("joint_blocks.")?.split_once('.')?;
        Some((number.parse::<usize>().ok()?, rest))
    };
    let Some((number, rest)) = block() else {
        return Vec::new();
    };
    let inside = |name: String| format!("transformer_blocks.{number}.{name}");
    let parts = fused(&FUSED, rest);
    if !parts.is_empty() {
        let parts = parts.into_iter();
        return parts.map(|(name, change)| (inside(name), change)).collect();
    }
    let Some(found) = replaced(&BLOCK, rest) else {
        return Vec::new();
    };
    // The text ends with the last block, and has the norm there that ends the picture.
    let ends = number + 1 == layers && found.starts_with("norm1_context.");
    let change = match ends {
        true => Change::Swapped,
        false => Change::None,
    };
    vec![(inside(found), change)]
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, kind: Kind) -> Result<Value> {
    let at = |name: &str| format!("{}{name}", kind.prefix);
    let side = |name: &str, dim: usize| checkpoint.side(&at(name), dim);
    let (width, patch) = (
        side("x_embedder.proj.weight", 0)?,
        side("x_embedder.proj.weight", 2)?,
    );
    let norm = "joint_blocks.0.x_block.attn.ln_q.weight";
    let normed = checkpoint.has(&at(norm));
    let head = if normed { side(norm, 0)? } else { HEAD };
    let heads = width
        .checked_div(head)
        .filter(|heads| heads * head == width);
    let rows = side("final_layer.linear.weight", 0)?;
    let outputs = rows.checked_div(patch * patch);
    let places = side("pos_embed", 1)?;
    let along = Some(places.isqrt()).filter(|along| along * along == places);
    let (Some(heads), Some(outputs), Some(along)) = (heads, outputs, along) else {
        let message = format!(
            "its transformer is {width} wide in heads of {head}, has patches of {patch} and {places} positions, which do not go together: \
             put transformer/config.json beside"
        );
        return Err(refuse(checkpoint.path(), message));
    };
    let layers = checkpoint.count(&at("joint_blocks."));
    let dual = |n: &usize| checkpoint.has_any(&at(&format!("joint_blocks.{n}.x_block.attn2.")));
    Ok(json!({
        "_class_name": "SD3Transformer2DModel",
        "sample_size": USUAL_SIDE,
        "patch_size": patch,
        "in_channels": side("x_embedder.proj.weight", 1)?,
        "out_channels": outputs,
        "num_layers": layers,
        "attention_head_dim": head,
        "num_attention_heads": heads,
        "joint_attention_dim": side("context_embedder.weight", 1)?,
        "caption_projection_dim": side("context_embedder.weight", 0)?,
        "pooled_projection_dim": side("y_embedder.mlp.0.weight", 1)?,
        "pos_embed_max_size": along,
        "dual_attention_layers": (0..layers).filter(dual).collect::<Vec<usize>>(),
        "qk_norm": normed.then_some("rms_norm"),
    }))
}
