//! What an image model is asked, and what it answers: a prompt and how it is to be drawn; pictures, and previews of them.
//! Apart from `input` and `event`, which name these types and are about every modality.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// A request to an image model. What is `None` was not given: the model's own defaults decide.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInput {
    /// What is to be seen.
    pub prompt: Prompts,
    /// What is not to be seen; of no effect without guidance.
    pub negative_prompt: Prompts,
    /// Columns of pixels.
    pub width: Option<u32>,
    /// Rows of pixels.
    pub height: Option<u32>,
    /// How the noise is taken away.
    pub denoising: Denoising,
    /// How closely the prompt is followed.
    pub guidance: Guidance,
    /// The same seed and request give the same pictures; none draws a fresh one. Picture k of a request has the seed + k.
    pub seed: Option<u64>,
    /// Pictures wanted; 0 is read as 1.
    pub n: u32,
    /// A picture to begin with.
    pub start: Option<Start>,
    /// Pictures that steer the drawing through ControlNets.
    pub controls: Vec<Control>,
    /// Adapters (LoRA) by name, with their weights.
    pub loras: Vec<(String, f32)>,
    /// Layers of the text encoder that are left out at its end.
    pub clip_skip: Option<u32>,
    /// Pictures of what is there so far, in equal distances over the steps, at most.
    pub previews: u32,
}

/// A prompt, for models of several text encoders with a text for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prompts {
    /// For the first encoder, and for those below that have none of their own.
    pub first: Option<String>,
    /// For the second encoder.
    pub second: Option<String>,
    /// For the third.
    pub third: Option<String>,
}

impl Prompts {
    /// One text for all encoders.
    pub fn one(text: impl Into<String>) -> Self {
        Self {
            first: Some(text.into()),
            ..Self::default()
        }
    }
}

/// How the noise is taken away.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Denoising {
    /// Steps from noise to picture.
    pub steps: Option<u32>,
    /// The scheduler, by the name of its class in diffusers or a name that is in use for it.
    pub scheduler: Option<String>,
    /// Fields of scheduler_config.json that are to be other than the model's.
    pub scheduler_config: Map<String, Value>,
    /// The timesteps themselves, from high to low, instead of a number of steps.
    pub timesteps: Option<Vec<f64>>,
    /// The noise levels themselves, from high to low, instead of a number of steps.
    pub sigmas: Option<Vec<f64>>,
    /// The weight of fresh noise in schedulers that draw it (η of DDIM).
    pub eta: Option<f64>,
    /// The part of the noise's course, 0 to 1, after which the refiner goes on with what is left; 1 finishes the drawing without it.
    pub end: Option<f64>,
    /// What the refiner does.
    pub refining: Refining,
}

/// What a refiner does that goes on with a model's drawings.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Refining {
    /// Its steps from noise to picture, of which it makes those that are left to it.
    pub steps: Option<u32>,
    /// How much of a finished drawing it changes, 0 to 1, instead of going on with an unfinished one.
    pub strength: Option<f64>,
}

/// How closely the prompt is followed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guidance {
    /// Classifier-free guidance (Ho and Salimans, 2022), or the number that a distilled model is told. At most 1 runs without.
    pub scale: Option<f64>,
    /// Classifier-free guidance, away from the negative prompt, of a model whose `scale` is told or that has none: FLUX's `true_cfg_scale`.
    pub true_scale: Option<f64>,
    /// How much of the guided prediction's spread is brought back to the unguided one's (Lin et al., 2023), 0 to 1.
    pub rescale: Option<f64>,
    /// Sizes and crops that SDXL is told instead of the picture's own.
    pub micro: Micro,
}

/// What SDXL is told of the picture it is to imitate: [height, width] each, and the crop's [top, left].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Micro {
    /// The size before it was cropped.
    pub original_size: Option<[u32; 2]>,
    /// Where the crop began.
    pub crop: Option<[u32; 2]>,
    /// The size that was trained on.
    pub target_size: Option<[u32; 2]>,
    /// The same for the negative prompt.
    pub negative_original_size: Option<[u32; 2]>,
    /// The same for the negative prompt.
    pub negative_crop: Option<[u32; 2]>,
    /// The same for the negative prompt.
    pub negative_target_size: Option<[u32; 2]>,
    /// How beautiful the picture and the negative one are said to be, 1 to 10; for refiners.
    pub aesthetic_scores: Option<[f64; 2]>,
}

/// A picture to begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The picture.
    pub image: Picture,
    /// How much of it may change: 0 leaves it, 1 begins with noise alone.
    pub strength: Option<f64>,
    /// What may change, where not all may: white is drawn anew, black is kept.
    pub mask: Option<Picture>,
    /// The mask and this many pixels about it are drawn larger, and put back.
    pub padding_mask_crop: Option<u32>,
}

/// A picture that steers the drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// The ControlNet, by its name; the model's first where it is not given.
    pub model: Option<String>,
    /// Edges, depths, poses: what it was trained on.
    pub image: Picture,
    /// How strongly it steers.
    pub scale: f64,
    /// The part of the steps at which it begins, 0 to 1.
    pub start: f64,
    /// The part of the steps at which it ends, 0 to 1.
    pub end: f64,
}

/// A picture file, as it was sent: PNG, JPEG, WebP, …
#[derive(Clone)]
pub struct Picture(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Picture {
    /// Bytes in memory; shared, never copied.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: somebody is on it.
        write!(f, "a picture of {} bytes", self.bytes().len())
    }
}

/// A picture that was drawn.
#[derive(Clone, PartialEq)]
pub struct Drawn {
    /// Which of the request's pictures.
    pub index: u32,
    /// Columns of pixels.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, row after row.
    pub rgb: Arc<[u8]>,
    /// What would draw it again.
    pub recipe: Recipe,
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "picture {} of {}×{}",
            self.index, self.width, self.height
        )
    }
}

/// What would draw a picture again, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipe {
    /// The seed that it was drawn with.
    pub seed: u64,
    /// Steps that were run.
    pub steps: u32,
    /// The scheduler's class in diffusers.
    pub scheduler: String,
    /// The guidance; `None` where there was none.
    pub guidance_scale: Option<f64>,
    /// The guidance by the negative prompt besides, of models whose own is told ([`Guidance::true_scale`]).
    pub true_guidance_scale: Option<f64>,
    /// How much of the first picture could change, where there was one.
    pub strength: Option<f64>,
    /// Where the refiner went on ([`Denoising::end`]), where it did.
    pub denoising_end: Option<f64>,
    /// How much of the drawing the refiner could change ([`Refining::strength`]), where it did.
    pub refiner_strength: Option<f64>,
    /// The model's checker took it for something not to be shown, and it is black.
    pub flagged: bool,
}

/// A picture of what is there so far. It may be left out when nobody is fast enough to look at it.
#[derive(Clone, PartialEq)]
pub struct Preview {
    /// Which of the request's pictures.
    pub index: u32,
    /// Steps that were done.
    pub step: u32,
    /// Columns of pixels; previews may be smaller than the picture.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, row after row.
    pub rgb: Arc<[u8]>,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "preview of picture {} at step {}", self.index, self.step)
    }
}
