//! Which family a file is of, by its keys. Mirrors `infer_diffusers_model_type` of `diffusers` loaders/single_file_utils.py as far
//! as these families go; sizes are told from shapes where they are needed, and not here.

use super::checkpoint::Checkpoint;
use super::refuse;
use crate::error::Result;

/// A family, and whether its UNet takes a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) family: Family,
    pub(super) masked: bool,
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
}

/// A text encoder of a family.
pub(super) struct Texts {
    /// Its folder in the diffusers layout.
    pub(super) folder: &'static str,
    /// Its tokenizer's.
    pub(super) tokenizer: &'static str,
    /// Its class.
    pub(super) class: &'static str,
    /// What its tensors' names begin with.
    pub(super) prefix: &'static str,
    /// Whether they are OpenCLIP's.
    pub(super) open: bool,
    /// What fills the room behind a text.
    pub(super) pad: &'static str,
}

const END: &str = "<|endoftext|>";

static ONE: [Texts; 1] = [Texts {
    folder: "text_encoder",
    tokenizer: "tokenizer",
    class: "CLIPTextModel",
    prefix: "cond_stage_model.transformer.",
    open: false,
    pad: END,
}];
static TWO: [Texts; 1] = [Texts {
    folder: "text_encoder",
    tokenizer: "tokenizer",
    class: "CLIPTextModel",
    prefix: "cond_stage_model.model.",
    open: true,
    pad: "!",
}];
static XL: [Texts; 2] = [
    Texts {
        folder: "text_encoder",
        tokenizer: "tokenizer",
        class: "CLIPTextModel",
        prefix: "conditioner.embedders.0.transformer.",
        open: false,
        pad: END,
    },
    Texts {
        folder: "text_encoder_2",
        tokenizer: "tokenizer_2",
        class: "CLIPTextModelWithProjection",
        prefix: "conditioner.embedders.1.model.",
        open: true,
        pad: "!",
    },
];
static REFINER: [Texts; 1] = [Texts {
    folder: "text_encoder_2",
    tokenizer: "tokenizer_2",
    class: "CLIPTextModelWithProjection",
    prefix: "conditioner.embedders.0.model.",
    open: true,
    pad: "!",
}];

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
        "model.diffusion_model.joint_blocks.",
        "Stable Diffusion 3 is served in the diffusers layout only (model_index.json and a folder for each part)",
    ),
    (
        "joint_blocks.",
        "Stable Diffusion 3 is served in the diffusers layout only (model_index.json and a folder for each part)",
    ),
    (
        "model.diffusion_model.double_blocks.",
        "FLUX is served in the diffusers layout only (model_index.json and a folder for each part)",
    ),
    (
        "double_blocks.",
        "FLUX is served in the diffusers layout only (model_index.json and a folder for each part)",
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

const UNET: &str = "model.diffusion_model.";
/// Parts of the original training that drawing does not need, as diffusers ignores them: averaged weights, the noise schedule
/// (its configuration says the same), losses, and ids of positions.
const PASSED_OVER: [&str; 9] = [
    "model_ema.",
    "first_stage_model.loss.",
    "alphas_cumprod",
    "betas",
    "log_one_minus_alphas_cumprod",
    "posterior_",
    "sqrt_",
    "global_step",
    "cond_stage_model.model.text_projection",
];
const ENDS_PASSED_OVER: [&str; 5] = [
    ".position_ids",
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
        let first = format!("{UNET}input_blocks.0.0.weight");
        if !checkpoint.has(&first) {
            let message = format!(
                "it is no diffusion model in the original layout (Stable Diffusion 1, 2 or XL): there is no tensor {first}"
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
            if !expected && checkpoint.has(&format!("{UNET}{label}")) {
                let message = format!(
                    "{UNET}{label}: models with classes (unCLIP, upscalers) are not supported"
                );
                return Err(refuse(path, message));
            }
        }
        Ok(Self {
            family,
            masked: checkpoint.side(&first, 1)? == 9,
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
        }
    }

    /// Switches of the pipeline, as its publisher has set them.
    pub(super) fn flags(self) -> &'static [(&'static str, bool)] {
        match self.family {
            Family::One | Family::Two => &[],
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
            (Family::Xl | Family::Refiner, _) => 1024,
        }
    }
}

impl Family {
    fn texts(self) -> &'static [Texts] {
        match self {
            Self::One => &ONE,
            Self::Two => &TWO,
            Self::Xl => &XL,
            Self::Refiner => &REFINER,
        }
    }
}
