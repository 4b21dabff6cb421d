//! PixArt-α and PixArt-Σ: T5 alone, whose padding nobody looks at, and a transformer that looks at each text. Which of the two a model is says
//! its pipeline's class. After `diffusers` pipeline_pixart_alpha.py and pipeline_pixart_sigma.py, without what they do to a caption with
//! `clean_caption` beyond small letters, and without `use_resolution_binning`: a size that is asked for is drawn at that size.

use candle_core::Tensor;
use chandler_nn::fields::Fields;

use super::{
    About, Batch, Clip, Context, Defaults, Denoiser, DenoiserPart, Design, Encoded, Facts, Guided,
    TextLengths, TextPart, lacking,
};
use crate::error::Result;
use crate::layers::Loader;
use crate::lora::Layer;
use crate::serving::reading::Told;
use crate::transformer::pixart::{PictureSize, PixArtInput, PixArtTransformer};
use crate::transformer::pixart_config::PixArtConfig;

pub(super) const FACTS: Facts = Facts {
    texts: &[TextPart {
        folder: "text_encoder",
        tokenizer: "tokenizer",
        class: super::T5,
        prompt: 0,
        optional: false,
    }],
    clip: Clip::Pooled,
    denoiser: DenoiserPart {
        folder: "transformer",
        // Checkpoints from before diffusers 0.28 name the class that it was a part of.
        classes: &["PixArtTransformer2DModel", "Transformer2DModel"],
        probe: "pos_embed.proj.weight",
    },
    small_letters: true,
    design,
};

/// `max_sequence_length` of both pipelines.
const ALPHA_LENGTH: usize = 120;
const SIGMA_LENGTH: usize = 300;
/// Numbers that a row takes for each token of the picture, in widths of the residual stream, counted and not measured: the feed-forward
/// layer's four before its activation and after it, what goes in, and what is added up; queries, keys and values are gone by then.
const ROW_WIDTHS: u64 = 14;

/// The strength is that of the other transformers' pipelines: diffusers has none of PixArt's that begins with a picture.
const DEFAULTS: Defaults = Defaults {
    steps: [20; 2],
    guidance: [4.5; 2],
    strength: [0.6; 2],
};

fn design(fields: &Fields, about: &About<'_>) -> Result<Design> {
    let config = PixArtConfig::read(fields)?;
    about.check_t5(fields, "caption_channels", config.text_width)?;
    let latents = about.latents;
    for (field, found, known) in [
        ("in_channels", config.inputs, [latents; 2]),
        ("out_channels", config.outputs, [latents, 2 * latents]),
    ] {
        if !known.contains(&found) {
            let message = format!("{found}, with latents of {latents} channels");
            return Err(fields.fault(field, message).into());
        }
    }
    let patch = config.patch;
    let is_sigma = about.index.class.contains("Sigma");
    Ok(Design {
        takes_mask: false,
        patch,
        usual: [config.sample_size / patch * patch; 2],
        most: None,
        row_bytes: (4 * ROW_WIDTHS * config.heads.width() as u64).div_ceil((patch * patch) as u64),
        guided: Guided::ByPairs,
        true_guidance: false,
        told: match config.sized {
            true => Told::Shape,
            false => Told::Nothing,
        },
        text_lengths: TextLengths::Own(if is_sigma { SIGMA_LENGTH } else { ALPHA_LENGTH }),
        sigmas: None,
        defaults: DEFAULTS,
        steered: None,
        load: Box::new(move |weights, placement| {
            let model = PixArtTransformer::load(config.clone(), &Loader::new(weights, placement))?;
            Ok(Box::new(model))
        }),
    })
}

impl Denoiser for PixArtTransformer {
    fn context(&self, texts: &Encoded) -> Result<Context> {
        let words = texts.t5.as_ref().ok_or_else(|| lacking("T5's text"))?;
        Ok(Context {
            words: words.unsqueeze(0)?,
            pooled: None,
        })
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let lengths = batch.words.iter().map(|words| Ok(words.dim(1)?));
        let lengths = lengths.collect::<Result<Vec<usize>>>()?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let padded = batch.words.iter().zip(&lengths);
        let padded = padded.map(|(words, length)| words.pad_with_zeros(1, 0, longest - length));
        let text = Tensor::cat(&padded.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
        let sizes: Vec<PictureSize> = batch.ids.iter().map(size).collect::<Result<_>>()?;
        let out = self.forward(&PixArtInput {
            latents: &batch.latents,
            text: &text,
            lengths: &lengths,
            timesteps: &batch.times(),
            sizes: &sizes,
            adapters: Some(&batch.adapters),
        })?;
        // The variance that comes after it is not used, as in diffusers.
        Ok(out.narrow(1, 0, self.config().inputs)?.contiguous()?)
    }

    fn layers(&mut self) -> Vec<Layer<'_>> {
        Self::layers(self)
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self) as u64
    }
}

fn size(told: &Vec<f64>) -> Result<PictureSize> {
    match told.as_slice() {
        [height, width, quotient] => Ok([*height, *width, *quotient].map(|x| x as f32)),
        _ => Err(lacking("a picture's size")),
    }
}
