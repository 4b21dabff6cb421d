//! Stable Diffusion 3 and 3.5: two CLIP text encoders, T5 where it was not left out, and a transformer.
//! After `diffusers` pipeline_stable_diffusion_3.py, …_img2img.py and …_inpaint.py. (The last of these decodes without the autoencoder's
//! shift, which the other two and the model's own code add; it is added here.)

use candle_core::Tensor;
use chandler_nn::fields::Fields;

use super::{
    About, Batch, Clip, Context, Defaults, Denoiser, DenoiserPart, Design, Encoded, Facts, Guided,
    TextLengths, TextPart, lacking, pooled,
};
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::Layer;
use crate::prompt::compose;
use crate::serving::reading::Told;
use crate::text_encoder::clip::HiddenState;
use crate::transformer::sd3::{Sd3Input, Sd3Transformer};
use crate::transformer::sd3_config::Sd3Config;

pub(super) const FACTS: Facts = Facts {
    texts: &[
        TextPart {
            folder: "text_encoder",
            tokenizer: "tokenizer",
            class: super::CLIP_PROJECTED,
            prompt: 0,
            optional: false,
        },
        TextPart {
            folder: "text_encoder_2",
            tokenizer: "tokenizer_2",
            class: super::CLIP_PROJECTED,
            prompt: 1,
            optional: false,
        },
        TextPart {
            folder: "text_encoder_3",
            tokenizer: "tokenizer_3",
            class: super::T5,
            prompt: 2,
            optional: true,
        },
    ],
    clip: Clip::Hidden(|skip| HiddenState::Penultimate { skip }, true),
    denoiser: DenoiserPart {
        folder: "transformer",
        classes: &["SD3Transformer2DModel"],
        probe: "pos_embed.proj.weight",
    },
    small_letters: false,
    design,
};

/// Tokens of T5's text: `max_sequence_length`, and the most that it may be, for texts that need it.
const TEXT_LENGTHS: &[usize] = &[256, 512];
/// Numbers that a row takes for each token of the picture, in widths of the residual stream: queries, keys and values of both attentions,
/// the feed-forward layer's four, and what is added up.
const ROW_WIDTHS: u64 = 16;

const DEFAULTS: Defaults = Defaults {
    steps: [28, 50],
    guidance: [7.0; 2],
    strength: [0.6; 2],
};

fn design(fields: &Fields, about: &About<'_>) -> Result<Design> {
    let config = Sd3Config::read(fields)?;
    about.check_t5(fields, "joint_attention_dim", config.text_width)?;
    if (config.inputs, config.outputs) != (about.latents, about.latents) {
        let message = format!(
            "{}, and out_channels: {}, with latents of {} channels; as many of both are supported",
            config.inputs, config.outputs, about.latents
        );
        return Err(fields.fault("in_channels", message).into());
    }
    let patch = config.patch;
    Ok(Design {
        takes_mask: false,
        patch,
        usual: [config.sample_size / patch * patch; 2],
        most: Some(config.side * patch),
        row_bytes: (4 * ROW_WIDTHS * config.heads.width() as u64).div_ceil((patch * patch) as u64),
        guided: Guided::ByPairs,
        true_guidance: false,
        told: Told::Nothing,
        text_lengths: TextLengths::Padded(TEXT_LENGTHS),
        sigmas: None,
        defaults: DEFAULTS,
        steered: None,
        load: Box::new(move |weights, placement| {
            let model = Sd3Transformer::load(config.clone(), &Loader::new(weights, placement))?;
            Ok(Box::new(model))
        }),
    })
}

impl Denoiser for Sd3Transformer {
    fn context(&self, texts: &Encoded) -> Result<Context> {
        let hidden: Vec<&Tensor> = texts.clip.iter().map(|text| &text.hidden).collect();
        let clip = compose::beside(&hidden)?;
        let t5 = match &texts.t5 {
            Some(t5) => t5.clone(),
            None => {
                let tokens = TEXT_LENGTHS.first().copied().unwrap_or_default();
                compose::no_t5((tokens, self.config().text_width), &clip)?
            }
        };
        Ok(Context {
            words: compose::before_t5(&clip, &t5)?.unsqueeze(0)?,
            pooled: Some(compose::beside(&pooled(texts)?)?.unsqueeze(0)?),
        })
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        self.forward(&Sd3Input {
            latents: &batch.latents,
            text: &batch.text()?,
            pooled: batch
                .pooled
                .as_ref()
                .ok_or_else(|| lacking("a pooled text"))?,
            timesteps: &batch.times(),
            adapters: Some(&batch.adapters),
        })
    }

    fn layers(&mut self) -> Vec<Layer<'_>> {
        Self::layers(self)
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self) as u64
    }
}
