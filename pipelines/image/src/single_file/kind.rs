//! Which family a file is of, by its keys. Mirrors `infer_diffusers_model_type` of `diffusers` loaders/single_file_utils.py as far
//! as these families go; sizes are told from shapes where they are needed, and not here.

use super::checkpoint::Checkpoint;
use super::refuse;
use super::texts::{self, Texts};
use crate::error::Result;

/// A family, and whether its UNet takes a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) family: Family,
    pub(super) masked: bool,
    /// What the denoiser's names begin with.
    pub(super) prefix: &'static str,
}

/// Families that are told apart by their text encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// CLIP L.
    One,
    /// OpenCLIP H.
    Two,
    /// CLIP L and OpenCLIP bigG.
    Xl,
    /// OpenCLIP bigG alone.
    Refiner,
    /// Stable Diffusion 3 and 3.5: CLIP L, OpenCLIP bigG, and T5 where it was not left out.
    Three,
    /// FLUX.1: CLIP L and T5.
    Flux,
}

/// Beginnings of keys by which something else is known, and what it is. The first that fits counts.
const OTHERS: [(&str, &str); 11] = [
    (
        "edm_mean",
        "it is Playground v2.5, whose EDM schedulers are not supported",
    ),
    (
        "lora_unet_",
        "it is an adapter (LoRA) and no model: give its base model, and this one as --lora NAME=PLACE",
    ),
    (
        "lora_te",
        "it is an adapter (LoRA) and no model: give its base model, and this one as --lora NAME=PLACE",
    ),
    (
        "control_model.",
        "it is a ControlNet: give its base model, and this one as --control NAME=FILE",
    ),
    (
        "model.diffusion_model.distilled_guidance_layer.",
        "Chroma is not supported",
    ),
    ("distilled_guidance_layer.", "Chroma is not supported"),
    (
        "model.diffusion_model.single_stream_modulation.",
        "FLUX.2 is not supported; FLUX.1 is",
    ),
    (
        "single_stream_modulation.",
        "FLUX.2 is not supported; FLUX.1 is",
    ),
    (
        "down_blocks.",
        "it is one part in diffusers' names: give the directory that holds model_index.json",
    ),
    (
        "encoder.down",
        "it is an autoencoder alone: give the file that has a UNet and text encoders as well",
    ),
    (
        "cond_stage_model.model.visual.",
        "its conditions are pictures: unCLIP models are not supported",
    ),
];

/// What a denoiser's names begin with in a whole checkpoint. A transformer alone may lack it.
const DENOISER: &str = "model.diffusion_model.";
/// Blocks by which families with a transformer are known.
const BLOCKS: [(&str, Family); 2] = [
    ("joint_blocks.", Family::Three),
    ("double_blocks.", Family::Flux),
];
/// Parts of the original training that drawing does not need, as diffusers ignores them: averaged weights, the noise schedule
/// (its configuration says the same), losses, and ids of positions.
const PASSED_OVER: [&str; 10] = [
    "model_ema.",
    "first_stage_model.loss.",
    "alphas_cumprod",
    "betas",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "sqrt_",
    "global_step",
    "cond_stage_model.model.text_projection",
    // What CLIP L pools is not projected in these families, whatever was saved.
    "text_encoders.clip_l.transformer.text_projection.",
];
const ENDS_PASSED_OVER: [&str; 6] = [
    ".position_ids",
    // T5's table of embeddings once more.
    "t5xxl.transformer.encoder.embed_tokens.weight",
    ".logit_scale",
    ".attn_mask",
    "denoiser.sigmas",
    "denoiser.log_sigmas",
];

/// Whether it is usual that nothing asks for a tensor of this name.
pub(super) fn is_passed_over(name: &str) -> bool {
    PASSED_OVER.iter().any(|begin| name.starts_with(begin))
        || ENDS_PASSED_OVER.iter().any(|end| name.ends_with(end))
        || name.starts_with("cond_stage_model.model.transformer.resblocks.23.")
        || super::schedule::MARKS.contains(&name)
}

impl Kind {
    /// The family of a file.
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let path = checkpoint.path();
        let other = OTHERS.iter().find(|(key, _)| checkpoint.has_any(key));
        if let Some((_, what)) = other {
            return Err(refuse(path, what));
        }
        let of = |prefix| {
            let blocks =
                |(blocks, _): &&(&str, Family)| checkpoint.has_any(&format!("{prefix}{blocks}"));
            let (_, family) = BLOCKS.iter().find(blocks)?;
            Some(Self {
                family: *family,
                masked: false,
                prefix,
            })
        };
        match [DENOISER, ""].into_iter().find_map(of) {
            Some(kind) => Ok(kind),
            None => Self::of_unet(checkpoint),
        }
    }

    /// The family of a file with a UNet.
    fn of_unet(checkpoint: &Checkpoint) -> Result<Self> {
        let path = checkpoint.path();
        let first = format!("{DENOISER}input_blocks.0.0.weight");
        if !checkpoint.has(&first) {
            let message = format!(
                "it is no diffusion model in the original layout (Stable Diffusion 1, 2, XL or 3, FLUX.1): there is no tensor {first}, and \
                 there are neither joint_blocks nor double_blocks"
            );
            return Err(refuse(path, message));
        }
        if !checkpoint.has_any("first_stage_model.decoder.") {
            let message = "its autoencoder is missing (first_stage_model): give the whole checkpoint, or a directory in the \
                           diffusers layout";
            return Err(refuse(path, message));
        }
        let families = [Family::One, Family::Two, Family::Xl, Family::Refiner];
        let whole = |family: &Family| {
            let mut texts = family.texts().iter();
            texts.all(|text| checkpoint.has_any(text.prefix))
        };
        let Some(family) = families.into_iter().find(whole) else {
            let message = "its UNet is there and no text encoder that goes with it is: give the whole checkpoint, or a directory in \
                           the diffusers layout";
            return Err(refuse(path, message));
        };
        for label in ["label_emb.weight", "label_emb.0.0.weight"] {
            let is_larger = matches!(family, Family::Xl | Family::Refiner);
            let expected = is_larger && label != "label_emb.weight";
            if !expected && checkpoint.has(&format!("{DENOISER}{label}")) {
                let message = format!(
                    "{DENOISER}{label}: models with classes (unCLIP, upscalers) are not supported"
                );
                return Err(refuse(path, message));
            }
        }
        Ok(Self {
            family,
            masked: checkpoint.side(&first, 1)? == 9,
            prefix: DENOISER,
        })
    }

    pub(super) fn texts(self) -> &'static [Texts] {
        self.family.texts()
    }

    /// The pipeline's class in diffusers.
    pub(super) fn class(self) -> &'static str {
        match (self.family, self.masked) {
            (Family::One | Family::Two, false) => "StableDiffusionPipeline",
            (Family::One | Family::Two, true) => "StableDiffusionInpaintPipeline",
            (Family::Xl, false) => "StableDiffusionXLPipeline",
            (Family::Refiner, false) => "StableDiffusionXLImg2ImgPipeline",
            (Family::Xl | Family::Refiner, true) => "StableDiffusionXLInpaintPipeline",
            (Family::Three, _) => "StableDiffusion3Pipeline",
            (Family::Flux, _) => "FluxPipeline",
        }
    }

    /// The denoiser's folder and class in diffusers.
    pub(super) fn denoiser(self) -> (&'static str, &'static str) {
        match self.family {
            Family::One | Family::Two | Family::Xl | Family::Refiner => {
                ("unet", "UNet2DConditionModel")
            }
            Family::Three => ("transformer", "SD3Transformer2DModel"),
            Family::Flux => ("transformer", "FluxTransformer2DModel"),
        }
    }

    /// Switches of the pipeline, as its publisher has set them.
    pub(super) fn flags(self) -> &'static [(&'static str, bool)] {
        match self.family {
            Family::One | Family::Two | Family::Three | Family::Flux => &[],
            Family::Xl => &[("force_zeros_for_empty_prompt", true)],
            Family::Refiner => &[
                ("force_zeros_for_empty_prompt", false),
                ("requires_aesthetics_score", true),
            ],
        }
    }

    /// A picture's usual side, in pixels.
    pub(super) fn side(self) -> usize {
        match (self.family, self.masked) {
            (Family::One, _) | (Family::Two, true) => 512,
            (Family::Two, false) => 768,
            (Family::Xl | Family::Refiner | Family::Three | Family::Flux, _) => 1024,
        }
    }
}

impl Family {
    fn texts(self) -> &'static [Texts] {
        match self {
            Self::One => &texts::ONE,
            Self::Two => &texts::TWO,
            Self::Xl => &texts::XL,
            Self::Refiner => &texts::REFINER,
            Self::Three => &texts::THREE,
            Self::Flux => &texts::FLUX,
        }
    }
}
