//! CLIP L, which is in the file as transformers names it, and its configuration from its shapes. Mirrors
//! `convert_ldm_clip_checkpoint` of `diffusers` loaders/single_file_utils.py.

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::kind::Texts;
use super::view::{Change, Piece, Pieces};
use super::{TextSizes, heads_of_64, text_config};
use crate::error::Result;

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, text: &Texts) -> Pieces {
    let piece = |stored: &str| {
        let name = stored.strip_prefix(text.prefix)?;
        // A buffer, and no weight.
        let wanted = !name.ends_with(".position_ids");
        wanted.then(|| (name.to_owned(), Piece::new(stored, Change::None)))
    };
    checkpoint.under(text.prefix).filter_map(piece).collect()
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, text: &Texts) -> Result<Value> {
    let at = |name: &str| format!("{}text_model.{name}", text.prefix);
    let positions = at("embeddings.position_embedding.weight");
    let width = checkpoint.side(&positions, 1)?;
    Ok(text_config(
        text,
        &TextSizes {
            vocabulary: checkpoint.side(&at("embeddings.token_embedding.weight"), 0)?,
            positions: checkpoint.side(&positions, 0)?,
            width,
            feed_forward: checkpoint.side(&at("encoder.layers.0.mlp.fc1.weight"), 0)?,
            layers: checkpoint.count(&at("encoder.layers.")),
            heads: heads_of_64(checkpoint.path(), "its text encoder", width)?,
            projection: width,
        },
    ))
}
