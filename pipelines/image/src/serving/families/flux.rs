//! FLUX.1 schnell and dev: CLIP's pooled text, T5, and a transformer over packed latents. Which of the two a model is says its
//! `guidance_embeds`. After `diffusers` pipeline_flux.py, …_img2img.py and …_inpaint.py.

use candle_core::Tensor;
use chandler_nn::fields::Fields;

use super::{
    About, Batch, Clip, Context, Defaults, Denoiser, DenoiserPart, Design, Encoded, Facts, Guided,
    TextLengths, TextPart, lacking, pooled,
};
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::Layer;
use crate::schedulers::flux_sigmas;
use crate::serving::reading::Told;
use crate::transformer::flux::{FluxInput, FluxTransformer};
use crate::transformer::flux_config::FluxConfig;
use crate::transformer::packing;

pub(super) const FACTS: Facts = Facts {
    texts: &[
        TextPart {
            folder: "text_encoder",
            tokenizer: "tokenizer",
            class: super::CLIP,
            prompt: 0,
            optional: false,
        },
        TextPart {
            folder: "text_encoder_2",
            tokenizer: "tokenizer_2",
            class: super::T5,
            prompt: 1,
            optional: false,
        },
    ],
    clip: Clip::Pooled,
    denoiser: DenoiserPart {
        folder: "transformer",
        classes: &["FluxTransformer2DModel"],
        probe: "x_embedder.weight",
    },
    small_letters: false,
    design,
};

/// Latents along each side of a token: `_pack_latents`.
const PATCH: usize = 2;
/// `default_sample_size`.
const USUAL_SIDE: usize = 128;
/// `max_sequence_length` of dev, and of schnell, whose card says that it takes no more.
const DEV_LENGTHS: &[usize] = &[512];
const SCHNELL_LENGTHS: &[usize] = &[256];
/// Numbers that a row takes for each token of the picture, in widths of the residual stream: queries, keys and values, the feed-forward
/// layer's four, both of them side by side, and what is added up.
const ROW_WIDTHS: u64 = 18;

const DEV: Defaults = Defaults {
    steps: [28; 2],
    guidance: [3.5, 7.0],
    strength: [0.6; 2],
};

/// Steps are those of its card: it was distilled to one to four.
const SCHNELL: Defaults = Defaults {
    steps: [4; 2],
    guidance: [0.0; 2],
    strength: [0.6; 2],
};

fn design(fields: &Fields, about: &About<'_>) -> Result<Design> {
    let config = FluxConfig::read(fields)?;
    about.check_t5(fields, "joint_attention_dim", config.text_width)?;
    let packed = about.latents * PATCH * PATCH;
    if (config.inputs, config.outputs) != (packed, packed) {
        let message = format!(
            "{}, and {} out, with latents of {} channels; {packed} of both are supported",
            config.inputs, config.outputs, about.latents
        );
        return Err(fields.fault("in_channels", message).into());
    }
    let dev = config.guided;
    let (guided, text_lengths, defaults) = match dev {
        true => (Guided::ByTelling, DEV_LENGTHS, DEV),
        false => (Guided::Never, SCHNELL_LENGTHS, SCHNELL),
    };
    Ok(Design {
        takes_mask: false,
        patch: PATCH,
        usual: [USUAL_SIDE; 2],
        most: None,
        row_bytes: 4 * ROW_WIDTHS * config.heads.width() as u64 / (PATCH * PATCH) as u64,
        guided,
        true_guidance: true,
        told: Told::Nothing,
        text_lengths: TextLengths::Padded(text_lengths),
        sigmas: Some(flux_sigmas),
        defaults,
        steered: None,
        load: Box::new(move |weights, placement| {
            let model = FluxTransformer::load(config.clone(), &Loader::new(weights, placement))?;
            Ok(Box::new(model))
        }),
    })
}

impl Denoiser for FluxTransformer {
    fn context(&self, texts: &Encoded) -> Result<Context> {
        let words = texts.t5.as_ref().ok_or_else(|| lacking("T5's text"))?;
        let pooled = pooled(texts)?;
        let pooled = pooled.first().ok_or_else(|| lacking("a pooled text"))?;
        Ok(Context {
            words: words.unsqueeze(0)?,
            pooled: Some(pooled.unsqueeze(0)?),
        })
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let (_, _, height, width) = batch.latents.dims4()?;
        let squares = (height / PATCH, width / PATCH);
        let guidance: Vec<f32> = batch.guidance.iter().map(|x| *x as f32).collect();
        let tokens = self.forward(&FluxInput {
            latents: &packing::pack(&batch.latents)?,
            text: &batch.text()?,
            pooled: batch
                .pooled
                .as_ref()
                .ok_or_else(|| lacking("a pooled text"))?,
            timesteps: &batch.times(),
            guidance: (!guidance.is_empty()).then_some(guidance.as_slice()),
            positions: &packing::positions(squares.0, squares.1),
            adapters: Some(&batch.adapters),
        })?;
        packing::unpack(&tokens, squares)
    }

    fn layers(&mut self) -> Vec<Layer<'_>> {
        Self::layers(self)
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self) as u64
    }
}
