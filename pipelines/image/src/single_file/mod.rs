//! A checkpoint in one file, in the layout that its publisher trained it in, as a snapshot in the diffusers layout: configurations
//! told from keys and shapes, tensors under diffusers' names, a tokenizer. Apart from everything else, so that nothing else knows
//! that there is such a layout. Mirrors `diffusers` loaders/single_file.py and loaders/single_file_utils.py.

mod autoencoder;
mod checkpoint;
mod clip;
mod contracting;
mod control;
mod flux;
mod kind;
mod made;
mod open_clip;
mod renaming;
mod schedule;
mod sd3;
mod t5;
mod texts;
mod tokenizer;
mod unet;
mod view;

use std::path::Path;

use chandler_nn::weights::Snapshot;

use crate::error::{ImageError, Result};
use checkpoint::Checkpoint;
pub use control::open_control;
use kind::{Family, Kind};
use made::Made;

/// The model in one safetensors file. Its header is read and nothing more; nothing is copied later but text projections and what is
/// put together of parts. What a transformer's file lacks may lie beside it in the folders of the diffusers layout.
///
/// # Errors
/// Names the file, and what it holds when that is no model that is served.
pub fn open(path: &Path) -> Result<Snapshot> {
    let checkpoint = Checkpoint::open(path)?;
    let kind = Kind::of(&checkpoint)?;
    let mut made = Made::new(&checkpoint, kind)?;
    match kind.family {
        Family::One | Family::Two | Family::Xl | Family::Refiner => with_unet(&mut made)?,
        Family::Three => {
            let config = made.config("transformer", || sd3::config(&checkpoint, kind))?;
            made.part("transformer", &config, sd3::pieces(&checkpoint, kind))?;
        }
        Family::Flux => {
            let config = made.config("transformer", || flux::config(&checkpoint, kind))?;
            made.part("transformer", &config, flux::pieces(&checkpoint, kind)?)?;
        }
    }
    made.check_that_all_parts_are_there()?;
    if let Some(prefix) = autoencoder::prefix(&checkpoint) {
        let told = || autoencoder::config(&checkpoint, prefix, kind);
        let config = made.config("vae", told)?;
        made.part("vae", &config, autoencoder::pieces(&checkpoint, prefix))?;
    } else {
        made.part_beside("vae")?;
    }
    for (n, text) in kind.texts().iter().enumerate() {
        if made.is_without(text) {
            tracing::info!(
                part = text.folder,
                "the model is without this part, in the file and beside it"
            );
            continue;
        }
        let config = match checkpoint.has_any(text.prefix) {
            true => {
                let config = made.config(text.folder, || text.config(&checkpoint))?;
                made.part(text.folder, &config, text.pieces(&checkpoint)?)?;
                config
            }
            false => made.part_beside(text.folder)?,
        };
        let tokens = config["vocab_size"].as_u64().unwrap_or_default();
        made.tokenizer((n, text), tokens)?;
    }
    made.index();
    made.schedule()?;
    made.tell_what_is_passed_over();
    Ok(made.snapshot())
}

/// The denoiser of families that have a UNet, whose sizes go with the autoencoder's.
fn with_unet(made: &mut Made<'_>) -> Result<()> {
    let (checkpoint, kind) = (made.checkpoint, made.kind);
    let prefix = autoencoder::prefix(checkpoint).unwrap_or_default();
    let vae = autoencoder::config(checkpoint, prefix, kind)?;
    let blocks = vae["block_out_channels"].as_array().map_or(0, Vec::len);
    let told = unet::config(checkpoint, kind, blocks.saturating_sub(1))?;
    let layers = told["layers_per_block"].as_u64().unwrap_or_default() as usize;
    let config = made.config("unet", || Ok(told))?;
    made.part("unet", &config, unet::pieces(checkpoint, layers))
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
