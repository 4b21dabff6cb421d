//! A checkpoint in one file, in the layout that its publisher trained it in, as a snapshot in the diffusers layout: configurations
//! told from keys and shapes, tensors under diffusers' names, a tokenizer. Apart from everything else, so that nothing else knows
//! that there is such a layout. Mirrors `diffusers` loaders/single_file.py and loaders/single_file_utils.py.

mod autoencoder;
mod checkpoint;
mod clip;
mod contracting;
mod control;
mod kind;
mod open_clip;
mod schedule;
mod tokenizer;
mod unet;
mod view;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chandler_nn::weights::{Snapshot, TensorSource};
use serde_json::{Value, json};

use crate::error::{ImageError, Result};
use crate::model_index;
use checkpoint::Checkpoint;
pub use control::open_control;
use kind::{Kind, Texts};
use view::{Pieces, View, Whole};

/// What may lie beside a checkpoint, named as in the diffusers layout, and then counts instead of what is told from the tensors.
const BESIDE: [&str; 5] = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "scheduler/scheduler_config.json",
];

/// The model in one safetensors file. Its header is read and nothing more; nothing is copied later but text projections and what is
/// put together of parts.
///
/// # Errors
/// Names the file, and what it holds when that is no model that is served.
pub fn open(path: &Path) -> Result<Snapshot> {
    let checkpoint = Checkpoint::open(path)?;
    let beside = checkpoint::folder(path)?;
    let kind = Kind::of(&checkpoint)?;
    let mut made = Made {
        files: BTreeMap::new(),
        pieces: BTreeMap::new(),
    };
    let vae = autoencoder::config(&checkpoint, kind)?;
    let blocks = vae["block_out_channels"].as_array().map_or(0, Vec::len);
    let unet = unet::config(&checkpoint, kind, blocks.saturating_sub(1))?;
    let layers = unet["layers_per_block"].as_u64().unwrap_or_default() as usize;
    made.part("unet", &unet, unet::pieces(&checkpoint, layers));
    made.part("vae", &vae, autoencoder::pieces(&checkpoint));
    let mut parts = BTreeMap::new();
    for (n, text) in kind.texts().iter().enumerate() {
        let config = match text.open {
            false => clip::config(&checkpoint, text)?,
            true => open_clip::config(&checkpoint, text)?,
        };
        let pieces = match text.open {
            false => clip::pieces(&checkpoint, text),
            true => open_clip::pieces(&checkpoint, text),
        };
        made.part(text.folder, &config, pieces);
        parts.insert(text.folder, text.class);
        let tokens = config["vocab_size"].as_u64().unwrap_or_default();
        let files = tokenizer::files(&beside, (n, text), tokens)?;
        made.files.extend(files);
    }
    made.json(model_index::FILE, &index(kind, parts));
    made.json(
        "scheduler/scheduler_config.json",
        &schedule::config(&checkpoint, kind)?,
    );
    for file in BESIDE {
        if let Some(bytes) = beside.read(file)? {
            tracing::info!(file, "this file beside the checkpoint counts");
            made.files.insert(file.to_owned(), bytes);
        }
    }
    made.tell_what_is_passed_over(&checkpoint);
    Ok(made.snapshot(&checkpoint))
}

/// Small files, and each part's tensors.
struct Made {
    files: BTreeMap<String, Vec<u8>>,
    pieces: BTreeMap<&'static str, Pieces>,
}

impl Made {
    fn json(&mut self, file: &str, value: &Value) {
        self.files
            .insert(file.to_owned(), value.to_string().into_bytes());
    }

    fn part(&mut self, folder: &'static str, config: &Value, pieces: Pieces) {
        self.json(&format!("{folder}/config.json"), config);
        self.pieces.insert(folder, pieces);
    }

    /// Tensors of the networks that no name here stands for. diffusers says nothing of them; a word is cheap.
    fn tell_what_is_passed_over(&self, checkpoint: &Checkpoint) {
        let used: std::collections::BTreeSet<&str> = self
            .pieces
            .values()
            .flat_map(|pieces| pieces.values().map(|piece| piece.stored.as_str()))
            .collect();
        let unused = || {
            let known = |name: &&str| used.contains(*name) || kind::is_passed_over(name);
            checkpoint.names().filter(move |name| !known(name))
        };
        if let Some(first) = unused().next() {
            let count = unused().count();
            tracing::warn!(
                count,
                first,
                "tensors of this checkpoint that no part of its model has"
            );
        }
    }

    fn snapshot(self, checkpoint: &Checkpoint) -> Snapshot {
        let whole = Arc::new(Whole::new(checkpoint.source()));
        let views = self.pieces.into_iter().map(|(folder, pieces)| {
            let view: Arc<dyn TensorSource> = Arc::new(View::new(Arc::clone(&whole), pieces));
            (folder.to_owned(), view)
        });
        Snapshot::composed_of_parts(
            checkpoint.path().display().to_string(),
            self.files,
            views.collect(),
        )
    }
}

/// model_index.json, as the publisher's own conversion has it.
fn index(kind: Kind, texts: BTreeMap<&str, &str>) -> Value {
    let mut index = json!({
        "_class_name": kind.class(),
        "scheduler": ["diffusers", "Scheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    });
    for (folder, class) in texts {
        index[folder] = json!(["transformers", class]);
    }
    for (name, value) in kind.flags() {
        index[name] = json!(value);
    }
    index
}

/// An error about the file.
fn refuse(path: &Path, reason: impl std::fmt::Display) -> ImageError {
    ImageError::Input(format!("{}: {reason}", path.display()))
}

/// The text encoders' folders need no more than this.
fn heads_of_64(path: &Path, what: &str, width: usize) -> Result<usize> {
    const HEAD: usize = 64;
    if width == 0 || !width.is_multiple_of(HEAD) {
        return Err(refuse(
            path,
            format!(
                "{what} is {width} wide, and no file says of how many heads: 64 numbers are usual for each; put its config.json beside"
            ),
        ));
    }
    Ok(width / HEAD)
}

/// Text encoders are the same to both of their layouts but for names.
fn text_config(text: &Texts, sizes: &TextSizes) -> Value {
    json!({
        "architectures": [text.class],
        "model_type": "clip_text_model",
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.positions,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.feed_forward,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "projection_dim": sizes.projection,
        "hidden_act": if text.open { "gelu" } else { "quick_gelu" },
        // As all published configurations have it, whatever the tokenizer's is: the highest id of a text ends it.
        "eos_token_id": 2,
    })
}

/// Of a text encoder.
struct TextSizes {
    vocabulary: usize,
    positions: usize,
    width: usize,
    feed_forward: usize,
    layers: usize,
    heads: usize,
    projection: usize,
}
