//! T5's encoder, which is in the file as transformers names it, and its configuration from its shapes. Mirrors
//! `convert_sd3_t5_checkpoint_to_diffusers` of `diffusers` loaders/single_file_utils.py.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::refuse;
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

/// The table of embeddings, and its other name: they are one.
const TABLE: &str = "shared.weight";
const TABLE_AGAIN: &str = "encoder.embed_tokens.weight";
/// What no tensor tells, as in all published encoders: the distance in tokens from which on all are of one kind.
const MOST_DISTANCE: usize = 128;

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, prefix: &str) -> Pieces {
    let twice = checkpoint.has(&format!("{prefix}{TABLE}"));
    let piece = |stored: &str| {
        let name = stored.strip_prefix(prefix)?;
        let wanted = !(twice && name == TABLE_AGAIN);
        wanted.then(|| (name.to_owned(), Piece::new(stored, Change::None)))
    };
    checkpoint.under(prefix).filter_map(piece).collect()
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, prefix: &str) -> Result<Value> {
    let at = |name: &str| format!("{prefix}{name}");
    let inside = |name: &str| at(&format!("encoder.block.0.layer.{name}.weight"));
    let table = match checkpoint.has(&at(TABLE)) {
        true => at(TABLE),
        false => at(TABLE_AGAIN),
    };
    let distances = inside("0.SelfAttention.relative_attention_bias");
    let query = inside("0.SelfAttention.q");
    let (together, heads) = (checkpoint.side(&query, 0)?, checkpoint.side(&distances, 1)?);
    let Some(head) = together
        .checked_div(heads)
        .filter(|head| head * heads == together)
    else {
        let message = format!("{query} has {together} rows, which are not those of {heads} heads");
        return Err(refuse(checkpoint.path(), message));
    };
    let gated = checkpoint.has(&inside("1.DenseReluDense.wi_0"));
    Ok(json!({
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": checkpoint.side(&table, 0)?,
        "d_model": checkpoint.side(&table, 1)?,
        "d_kv": head,
        "d_ff": checkpoint.side(&inside("1.DenseReluDense.wo"), 1)?,
        "num_layers": checkpoint.count(&at("encoder.block.")),
        "num_heads": heads,
        "relative_attention_num_buckets": checkpoint.side(&distances, 0)?,
        "relative_attention_max_distance": MOST_DISTANCE,
        "feed_forward_proj": if gated { "gated-gelu" } else { "relu" },
        "layer_norm_epsilon": 1e-6,
    }))
}
