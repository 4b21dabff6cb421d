//! A diffusion checkpoint in the original layout: all parts in one file, told apart by the beginnings of their tensors' names.

use super::PlanError;
use super::facts::{Facts, Picture, unet_row};
use super::measure::Part;
use super::tensor::Tensor;

/// The beginnings of names, and the part that they belong to.
const PARTS: [(&str, &str); 4] = [
    ("model.diffusion_model.", "unet"),
    ("first_stage_model.", "vae"),
    ("cond_stage_model.", "text_encoder"),
    ("conditioner.", "text_encoders"),
];
/// The first convolution of a UNet.
const FIRST: &str = "model.diffusion_model.input_blocks.0.0.weight";
/// The last convolution of an autoencoder's decoder.
const LAST: &str = "first_stage_model.decoder.conv_out.weight";

/// Takes a file's tensors apart.
///
/// # Errors
/// [`PlanError::UnknownKind`] for a file of another layout.
pub(super) fn checkpoint(tensors: Vec<Tensor>) -> Result<(Vec<Part>, Facts), PlanError> {
    let side = |name: &str, at: usize| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name)?;
        tensor.shape.get(at).copied()
    };
    let (Some(channels), Some(decoder)) = (side(FIRST, 0), side(LAST, 1)) else {
        return Err(PlanError::UnknownKind {
            what: "a safetensors file without a config.json beside it".to_owned(),
            known: "a Stable Diffusion checkpoint of a UNet in the original layout is; give any other as a directory in the Hugging Face layout",
        });
    };
    let wide = tensors
        .iter()
        .any(|tensor| tensor.name.starts_with("conditioner."));
    let usual = if wide { 1024 } else { 512 };
    let facts = Facts::Picture(Picture {
        row_bytes: unet_row(channels),
        usual: (usual, usual),
        factor: 8,
        decoder,
        upcast: wide,
    });
    let mut parts: Vec<Part> = Vec::new();
    for tensor in tensors {
        let found = PARTS
            .iter()
            .find(|(start, _)| tensor.name.starts_with(start));
        // What training left beside the parts is not loaded.
        let Some((_, name)) = found else { continue };
        match parts.iter_mut().find(|part| part.name == *name) {
            Some(part) => part.tensors.push(tensor),
            None => parts.push(Part {
                name: (*name).to_owned(),
                tensors: vec![tensor],
            }),
        }
    }
    Ok((parts, facts))
}
