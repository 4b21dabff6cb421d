//! CLIP's encoders that are in the file as transformers names them, and their configurations from their shapes. Mirrors
//! `convert_ldm_clip_checkpoint` and `create_diffusers_clip_model_from_ldm` of `diffusers` loaders/single_file_utils.py.

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::heads_of_64;
use super::texts::{Model, TextSizes, Texts, text_config};
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

const PROJECTION: &str = "text_projection.weight";
const POSITIONS: &str = "text_model.embeddings.position_embedding.weight";

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, text: &Texts) -> Result<Pieces> {
    let of_its_own = projected_by_itself(text);
    let piece = |stored: &str| {
        let name = stored.strip_prefix(text.prefix)?;
        // A buffer, and no weight.
        let wanted = !name.ends_with(".position_ids") && (of_its_own || name != PROJECTION);
        wanted.then(|| (name.to_owned(), Piece::new(stored, Change::None)))
    };
    let mut pieces: Pieces = checkpoint.under(text.prefix).filter_map(piece).collect();
    if text.projected() && !of_its_own {
        let positions = format!("{}{POSITIONS}", text.prefix);
        let width = checkpoint.side(&positions, 1)?;
        let piece = Piece::new(positions, Change::Identity(width));
        pieces.insert(PROJECTION.to_owned(), piece);
    }
    Ok(pieces)
}

/// Whether what it pools goes through a matrix in the file. Stable Diffusion 3 takes what CLIP L pools as it is, and its class in
/// diffusers has a projection all the same: an identity, which is there whatever was saved.
fn projected_by_itself(text: &Texts) -> bool {
    text.projected() && text.model != Model::Clip
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, text: &Texts) -> Result<Value> {
    let at = |name: &str| format!("{}text_model.{name}", text.prefix);
    let positions = at("embeddings.position_embedding.weight");
    let width = checkpoint.side(&positions, 1)?;
    let projection = match projected_by_itself(text) {
        true => checkpoint.side(&format!("{}{PROJECTION}", text.prefix), 0)?,
        false => width,
    };
    Ok(text_config(
        text,
        &TextSizes {
            vocabulary: checkpoint.side(&at("embeddings.token_embedding.weight"), 0)?,
            positions: checkpoint.side(&positions, 0)?,
            width,
            feed_forward: checkpoint.side(&at("encoder.layers.0.mlp.fc1.weight"), 0)?,
            layers: checkpoint.count(&at("encoder.layers.")),
            heads: heads_of_64(checkpoint.path(), "its text encoder", width)?,
            projection,
        },
    ))
}
