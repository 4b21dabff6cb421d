//! OpenCLIP's names: queries, keys and values in one matrix, the projection the other way round; and a configuration from shapes.
//! Mirrors `convert_open_clip_checkpoint` of `diffusers` loaders/single_file_utils.py.

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::heads_of_64;
use super::texts::{TextSizes, Texts, text_config};
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

/// Stable Diffusion 2 reads what its text encoder's last layer but one leaves: of 24 layers the last is never run.
const UNUSED_LAYER: usize = 23;

/// What is around the layers.
const AROUND: [(&str, &str); 4] = [
    (
        "positional_embedding",
        "text_model.embeddings.position_embedding.weight",
    ),
    (
        "token_embedding.weight",
        "text_model.embeddings.token_embedding.weight",
    ),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
];
const PROJECTION: &str = "text_projection";

/// What is in a layer.
const LAYER: [(&str, &str); 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("attn.out_proj.", "self_attn.out_proj."),
];
const PARTS: [&str; 3] = ["q", "k", "v"];

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, text: &Texts) -> Pieces {
    let mut pieces = Pieces::new();
    for stored in checkpoint.under(text.prefix) {
        let name = stored.strip_prefix(text.prefix).unwrap_or(stored);
        for (name, change) in renamed(name, text) {
            pieces.insert(name, Piece::new(stored, change));
        }
    }
    pieces
}

fn renamed(name: &str, text: &Texts) -> Vec<(String, Change)> {
    if let Some((_, here)) = AROUND.iter().find(|(there, _)| *there == name) {
        return vec![((*here).to_owned(), Change::None)];
    }
    if name == PROJECTION && text.projected() {
        return vec![(format!("{PROJECTION}.weight"), Change::Transposed)];
    }
    let layer = || {
        let (number, rest) = name
            .strip_prefix("transformer.resblocks.")?
            .split_once('.')?;
        let number: usize = number.parse().ok()?;
        (text.projected() || number != UNUSED_LAYER).then_some((number, rest))
    };
    let Some((number, rest)) = layer() else {
        return Vec::new();
    };
    let layer = format!("text_model.encoder.layers.{number}");
    if let Some(kind) = rest.strip_prefix("attn.in_proj_") {
        let part = |(n, part): (usize, &&str)| {
            let name = format!("{layer}.self_attn.{part}_proj.{kind}");
            (name, Change::Third(n))
        };
        return PARTS.iter().enumerate().map(part).collect();
    }
    let found = LAYER.iter().find_map(|(there, here)| {
        let rest = rest.strip_prefix(there)?;
        Some((format!("{layer}.{here}{rest}"), Change::None))
    });
    found.into_iter().collect()
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, text: &Texts) -> Result<Value> {
    let at = |name: &str| format!("{}{name}", text.prefix);
    let positions = at("positional_embedding");
    let width = checkpoint.side(&positions, 1)?;
    let layers = checkpoint.count(&at("transformer.resblocks."));
    let layers = match text.projected() {
        true => layers,
        false => layers.min(UNUSED_LAYER),
    };
    let projection = match text.projected() {
        true => checkpoint.side(&at(PROJECTION), 1)?,
        false => width,
    };
    Ok(text_config(
        text,
        &TextSizes {
            vocabulary: checkpoint.side(&at("token_embedding.weight"), 0)?,
            positions: checkpoint.side(&positions, 0)?,
            width,
            feed_forward: checkpoint.side(&at("transformer.resblocks.0.mlp.c_fc.weight"), 0)?,
            layers,
            heads: heads_of_64(checkpoint.path(), "its text encoder", width)?,
            projection,
        },
    ))
}
