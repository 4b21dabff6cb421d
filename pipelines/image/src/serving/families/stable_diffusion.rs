//! Stable Diffusion 1 and 2, and latent consistency models made of them: one CLIP text encoder, a UNet.
//! After `diffusers` pipeline_stable_diffusion.py, …_img2img.py, …_inpaint.py and pipeline_latent_consistency_text2img.py.

use super::{Clip, Defaults, DenoiserPart, Facts, TextPart, unet};
use crate::text_encoder::clip::HiddenState;

pub(super) const FACTS: Facts = Facts {
    texts: &[TextPart {
        folder: "text_encoder",
        tokenizer: "tokenizer",
        class: super::CLIP,
        prompt: 0,
        optional: false,
    }],
    clip: Clip::Hidden(|skip| HiddenState::Normed { skip }, false),
    denoiser: UNET,
    small_letters: false,
    design: |fields, about| unet::design(fields, about, DEFAULTS),
};

/// The UNet of all families that have one.
pub(super) const UNET: DenoiserPart = DenoiserPart {
    folder: "unet",
    classes: &["UNet2DConditionModel"],
    probe: "conv_in.weight",
};

const DEFAULTS: Defaults = Defaults {
    steps: [50; 2],
    guidance: [7.5; 2],
    strength: [0.8, 1.0],
};
