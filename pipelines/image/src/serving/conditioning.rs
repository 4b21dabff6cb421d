//! What a denoiser is told besides the noise: the prompts, read by one text encoder or two, and for SDXL the sizes of the picture that it
//! is to imitate. After `encode_prompt` and `_get_add_time_ids` of `diffusers` pipeline_stable_diffusion.py and
//! pipeline_stable_diffusion_xl.py, and `get_guidance_scale_embedding` of the latter.

use candle_core::{D, Device, Tensor};
use chandler_core::{Micro, Prompts, RequestError};

use crate::error::{ImageError, Result};
use crate::layers::Placement;
use crate::model_index::Family;
use crate::pixels::Size;
use crate::prompt::chunks::Chunks;
use crate::prompt::clip_tokenizer::ClipTokenizer;
use crate::prompt::encode::{PromptEmbedding, encode};
use crate::prompt::weighting::{Syntax, parse};
use crate::text_encoder::clip::{ClipTextModel, HiddenState, Wanted};

/// How beautiful a refiner is told that the picture and the negative one are, when nobody says.
const AESTHETIC_SCORES: [f64; 2] = [6.0, 2.5];

/// What a request is read into, off the engine's thread.
pub(super) struct Reading {
    /// For each encoder.
    prompt: Vec<Chunks>,
    /// The same, where the drawing is guided away from something.
    negative: Option<Negative>,
    skip: usize,
    ids: Option<[Vec<f64>; 2]>,
    /// What a distilled model is told of guidance.
    guidance: Option<f64>,
}

/// What a drawing is guided away from.
enum Negative {
    /// Texts for each encoder.
    Texts(Vec<Chunks>),
    /// Nothing at all, not even an empty text: SDXL's `force_zeros_for_empty_prompt`.
    Zeros,
}

/// Reads prompts: the tokenizers, and what is known of the model.
pub(super) struct Reader {
    pub(super) family: Family,
    /// In the order of the encoders.
    pub(super) tokenizers: Vec<ClipTokenizer>,
    /// Layers of the shallowest encoder.
    pub(super) layers: usize,
    /// SDXL's switch.
    pub(super) force_zeros: bool,
    /// Whether the denoiser is told sizes, and whether a score of beauty with them.
    pub(super) told: Told,
}

/// What the denoiser is told besides text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing.
    Nothing,
    /// Sizes and crops.
    Sizes,
    /// Sizes, crops and a score of beauty: a refiner.
    SizesAndScore,
}

impl Told {
    /// The first of a request's numbers that has no place in what the denoiser is told.
    pub(super) fn untold(self, micro: &Micro) -> Option<&'static str> {
        let targets = micro.target_size.or(micro.negative_target_size).is_some();
        let sizes = micro
            .original_size
            .or(micro.negative_original_size)
            .is_some();
        let crops = micro.crop.or(micro.negative_crop).is_some();
        let scores = micro.aesthetic_scores.is_some();
        let (told_sizes, refiner) = (self != Self::Nothing, self == Self::SizesAndScore);
        let asked = [
            ("original_size", sizes && !told_sizes),
            ("crops_coords_top_left", crops && !told_sizes),
            ("target_size", targets && self != Self::Sizes),
            ("aesthetic_score", scores && !refiner),
        ];
        let untold = asked.into_iter().find(|(_, untold)| *untold);
        untold.map(|(field, _)| field)
    }
}

/// The parts of a request that are read.
pub(super) struct Texts<'a> {
    pub(super) prompt: &'a Prompts,
    pub(super) negative: &'a Prompts,
    pub(super) clip_skip: usize,
    pub(super) guided: bool,
    pub(super) micro: &'a Micro,
    pub(super) size: Size,
    /// The guidance that a distilled model is told.
    pub(super) guidance: Option<f64>,
}

impl Reader {
    /// Reads a request's texts; gives back how many tokens they have, too.
    ///
    /// # Errors
    /// A text that is too long, or more layers left out than there are.
    pub(super) fn read(&self, texts: &Texts<'_>) -> Result<(Reading, u32), RequestError> {
        if texts.clip_skip + 1 >= self.layers {
            let message = format!(
                "clip_skip is {}; the text encoder has {} layers, of which at least two are kept",
                texts.clip_skip, self.layers
            );
            return Err(RequestError::field("clip_skip", message));
        }
        for (prompts, field) in [
            (texts.prompt, "prompt_3"),
            (texts.negative, "negative_prompt_3"),
        ] {
            if prompts
                .third
                .as_deref()
                .is_some_and(|text| !text.is_empty())
            {
                let message = "this model has no third text encoder";
                return Err(RequestError::unsupported(field, message));
            }
        }
        let mut prompt = self.chunks(texts.prompt, "prompt")?;
        let empty = texts.negative.first.is_none() && texts.negative.second.is_none();
        let mut negative = match texts.guided {
            false => None,
            true if empty && self.force_zeros => Some(Negative::Zeros),
            true => Some(Negative::Texts(
                self.chunks(texts.negative, "negative_prompt")?,
            )),
        };
        let mut all: Vec<&mut Chunks> = prompt.iter_mut().collect();
        if let Some(Negative::Texts(negative)) = &mut negative {
            all.extend(negative);
        }
        let longest = all.iter().map(|chunks| chunks.count()).max().unwrap_or(1);
        let mut tokens = 0;
        for chunks in all {
            tokens += chunks.text_tokens();
            chunks.pad_to(longest);
        }
        let reading = Reading {
            prompt,
            negative,
            skip: texts.clip_skip,
            ids: self.ids(texts.micro, texts.size),
            guidance: texts.guidance,
        };
        Ok((reading, tokens as u32))
    }

    /// A text for each encoder. The second reads the first's where it has none of its own.
    fn chunks(&self, prompts: &Prompts, field: &str) -> Result<Vec<Chunks>, RequestError> {
        let first = prompts.first.as_deref().unwrap_or_default();
        let second = prompts.second.as_deref().filter(|text| !text.is_empty());
        if second.is_some() && self.family == Family::StableDiffusion {
            let message = "this model has one text encoder: a second prompt has nobody to read it";
            return Err(RequestError::unsupported(format!("{field}_2"), message));
        }
        // A refiner has the second encoder alone.
        let alone = self.tokenizers.len() == 1;
        let mut chunks = Vec::with_capacity(self.tokenizers.len());
        for (number, tokenizer) in self.tokenizers.iter().enumerate() {
            let own = if number == 1 || alone { second } else { None };
            let (text, field) = match own {
                Some(text) => (text, format!("{field}_2")),
                None => (first, field.to_owned()),
            };
            let pieces = parse(text, Syntax::Weighted, &field)?;
            chunks.push(Chunks::new(tokenizer, &pieces, &field)?);
        }
        Ok(chunks)
    }

    /// SDXL's numbers for the prompt and for what it is guided away from.
    fn ids(&self, micro: &Micro, size: Size) -> Option<[Vec<f64>; 2]> {
        let own = [size.height, size.width];
        let original = micro.original_size.unwrap_or(own);
        let crop = micro.crop.unwrap_or_default();
        let target = micro.target_size.unwrap_or(own);
        let sides = [
            (original, crop, target),
            (
                micro.negative_original_size.unwrap_or(original),
                micro.negative_crop.unwrap_or(crop),
                micro.negative_target_size.unwrap_or(target),
            ),
        ];
        let scores = micro.aesthetic_scores.unwrap_or(AESTHETIC_SCORES);
        let pair = |pair: [u32; 2]| pair.map(f64::from);
        let mut scores = scores.into_iter();
        let ids = sides.map(|(original, crop, target)| {
            let mut ids = [pair(original), pair(crop)].concat();
            match self.told {
                Told::SizesAndScore => ids.extend(scores.next()),
                Told::Sizes | Told::Nothing => ids.extend(pair(target)),
            }
            ids
        });
        (self.told != Told::Nothing).then_some(ids)
    }
}

impl Reading {
    /// Tokens that the denoiser attends to.
    pub(super) fn length(&self) -> usize {
        let tokens = |chunks: &Chunks| chunks.as_slice().iter().map(|c| c.tokens.len()).sum();
        self.prompt.first().map_or(0, tokens)
    }
}

/// What a denoiser is told of one request.
pub(super) struct Conditions {
    towards: Side,
    away: Option<Side>,
    /// [1, time_cond_proj_dim]
    pub(super) guidance: Option<Tensor>,
}

/// A row of what it is told.
pub(super) struct Side {
    /// [1, tokens, width]
    pub(super) context: Tensor,
    /// [1, width of the pooled text]
    pub(super) pooled: Option<Tensor>,
    pub(super) ids: Option<Vec<f64>>,
}

impl Conditions {
    /// The rows of a picture: what it is guided away from, and the prompt.
    pub(super) fn sides(&self) -> impl Iterator<Item = &Side> {
        self.away.iter().chain([&self.towards])
    }
}

/// The text encoders of a model.
pub(super) struct TextEncoders {
    pub(super) placement: Placement,
    pub(super) family: Family,
    pub(super) models: Vec<ClipTextModel>,
    /// Numbers that a distilled denoiser is told guidance by.
    pub(super) guidance_width: Option<usize>,
}

impl TextEncoders {
    pub(super) fn bytes(&self) -> usize {
        self.models.iter().map(ClipTextModel::bytes).sum()
    }

    /// Runs the encoders over a request's texts.
    pub(super) fn encode(&self, reading: &Reading) -> Result<Conditions> {
        let ids = |side: usize| reading.ids.as_ref().and_then(|ids| ids.get(side)).cloned();
        let mut towards = self.side(&reading.prompt, reading.skip)?;
        let away = match &reading.negative {
            None => None,
            // Nothing is left out for the negative prompt, as in diffusers.
            Some(Negative::Texts(texts)) => Some(self.side(texts, 0)?),
            Some(Negative::Zeros) => Some(Side {
                context: towards.context.zeros_like()?,
                pooled: towards
                    .pooled
                    .as_ref()
                    .map(Tensor::zeros_like)
                    .transpose()?,
                ids: None,
            }),
        };
        towards.ids = ids(0);
        let guidance = match (reading.guidance, self.guidance_width) {
            (Some(scale), Some(width)) => Some(self.guidance(scale, width)?),
            _ => None,
        };
        Ok(Conditions {
            towards,
            away: away.map(|side| Side {
                ids: ids(1),
                ..side
            }),
            guidance,
        })
    }

    /// What the encoders make of one text each, side by side.
    fn side(&self, texts: &[Chunks], skip: usize) -> Result<Side> {
        let pooled = self.family == Family::StableDiffusionXl;
        let hidden = match self.family {
            Family::StableDiffusion => HiddenState::Normed { skip },
            Family::StableDiffusionXl => HiddenState::Penultimate { skip },
        };
        let mut read: Vec<PromptEmbedding> = Vec::with_capacity(texts.len());
        let last = self.models.len().saturating_sub(1);
        for (number, (model, chunks)) in self.models.iter().zip(texts).enumerate() {
            let wanted = Wanted {
                hidden,
                pooled: pooled && number == last,
            };
            read.extend(encode(model, &[chunks], wanted)?);
        }
        let hidden: Vec<&Tensor> = read.iter().map(|read| &read.hidden).collect();
        let pooled = read.last().and_then(|read| read.pooled.as_ref());
        Ok(Side {
            context: Tensor::cat(&hidden, D::Minus1)?.unsqueeze(0)?,
            pooled: pooled.map(|pooled| pooled.unsqueeze(0)).transpose()?,
            ids: None,
        })
    }

    /// Guidance as waves, [1, width].
    fn guidance(&self, scale: f64, width: usize) -> Result<Tensor> {
        let half = width / 2;
        let steps = half.saturating_sub(1).max(1) as f64;
        let angle =
            |n: usize| (scale - 1.0) * 1000.0 * (-(10_000f64.ln()) * n as f64 / steps).exp();
        let mut waves: Vec<f32> = (0..half).map(|n| angle(n).sin() as f32).collect();
        waves.extend((0..half).map(|n| angle(n).cos() as f32));
        waves.resize(width, 0.0);
        let waves = Tensor::from_vec(waves, (1, width), &Device::Cpu)?;
        self.placement.move_in(&waves)
    }
}

/// One of the placements' conveniences that several files here need.
impl Placement {
    /// A host tensor, where and as activations are.
    pub(crate) fn move_in(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_device(&self.device)?.to_dtype(self.activations())?;
        Ok::<_, ImageError>(x)
    }
}
