//! Stable Diffusion XL and its refiner, which has the second text encoder alone.
//! After `diffusers` pipeline_stable_diffusion_xl.py, …_img2img.py and …_inpaint.py.

use super::stable_diffusion::UNET;
use super::{Clip, Defaults, Facts, TextPart, unet};
use crate::text_encoder::clip::HiddenState;

pub(super) const FACTS: Facts = Facts {
    texts: &[
        TextPart {
            folder: "text_encoder",
            tokenizer: "tokenizer",
            class: super::CLIP,
            prompt: 0,
            optional: true,
        },
        TextPart {
            folder: "text_encoder_2",
            tokenizer: "tokenizer_2",
            class: super::CLIP_PROJECTED,
            prompt: 1,
            optional: false,
        },
    ],
    clip: Clip::Hidden(|skip| HiddenState::Penultimate { skip }, true),
    denoiser: UNET,
    small_letters: false,
    design: |fields, about| unet::design(fields, about, DEFAULTS),
};

const DEFAULTS: Defaults = Defaults {
    steps: [50; 2],
    guidance: [5.0; 2],
    strength: [0.3, 0.9999],
};
