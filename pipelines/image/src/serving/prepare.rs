//! From a request to work for the batch, off the engine's thread: texts are tokenised, pictures decoded and resized, the scheduler's
//! steps laid out, and everything that cannot be done refused with the field that asks for it.

use std::sync::{Arc, Mutex};

use chandler_core::random::fresh_seed;
use chandler_core::{
    Denoising, ImageInput, Input, ModelInfo, Picture, Prepare, Prompts, Recipe, RequestError,
    Start as Asks,
};

use super::adapters;
use super::controls::Steering;
use super::drawing::{Asked, ImagePrepared};
use super::families::Design;
use super::frame::Frame;
use super::guidance::{self, within};
use super::load::Usual;
use super::reading::{Reader, Reading, Sought};
use super::refiner::{self, HandOver, Refiner};
use super::sizes::Sizes;
use super::start::{Mask, Start};
use crate::pixels::{Pixels, Size};
use crate::schedulers::{Begin, SchedulerConfig};

/// Pictures of one request at most.
const MOST_PICTURES: u32 = 64;

/// Prepares requests for a loaded model.
pub struct ImagePreparer {
    pub(super) info: ModelInfo,
    pub(super) reader: Reader,
    /// What goes on with drawings.
    pub(super) refiner: Option<Refiner>,
    pub(super) scheduler: SchedulerConfig,
    pub(super) sizes: Sizes,
    pub(super) design: Design,
    /// Names of the ControlNets that are loaded.
    pub(super) controls: Vec<String>,
    /// Whether a safety checker looks at finished pictures; there are no previews then, which it would not have seen.
    pub(super) checked: bool,
    /// What the settings say of steps and guidance where a request does not.
    pub(super) usual: Usual,
    /// Channels of the latents.
    pub(super) latents: usize,
    /// Rows of all requests that are inside at once.
    pub(super) inside: usize,
    /// Held while a request's pictures are decoded. It guards nothing: a thread that panicked with it leaves nothing half done.
    pub(super) decoding: Mutex<()>,
}

/// A first picture, decoded.
struct Decoded {
    image: Pixels,
    mask: Option<Pixels>,
    strength: f64,
    /// Pixels about the mask that are drawn with it, where no more is.
    padding: Option<u32>,
}

impl Decoded {
    /// The size that its drawings have where nobody says: its own, but for a part, which is drawn as large as the model does it best.
    fn usual(&self) -> Option<Size> {
        self.padding.is_none().then(|| self.image.size())
    }

    /// What of it goes into drawings of a size.
    fn frame(&self, size: Size) -> Result<Frame, RequestError> {
        match (self.padding, &self.mask) {
            (None, _) => Ok(Frame::whole(size)),
            (Some(padding), Some(mask)) => Frame::about((&self.image, mask), padding, size),
            (Some(padding), None) => {
                let message = format!(
                    "padding_mask_crop is {padding} and there is no mask: give one, or leave it out"
                );
                Err(RequestError::field("mask", message))
            }
        }
    }
}

impl ImagePreparer {
    fn refuse_what_is_not_done(
        &self,
        input: &ImageInput,
        hand_over: HandOver,
    ) -> Result<(), RequestError> {
        let masked = input
            .start
            .as_ref()
            .is_some_and(|start| start.mask.is_some());
        if self.design.takes_mask && !masked {
            let message = "this model fills masked parts of pictures: give it an image and a mask";
            return Err(RequestError::field("mask", message));
        }
        let refiner = self.refiner.as_ref();
        let refiner = refiner.filter(|_| hand_over != HandOver::Never);
        if let Some(field) = refiner::untold(self.design.told, refiner, &input.guidance.micro) {
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

    fn decoded(&self, start: &Asks) -> Result<Decoded, RequestError> {
        let [whole, masked] = self.design.defaults.strength;
        let usual = if start.mask.is_some() { masked } else { whole };
        let strength = start.strength.unwrap_or(usual);
        Ok(Decoded {
            strength: within("strength", strength, 1.0)?,
            image: Pixels::decode(&start.image, "image")?,
            mask: match &start.mask {
                Some(mask) => Some(Pixels::decode(mask, "mask")?),
                None => None,
            },
            padding: start.padding_mask_crop,
        })
    }

    /// [channels, height, width] of a picture's latents.
    fn latent(&self, size: Size) -> [usize; 3] {
        let side = |pixels: u32| (pixels / self.sizes.factor) as usize;
        [self.latents, side(size.height), side(size.width)]
    }

    /// A request's texts for each expert, and how many tokens they have.
    fn read(
        &self,
        input: &ImageInput,
        (guided, is_refined): (bool, bool),
        size: Size,
    ) -> Result<(Vec<Reading>, u32), RequestError> {
        let sought = Sought {
            prompt: &input.prompt,
            negative: &input.negative_prompt,
            clip_skip: input.clip_skip.unwrap_or(0) as usize,
            guided,
            micro: &input.guidance.micro,
            size,
        };
        let (reading, tokens) = self.reader.read(&sought)?;
        let refiner = self.refiner.iter().filter(|_| is_refined);
        let refined = refiner.map(|refiner| refiner.read(&sought));
        let readings = std::iter::once(Ok(reading)).chain(refined);
        Ok((readings.collect::<Result<_, _>>()?, tokens))
    }

    /// Steps after which previews are made.
    fn previews(&self, input: &ImageInput, steps: usize) -> Vec<usize> {
        match self.checked {
            true => Vec::new(),
            false => spread(input.previews as usize, steps),
        }
    }

    fn start(
        &self,
        decoded: Decoded,
        frame: Frame,
        latent: [usize; 3],
    ) -> Result<Start, RequestError> {
        let size = frame.size;
        let mask = match decoded.mask {
            None => None,
            Some(mask) => Some(Mask {
                told: self.design.takes_mask,
                ..Mask::new(frame.of(mask, "mask")?.mask(size), size, latent)
            }),
        };
        let picture = (frame.of(decoded.image, "image")?.rgb(size), size);
        let mut start = Start::new(picture, mask, decoded.strength);
        start.part = frame.into_part();
        Ok(start)
    }
}

impl Prepare for ImagePreparer {
    type Prepared = ImagePrepared;

    fn prepare(&self, input: Input) -> Result<ImagePrepared, RequestError> {
        let mut input = input.image(self.info.task)?;
        let loras = adapters::asked(&mut input, &self.info.adapters)?;
        let hand_over = HandOver::of(&input, self.refiner.is_some())?;
        self.refuse_what_is_not_done(&input, hand_over)?;
        // One request's pictures at a time: a picture may be a hundred times its file.
        let pictures = input.start.is_some() || !input.controls.is_empty();
        let one = pictures.then(|| self.decoding.lock());
        let decoded = input
            .start
            .as_ref()
            .map(|start| self.decoded(start))
            .transpose()?;
        let picture = match &decoded {
            Some(decoded) => decoded.usual(),
            None => steered_size(&input)?,
        };
        let size = self.sizes.of(input.width, input.height, picture)?;
        let frame = match &decoded {
            Some(decoded) => decoded.frame(size)?,
            None => Frame::whole(size),
        };
        let controls = Steering::read(&input.controls, &self.controls, &frame)?;
        let latent = self.latent(size);
        let strength = decoded.as_ref().map(|decoded| decoded.strength);
        let begin = strength.map_or(Begin::Noise, Begin::Strength);
        let legs = self.legs(&input.denoising, (begin, hand_over), latent)?;
        let guidance = guidance::of((&self.design, &self.usual), &input)?;
        let asked = (guidance.pairs.is_some(), legs.is_refined());
        let (readings, tokens) = self.read(&input, asked, size)?;
        let recipe = Recipe {
            seed: input.seed.unwrap_or_else(|| fresh_seed() >> 32),
            guidance_scale: guidance.asked(),
            true_guidance_scale: guidance.truly(),
            strength,
            ..legs.recipe()
        };
        let start = decoded.map(|decoded| self.start(decoded, frame, latent));
        let start = start.transpose()?;
        drop(one);
        Ok(ImagePrepared {
            start,
            controls,
            conditions: Vec::new(),
            encoding: None,
            drawings: legs.drawings(input.n, recipe.seed),
            told: false,
            asked: Arc::new(Asked {
                readings,
                size,
                latent,
                guidance: guidance.pairs,
                told_guidance: guidance.told,
                rescale: input.guidance.rescale.unwrap_or(0.0),
                loras,
                previews: self.previews(&input, recipe.steps as usize),
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
            true => Some((self.sizes.unit * 8).min(self.sizes.usual.width)),
            false => None,
        };
        let blank = || Picture::new(crate::pixels::blank_png());
        Input::Image(Box::new(ImageInput {
            prompt: Prompts::one("a warm-up"),
            start: self.design.takes_mask.then(|| Asks {
                image: blank(),
                mask: Some(blank()),
                strength: Some(1.0),
                padding_mask_crop: None,
            }),
            width: side,
            height: side,
            seed: Some(0),
            denoising: Denoising {
                steps: Some(2),
                ..Default::default()
            },
            ..ImageInput::default()
        }))
    }
}

/// The size of a picture whose request says none: that of the first picture which steers it.
fn steered_size(input: &ImageInput) -> Result<Option<Size>, RequestError> {
    match input.controls.first() {
        Some(first) if input.width.is_none() || input.height.is_none() => Ok(Some(
            Pixels::decode(&first.image, "controls[0].image")?.size(),
        )),
        _ => Ok(None),
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
}
