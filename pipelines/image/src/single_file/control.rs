//! A ControlNet in one file, in the original layout, as a snapshot in the diffusers layout. Mirrors `convert_controlnet_checkpoint`
//! of `diffusers` loaders/single_file_utils.py.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chandler_nn::weights::Snapshot;
use serde_json::json;

use super::checkpoint::Checkpoint;
use super::view::{Change, Piece, Pieces, View, Whole};
use super::{contracting, refuse, unet};
use crate::error::Result;

/// Where its tensors' names may begin: with the UNet that it was trained beside, and alone.
const PREFIXES: [&str; 2] = ["control_model.", ""];
/// The way of a picture of conditions down to the latents' size: convolutions, with an activation between each two.
const HINT: &str = "input_hint_block.";

/// The ControlNet in one safetensors file.
///
/// # Errors
/// Names the file, and what it lacks.
pub fn open_control(path: &Path) -> Result<Snapshot> {
    let checkpoint = Checkpoint::open(path)?;
    let first = |prefix: &&str| checkpoint.has(&format!("{prefix}{HINT}0.weight"));
    let Some(prefix) = PREFIXES.into_iter().find(first) else {
        let message = match checkpoint.has_any("controlnet_cond_embedding.") {
            true => "it is in diffusers' names: give the directory that holds its config.json too",
            false => {
                "it is no ControlNet in the original layout: there is no tensor input_hint_block.0.weight"
            }
        };
        return Err(refuse(path, message));
    };
    let hint = format!("{prefix}{HINT}");
    let places = places(&checkpoint, &hint);
    let mut config = contracting::config(&checkpoint, prefix)?;
    // Of each width but the last there is one more convolution, which keeps it.
    let widths = places.iter().step_by(2).take(places.len() / 2);
    let widths = widths.map(|place| checkpoint.side(&format!("{hint}{place}.weight"), 0));
    let first = checkpoint.side(&format!("{hint}0.weight"), 1)?;
    config["_class_name"] = json!("ControlNetModel");
    config["conditioning_channels"] = json!(first);
    config["conditioning_embedding_out_channels"] = json!(widths.collect::<Result<Vec<usize>>>()?);
    let layers = config["layers_per_block"].as_u64().unwrap_or_default() as usize;
    let files = [("config.json".to_owned(), config.to_string().into_bytes())];
    let pieces = pieces(&checkpoint, prefix, (layers, &places));
    let view = View::new(Arc::new(Whole::new(checkpoint.source())), pieces);
    let name = path.display().to_string();
    Ok(Snapshot::composed(
        name,
        BTreeMap::from(files),
        Arc::new(view),
    ))
}

/// The numbers of the convolutions on a picture's way, in their order.
fn places(checkpoint: &Checkpoint, hint: &str) -> Vec<usize> {
    let number = |name: &str| -> Option<usize> {
        let (number, rest) = name.strip_prefix(hint)?.split_once('.')?;
        (rest == "weight").then(|| number.parse().ok())?
    };
    let mut places: Vec<usize> = checkpoint.under(hint).filter_map(number).collect();
    places.sort_unstable();
    places
}

fn pieces(checkpoint: &Checkpoint, prefix: &str, sizes: (usize, &[usize])) -> Pieces {
    let piece = |stored: &str| {
        let name = renamed(stored.strip_prefix(prefix)?, sizes)?;
        Some((name, Piece::new(stored, Change::None)))
    };
    checkpoint.under(prefix).filter_map(piece).collect()
}

fn renamed(name: &str, (layers, places): (usize, &[usize])) -> Option<String> {
    if let Some(rest) = name.strip_prefix("zero_convs.") {
        let (number, rest) = rest.split_once('.')?;
        let rest = rest.strip_prefix("0.")?;
        return Some(format!("controlnet_down_blocks.{number}.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("middle_block_out.0.") {
        return Some(format!("controlnet_mid_block.{rest}"));
    }
    let Some(rest) = name.strip_prefix(HINT) else {
        return unet::renamed(name, layers);
    };
    let (number, rest) = rest.split_once('.')?;
    let number: usize = number.parse().ok()?;
    let place = places.iter().position(|place| *place == number)?;
    let layer = match place {
        0 => "conv_in".to_owned(),
        last if last + 1 == places.len() => "conv_out".to_owned(),
        between => format!("blocks.{}", between - 1),
    };
    Some(format!("controlnet_cond_embedding.{layer}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn convolutions_of_conditions_are_counted_without_their_activations() {
        let places = [0, 2, 4, 6, 8, 10, 12, 14];
        for (there, here) in [
            (
                "input_hint_block.0.bias",
                "controlnet_cond_embedding.conv_in.bias",
            ),
            (
                "input_hint_block.2.bias",
                "controlnet_cond_embedding.blocks.0.bias",
            ),
            (
                "input_hint_block.12.bias",
                "controlnet_cond_embedding.blocks.5.bias",
            ),
            (
                "input_hint_block.14.bias",
                "controlnet_cond_embedding.conv_out.bias",
            ),
            ("zero_convs.11.0.weight", "controlnet_down_blocks.11.weight"),
            ("middle_block_out.0.bias", "controlnet_mid_block.bias"),
            ("time_embed.2.bias", "time_embedding.linear_2.bias"),
        ] {
            assert_eq!(renamed(there, (2, &places)).as_deref(), Some(here));
        }
    }
}
