//! From a request to work for the batch, off the engine's thread: texts are tokenised, pictures decoded and resized, the scheduler's
//! steps laid out, and everything that cannot be done refused with the field that asks for it.

use std::sync::{Arc, Mutex};

use chandler_core::random::fresh_seed;
use chandler_core::{
    ImageInput, Input, ModelInfo, Picture, Prepare, Prompts, Recipe, RequestError, Start as Asks,
};

use super::conditioning::{Reader, Texts};
use super::defaults::{self, MOST_PICTURES, Sizes};
use super::drawing::{Asked, Drawing, ImagePrepared};
use super::start::{Mask, Start};
use crate::error::ImageError;
use crate::pixels::{Pixels, Size};
use crate::schedulers::{self, Begin, Sampler, SchedulerConfig};

/// Prepares requests for a loaded model.
pub struct ImagePreparer {
    pub(super) info: ModelInfo,
    pub(super) reader: Reader,
    pub(super) scheduler: SchedulerConfig,
    pub(super) sizes: Sizes,
    pub(super) channels: Channels,
    /// Whether the denoiser is told guidance instead of being guided.
    pub(super) distilled: bool,
    pub(super) limits: Limits,
    /// Held while a request's pictures are decoded. It guards nothing: a thread that panicked with it leaves nothing half done.
    pub(super) decoding: Mutex<()>,
}

/// Channels of a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channels {
    /// Of the latents.
    pub(super) latents: usize,
    /// Whether the denoiser takes a mask and what it leaves of a picture besides.
    pub(super) takes_mask: bool,
}

/// How much is inside at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Rows of all requests together.
    pub(super) inside: usize,
}

/// A first picture, decoded.
struct Decoded<'a> {
    image: Pixels,
    mask: Option<&'a Picture>,
    strength: f64,
}

impl ImagePreparer {
    fn refuse_what_is_not_done(&self, input: &ImageInput) -> Result<(), RequestError> {
        if let Some((name, _)) = input.loras.first() {
            let message = format!("{name:?}: this worker has no adapters for image models");
            return Err(RequestError::unsupported("loras", message));
        }
        if !input.controls.is_empty() {
            let message = "this worker has no ControlNet";
            return Err(RequestError::unsupported("controls", message));
        }
        if input
            .start
            .as_ref()
            .is_some_and(|start| start.padding_mask_crop.is_some())
        {
            let message = "the part about the mask is not drawn larger: leave it out";
            return Err(RequestError::unsupported("padding_mask_crop", message));
        }
        let masked = input
            .start
            .as_ref()
            .is_some_and(|start| start.mask.is_some());
        if self.channels.takes_mask && !masked {
            let message = "this model fills masked parts of pictures: give it an image and a mask";
            return Err(RequestError::field("mask", message));
        }
        if input.denoising.end.is_some_and(|end| end < 1.0) {
            let message = "the drawing is finished here: there is no refiner to go on with it";
            return Err(RequestError::unsupported("denoising_end", message));
        }
        if let Some(field) = self.reader.told.untold(&input.guidance.micro) {
            let message = format!("{field}: this model is not told it; leave it out");
            return Err(RequestError::unsupported(field, message));
        }
        if input.n > MOST_PICTURES {
            let message = format!(
                "n is {}; at most {MOST_PICTURES} are drawn of one request",
                input.n
            );
            return Err(RequestError::field("n", message));
        }
        Ok(())
    }

    fn decoded<'a>(&self, start: &'a Asks) -> Result<Decoded<'a>, RequestError> {
        let masked = start.mask.is_some();
        let usual = || defaults::strength(self.reader.family, masked);
        let strength = start.strength.unwrap_or_else(usual);
        if !(0.0..=1.0).contains(&strength) {
            let message = format!("strength is {strength}; it must be between 0 and 1");
            return Err(RequestError::field("strength", message));
        }
        Ok(Decoded {
            image: Pixels::decode(&start.image, "image")?,
            mask: start.mask.as_ref(),
            strength,
        })
    }

    /// The guidance that is done, and the one that the model is told.
    fn guidance(&self, input: &ImageInput) -> Result<(Option<f64>, Option<f64>), RequestError> {
        let usual = || defaults::guidance(self.reader.family, self.distilled);
        let scale = input.guidance.scale.unwrap_or_else(usual);
        if !(0.0..=1000.0).contains(&scale) {
            let message = format!("guidance_scale is {scale}; it must be between 0 and 1000");
            return Err(RequestError::field("guidance_scale", message));
        }
        let rescale = input.guidance.rescale.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&rescale) {
            let message = format!("guidance_rescale is {rescale}; it must be between 0 and 1");
            return Err(RequestError::field("guidance_rescale", message));
        }
        Ok(match self.distilled {
            true => (None, Some(scale)),
            false => ((scale > 1.0).then_some(scale), None),
        })
    }

    /// The steps of a request.
    fn sampler(
        &self,
        input: &ImageInput,
        begin: Begin,
        latent: [usize; 3],
    ) -> Result<(Sampler, String), RequestError> {
        let denoising = &input.denoising;
        let config = self
            .scheduler
            .with(denoising.scheduler.as_deref(), &denoising.scheduler_config)
            .map_err(|error| of_scheduler(&error))?;
        let given = denoising.timesteps.is_some() || denoising.sigmas.is_some();
        let steps = denoising
            .steps
            .or_else(|| (!given).then(|| defaults::steps(config.class().name())));
        let [_, rows, columns] = latent;
        let sampler = config
            .plan(&schedulers::Asked {
                steps: steps.map(|steps| steps as usize),
                timesteps: denoising.timesteps.clone(),
                sigmas: denoising.sigmas.clone(),
                eta: denoising.eta,
                begin,
                end: denoising.end,
                image_seq_len: Some(rows * columns / 4),
            })
            .map_err(|error| of_scheduler(&error))?;
        Ok((sampler, config.class().name().to_owned()))
    }

    fn start(
        &self,
        decoded: &Decoded<'_>,
        size: Size,
        latent: [usize; 3],
    ) -> Result<Start, RequestError> {
        let mask = match decoded.mask {
            None => None,
            Some(mask) => Some(Mask {
                told: self.channels.takes_mask,
                ..Mask::new(Pixels::decode(mask, "mask")?.mask(size), size, latent)
            }),
        };
        let picture = (decoded.image.rgb(size), size);
        Ok(Start::new(picture, mask, decoded.strength))
    }
}

impl Prepare for ImagePreparer {
    type Prepared = ImagePrepared;

    fn prepare(&self, input: Input) -> Result<ImagePrepared, RequestError> {
        let input = input.image(self.info.task)?;
        self.refuse_what_is_not_done(&input)?;
        // One request's pictures at a time: a picture may be a hundred times its file.
        let one = input.start.as_ref().map(|_| self.decoding.lock());
        let decoded = input
            .start
            .as_ref()
            .map(|start| self.decoded(start))
            .transpose()?;
        let picture = decoded.as_ref().map(|decoded| decoded.image.size());
        let size = self.sizes.of(input.width, input.height, picture)?;
        let factor = self.sizes.factor;
        let latent = [
            self.channels.latents,
            (size.height / factor) as usize,
            (size.width / factor) as usize,
        ];
        let begin = match &decoded {
            Some(decoded) => Begin::Strength(decoded.strength),
            None => Begin::Noise,
        };
        let (sampler, class) = self.sampler(&input, begin, latent)?;
        let (guidance, told) = self.guidance(&input)?;
        let (reading, tokens) = self.reader.read(&Texts {
            prompt: &input.prompt,
            negative: &input.negative_prompt,
            clip_skip: input.clip_skip.unwrap_or(0) as usize,
            guided: guidance.is_some(),
            micro: &input.guidance.micro,
            size,
            guidance: told,
        })?;
        let seed = input.seed.unwrap_or_else(|| fresh_seed() >> 32);
        let recipe = Recipe {
            seed,
            steps: sampler.steps_total() as u32,
            scheduler: class,
            guidance_scale: guidance.or(told),
            strength: decoded.as_ref().map(|decoded| decoded.strength),
            flagged: false,
        };
        let draw =
            |index: u32| Drawing::new(index, seed.wrapping_add(index.into()), sampler.clone());
        let drawings = (0..input.n.max(1)).map(draw).collect();
        let start = decoded.map(|decoded| self.start(&decoded, size, latent));
        let start = start.transpose()?;
        drop(one);
        Ok(ImagePrepared {
            start,
            conditions: None,
            drawings,
            told: false,
            asked: Arc::new(Asked {
                reading,
                size,
                latent,
                guidance,
                rescale: input.guidance.rescale.unwrap_or(0.0),
                previews: spread(input.previews as usize, recipe.steps as usize),
                recipe,
                tokens,
            }),
        })
    }

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn warm_up(&self) -> Input {
        // On a CPU nothing is gained by a whole picture; a GPU loads its kernels for the sizes that will come.
        let side = match self.info.device == "cpu" {
            true => Some(self.sizes.factor * 8),
            false => None,
        };
        let blank = || Picture::new(crate::pixels::blank_png());
        Input::Image(Box::new(ImageInput {
            prompt: Prompts::one("a warm-up"),
            start: self.channels.takes_mask.then(|| Asks {
                image: blank(),
                mask: Some(blank()),
                strength: Some(1.0),
                padding_mask_crop: None,
            }),
            width: side,
            height: side,
            seed: Some(0),
            denoising: chandler_core::Denoising {
                steps: Some(2),
                ..Default::default()
            },
            ..ImageInput::default()
        }))
    }
}

/// Steps after which previews are made, in equal distances; the last step's is the picture itself.
fn spread(previews: usize, steps: usize) -> Vec<usize> {
    let previews = previews.min(steps.saturating_sub(1));
    (1..=previews)
        .map(|k| k * steps / (previews + 1))
        .filter(|step| *step > 0)
        .collect()
}

/// What a scheduler refuses, as an error of the request; it begins with the field.
fn of_scheduler(error: &ImageError) -> RequestError {
    let text = error.to_string();
    let place = text.split([':', ',']).next().unwrap_or_default();
    let field = match place {
        "scheduler_config.json" => "scheduler_config",
        "end" => "denoising_end",
        "begin" => "strength",
        other => other,
    };
    match field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => RequestError::field(field.to_owned(), text),
        false => RequestError::field("scheduler", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_spread_and_never_the_last_step() {
        assert_eq!(spread(3, 20), [5, 10, 15]);
        assert_eq!(spread(9, 4), [1, 2, 3]);
        assert_eq!(spread(1, 1), [0usize; 0]);
        assert_eq!(spread(0, 10), [0usize; 0]);
    }

    #[test]
    fn a_schedulers_refusal_names_its_field() {
        let error = of_scheduler(&ImageError::Input("steps: 0 is no number".to_owned()));
        assert_eq!(error.field.as_deref(), Some("steps"));
        let several = ImageError::Input("steps, sigmas: one of them is to be given".to_owned());
        assert_eq!(of_scheduler(&several).field.as_deref(), Some("steps"));
        let error = of_scheduler(&ImageError::Input("no such thing: x".to_owned()));
        assert_eq!(error.field.as_deref(), Some("scheduler"));
    }
}
