//! An autoencoder's names in the original layout, and its configuration from its shapes. Mirrors `convert_ldm_vae_checkpoint` of
//! `diffusers` loaders/single_file_utils.py.

use serde_json::{Value, json};

use super::checkpoint::Checkpoint;
use super::kind::{Family, Kind};
use super::refuse;
use super::view::{Change, Piece, Pieces};
use crate::error::Result;

/// What its names begin with; the second in FLUX's files.
const PREFIXES: [&str; 2] = ["first_stage_model.", "vae."];

/// In the middle, of encoder and decoder alike. There every projection is a 1×1 convolution.
const MIDDLE: [(&str, &str, Change); 7] = [
    ("mid.block_1.", "mid_block.resnets.0.", Change::None),
    ("mid.block_2.", "mid_block.resnets.1.", Change::None),
    (
        "mid.attn_1.norm.",
        "mid_block.attentions.0.group_norm.",
        Change::None,
    ),
    (
        "mid.attn_1.q.",
        "mid_block.attentions.0.to_q.",
        Change::Matrix,
    ),
    (
        "mid.attn_1.k.",
        "mid_block.attentions.0.to_k.",
        Change::Matrix,
    ),
    (
        "mid.attn_1.v.",
        "mid_block.attentions.0.to_v.",
        Change::Matrix,
    ),
    (
        "mid.attn_1.proj_out.",
        "mid_block.attentions.0.to_out.0.",
        Change::Matrix,
    ),
];

/// What the names of the file's autoencoder begin with; nothing where it has none.
pub(super) fn prefix(checkpoint: &Checkpoint) -> Option<&'static str> {
    let here = |prefix: &&str| checkpoint.has_any(&format!("{prefix}decoder."));
    PREFIXES.into_iter().find(here)
}

/// All tensors.
pub(super) fn pieces(checkpoint: &Checkpoint, prefix: &str) -> Pieces {
    let levels = checkpoint.count(&format!("{prefix}decoder.up."));
    let piece = |stored: &str| {
        let (name, change) = renamed(stored.strip_prefix(prefix)?, levels)?;
        Some((name, Piece::new(stored, change)))
    };
    checkpoint.under(prefix).filter_map(piece).collect()
}

fn renamed(name: &str, levels: usize) -> Option<(String, Change)> {
    let (half, rest) = name.split_once('.')?;
    if matches!(half, "quant_conv" | "post_quant_conv") {
        return Some((name.to_owned(), Change::None));
    }
    if !matches!(half, "encoder" | "decoder") {
        return None;
    }
    let (rest, change) = inside(rest, levels)?;
    let rest = rest.replace("nin_shortcut", "conv_shortcut");
    // A bias is no matrix.
    let change = match name.ends_with(".weight") {
        true => change,
        false => Change::None,
    };
    Some((format!("{half}.{rest}"), change))
}

fn inside(name: &str, levels: usize) -> Option<(String, Change)> {
    for (from, to, change) in MIDDLE {
        if let Some(rest) = name.strip_prefix(from) {
            return Some((format!("{to}{rest}"), change));
        }
    }
    let (first, rest) = name.split_once('.')?;
    let plain = |name: String| Some((name, Change::None));
    let (folder, down) = match first {
        "conv_in" | "conv_out" => return plain(name.to_owned()),
        "norm_out" => return plain(format!("conv_norm_out.{rest}")),
        "down" => ("down_blocks", true),
        "up" => ("up_blocks", false),
        _ => return None,
    };
    let (number, rest) = rest.split_once('.')?;
    let number: usize = number.parse().ok()?;
    // The decoder is numbered from its end there.
    let level = match down {
        true => number,
        false => levels.checked_sub(number.checked_add(1)?)?,
    };
    let (what, rest) = rest.split_once('.')?;
    let what = match what {
        "block" => "resnets",
        "downsample" => "downsamplers.0",
        "upsample" => "upsamplers.0",
        _ => return None,
    };
    plain(format!("{folder}.{level}.{what}.{rest}"))
}

/// config.json.
pub(super) fn config(checkpoint: &Checkpoint, prefix: &str, kind: Kind) -> Result<Value> {
    let at = |name: &str| format!("{prefix}{name}");
    let levels = checkpoint.count(&at("encoder.down."));
    let outside = |name: &&str| name.contains(".attn.") && !name.contains(".mid.");
    if let Some(name) = checkpoint.under(prefix).find(outside) {
        let message = format!(
            "{name}: its autoencoder has attention on its levels; in the middle alone is supported"
        );
        return Err(refuse(checkpoint.path(), message));
    }
    let channels = (0..levels).map(|n| {
        let name = at(&format!("encoder.down.{n}.block.0.conv1.weight"));
        checkpoint.side(&name, 0)
    });
    let (scaling_factor, shift_factor) = match kind.family {
        Family::One | Family::Two => (0.18215, None),
        Family::Xl | Family::Refiner => (0.13025, None),
        Family::Three => (1.5305, Some(0.0609)),
        Family::Flux => (0.3611, Some(0.1159)),
    };
    Ok(json!({
        "_class_name": "AutoencoderKL",
        "sample_size": kind.side(),
        "in_channels": checkpoint.side(&at("encoder.conv_in.weight"), 1)?,
        "out_channels": checkpoint.side(&at("decoder.conv_out.weight"), 0)?,
        "latent_channels": checkpoint.side(&at("decoder.conv_in.weight"), 1)?,
        "block_out_channels": channels.collect::<Result<Vec<usize>>>()?,
        "layers_per_block": checkpoint.count(&at("encoder.down.0.block.")),
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "use_quant_conv": checkpoint.has(&at("quant_conv.weight")),
        "use_post_quant_conv": checkpoint.has(&at("post_quant_conv.weight")),
        "scaling_factor": scaling_factor,
        "shift_factor": shift_factor,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_is_turned_round() {
        for (there, here, change) in [
            (
                "decoder.up.3.block.0.conv1.weight",
                "decoder.up_blocks.0.resnets.0.conv1.weight",
                Change::None,
            ),
            (
                "decoder.up.1.upsample.conv.bias",
                "decoder.up_blocks.2.upsamplers.0.conv.bias",
                Change::None,
            ),
            (
                "encoder.down.1.block.0.nin_shortcut.weight",
                "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
                Change::None,
            ),
            (
                "encoder.mid.attn_1.k.weight",
                "encoder.mid_block.attentions.0.to_k.weight",
                Change::Matrix,
            ),
            (
                "decoder.mid.attn_1.proj_out.bias",
                "decoder.mid_block.attentions.0.to_out.0.bias",
                Change::None,
            ),
            (
                "decoder.norm_out.bias",
                "decoder.conv_norm_out.bias",
                Change::None,
            ),
        ] {
            assert_eq!(renamed(there, 4), Some((here.to_owned(), change)));
        }
        assert_eq!(renamed("loss.discriminator.main.0.weight", 4), None);
    }
}
