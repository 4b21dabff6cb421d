//! A diffusion checkpoint in the original layout: all parts in one file, told apart by the beginnings of their tensors' names.

use super::PlanError;
use super::facts::{Facts, Picture, transformer_row, unet_row};
use super::measure::Part;
use super::tensor::Tensor;

/// The beginnings of names, and the part that they belong to.
const PARTS: [(&str, &str); 8] = [
    ("model.diffusion_model.", DENOISER),
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    ("cond_stage_model.", "text_encoder"),
    ("conditioner.", "text_encoders"),
    ("text_encoders.clip_l.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
    ("text_encoders.t5xxl.", "text_encoder_t5"),
];
/// The denoiser, whatever it is.
const DENOISER: &str = "unet";
/// A tensor that has as many rows as a denoiser is wide, and the class of its denoiser.
const WIDTHS: [(&str, &str); 3] = [
    (
        "model.diffusion_model.input_blocks.0.0.weight",
        "UNet2DConditionModel",
    ),
    (
        "model.diffusion_model.x_embedder.proj.weight",
        "SD3Transformer2DModel",
    ),
    (
        "model.diffusion_model.img_in.weight",
        "FluxTransformer2DModel",
    ),
];
/// The last convolution of an autoencoder's decoder.
const LAST: [&str; 2] = [
    "first_stage_model.decoder.conv_out.weight",
    "vae.decoder.conv_out.weight",
];

/// Takes a file's tensors apart.
///
/// # Errors
/// [`PlanError::UnknownKind`] for a file of another layout.
pub(super) fn checkpoint(tensors: Vec<Tensor>) -> Result<(Vec<Part>, Facts), PlanError> {
    let side = |name: &str, at: usize| {
        let tensor = tensors.iter().find(|tensor| tensor.name == name)?;
        tensor.shape.get(at).copied()
    };
    let width = |(name, class): &(&str, &'static str)| Some((side(name, 0)?, *class));
    let denoiser = WIDTHS.iter().find_map(width);
    let decoder = LAST.iter().find_map(|name| side(name, 1));
    let (Some((width, class)), Some(decoder)) = (denoiser, decoder) else {
        return Err(PlanError::UnknownKind {
            what: "a safetensors file without a config.json beside it".to_owned(),
            known: "a checkpoint of Stable Diffusion or FLUX in the original layout is, with its autoencoder; give any other as a directory \
                    in the Hugging Face layout",
        });
    };
    let has_unet = class.starts_with("UNet");
    let wide = tensors
        .iter()
        .any(|tensor| tensor.name.starts_with("conditioner."));
    let usual = if wide || !has_unet { 1024 } else { 512 };
    let facts = Facts::Picture(Picture {
        row_bytes: match has_unet {
            true => unet_row(width),
            false => transformer_row(class, width),
        },
        usual: (usual, usual),
        factor: 8,
        decoder,
        upcast: wide || !has_unet,
    });
    let mut parts: Vec<Part> = Vec::new();
    for tensor in tensors {
        let found = PARTS
            .iter()
            .find(|(start, _)| tensor.name.starts_with(start));
        // What training left beside the parts is not loaded.
        let Some((_, name)) = found else { continue };
        let name = match *name {
            DENOISER if !has_unet => "transformer",
            name => name,
        };
        match parts.iter_mut().find(|part| part.name == name) {
            Some(part) => part.tensors.push(tensor),
            None => parts.push(Part {
                name: name.to_owned(),
                tensors: vec![tensor],
            }),
        }
    }
    Ok((parts, facts))
}
