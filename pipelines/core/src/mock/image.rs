//! An image model without a model, for the tests of front doors and engine: a picture is a gradient in colours that prompt and seed
//! choose, and its first pixels say how long the pictures were that it was given to begin with.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::batch::{MockBatch, Played};
use crate::error::RequestError;
use crate::event::{Event, Events, Usage};
use crate::image::{Denoising, Drawn, ImageInput, Preview, Prompts, Recipe};
use crate::input::{Input, Task};
use crate::pipeline::{Cost, ModelInfo, Prepare, Prepared, RequestId};
use crate::random::{Stream, fresh_seed};

/// Pixels of a side that nobody named.
const SIDE: u32 = 64;
/// The longest side, and what all sides are multiples of.
const LONGEST: u32 = 256;
const MULTIPLE: u32 = 8;
const STEPS: u32 = 4;
const MOST_STEPS: u32 = 50;
const GUIDANCE: f64 = 7.5;
const STRENGTH: f64 = 0.75;
/// The schedulers that it pretends to have: the class in diffusers, and another name for it.
const SCHEDULERS: [(&str, &str); 3] = [
    ("EulerDiscreteScheduler", "euler"),
    ("EulerDiscreteScheduler", "k_euler"),
    ("DDIMScheduler", "ddim"),
];
/// The adapter that it pretends to have.
const ADAPTER: &str = "ink";
/// A prompt with this word is taken for something not to be shown.
pub const FORBIDDEN: &str = "FORBIDDEN";

/// The pipeline: draws so many pictures at once, a step of each in a step.
pub type MockArtist = MockBatch<MockImage>;

/// A request of the mock, and how far it has been drawn.
#[derive(Debug, Clone)]
pub struct MockImage {
    prompt: String,
    width: u32,
    height: u32,
    pictures: u32,
    recipe: Recipe,
    previews: u32,
    /// Bytes of the picture to begin with, and of its mask.
    given: [usize; 2],
    done: u32,
}

struct Preparer;

impl Prepared for MockImage {
    fn cost(&self) -> Cost {
        Cost {
            rows: self.pictures as usize,
            blocks: 1,
            bytes: self.prompt.len() + self.given.iter().sum::<usize>(),
        }
    }
}

impl Prepare for Preparer {
    type Prepared = MockImage;

    fn prepare(&self, input: Input) -> Result<MockImage, RequestError> {
        let input = input.image(Task::TextToImage)?;
        let prompt = input.prompt.first.clone().unwrap_or_default();
        if prompt.trim().is_empty() && input.start.is_none() {
            let message = "prompt is empty; it must say what is to be seen";
            return Err(RequestError::field("prompt", message));
        }
        let steps = steps(&input)?;
        let strength = strength(&input)?;
        refuse_unbuilt(&input)?;
        let guidance = input.guidance.scale.unwrap_or(GUIDANCE);
        let length =
            |picture: Option<&crate::image::Picture>| picture.map_or(0, |p| p.bytes().len());
        let start = input.start.as_ref();
        Ok(MockImage {
            width: side("width", input.width)?,
            height: side("height", input.height)?,
            pictures: input.n.max(1),
            recipe: Recipe {
                seed: input.seed.unwrap_or_else(|| fresh_seed() >> 32),
                steps: strength.map_or(steps, |part| ((f64::from(steps) * part) as u32).max(1)),
                scheduler: scheduler(input.denoising.scheduler.as_deref())?,
                guidance_scale: (guidance > 1.0).then_some(guidance),
                true_guidance_scale: None,
                strength,
                flagged: prompt.split_whitespace().any(|word| word == FORBIDDEN),
                ..Recipe::default()
            },
            previews: input.previews,
            given: [
                length(start.map(|start| &start.image)),
                length(start.and_then(|start| start.mask.as_ref())),
            ],
            done: 0,
            prompt,
        })
    }

    fn info(&self) -> ModelInfo {
        ModelInfo {
            task: Task::TextToImage,
            architecture: "MockArtist".into(),
            context_length: 0,
            vocab_size: 0,
            parameters: 0,
            device: "cpu".into(),
            dtype: "f32".into(),
            chat: false,
            refiner: false,
            adapters: vec![ADAPTER.into()],
            languages: Vec::new(),
            cache: None,
        }
    }

    fn warm_up(&self) -> Input {
        Input::Image(Box::new(ImageInput {
            prompt: Prompts::one("warm"),
            denoising: Denoising {
                steps: Some(1),
                ..Default::default()
            },
            ..ImageInput::default()
        }))
    }
}

fn side(field: &str, given: Option<u32>) -> Result<u32, RequestError> {
    let side = given.unwrap_or(SIDE);
    if (MULTIPLE..=LONGEST).contains(&side) && side.is_multiple_of(MULTIPLE) {
        return Ok(side);
    }
    let message = format!(
        "{field} is {side}; it must be a multiple of {MULTIPLE} from {MULTIPLE} to {LONGEST}"
    );
    Err(RequestError::field(field, message))
}

fn steps(input: &ImageInput) -> Result<u32, RequestError> {
    let listed = [&input.denoising.timesteps, &input.denoising.sigmas];
    let listed = listed.into_iter().flatten().map(|list| list.len() as u32);
    let steps = input.denoising.steps.or(listed.max()).unwrap_or(STEPS);
    if (1..=MOST_STEPS).contains(&steps) {
        return Ok(steps);
    }
    let message = format!("steps is {steps}; it must be from 1 to {MOST_STEPS}");
    Err(RequestError::field("steps", message))
}

/// How much of the first picture may change, where there is one.
fn strength(input: &ImageInput) -> Result<Option<f64>, RequestError> {
    let Some(start) = &input.start else {
        return Ok(None);
    };
    let strength = start.strength.unwrap_or(STRENGTH);
    if (0.0..=1.0).contains(&strength) {
        return Ok(Some(strength));
    }
    let message = format!("strength is {strength}; it must be from 0 to 1");
    Err(RequestError::field("strength", message))
}

fn scheduler(given: Option<&str>) -> Result<String, RequestError> {
    let [default, ..] = SCHEDULERS;
    let Some(given) = given else {
        return Ok(default.0.to_owned());
    };
    let known = SCHEDULERS
        .iter()
        .find(|(class, other)| given == *class || given.eq_ignore_ascii_case(other));
    let message =
        || format!("scheduler is {given:?}; it must be EulerDiscreteScheduler or DDIMScheduler");
    let (class, _) = known.ok_or_else(|| RequestError::field("scheduler", message()))?;
    Ok((*class).to_owned())
}

fn refuse_unbuilt(input: &ImageInput) -> Result<(), RequestError> {
    if !input.controls.is_empty() {
        return Err(RequestError::unsupported(
            "controls",
            "the mock has no ControlNet",
        ));
    }
    let Denoising { end, refining, .. } = &input.denoising;
    let refined = [
        ("denoising_end", end.is_some_and(|end| end < 1.0)),
        ("refiner_strength", refining.strength.is_some()),
        ("refiner_inference_steps", refining.steps.is_some()),
    ];
    if let Some((field, _)) = refined.into_iter().find(|(_, asked)| *asked) {
        let message = format!("{field}: the mock has no refiner");
        return Err(RequestError::unsupported(field, message));
    }
    match input.loras.iter().find(|(name, _)| name != ADAPTER) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("loras has {name:?}; the model has {ADAPTER}");
            Err(RequestError::field("loras", message))
        }
    }
}

impl MockImage {
    /// Whether somebody wants to see what is there after so many steps.
    fn is_shown(&self, done: u32) -> bool {
        let place = |step: u32| {
            u64::from(step) * (u64::from(self.previews) + 1) / u64::from(self.recipe.steps.max(1))
        };
        self.previews > 0 && done < self.recipe.steps && place(done) > place(done - 1)
    }

    /// Two colours of a picture, one above and one below.
    fn colours(&self, index: u32) -> [[u8; 3]; 2] {
        // FNV-1a, so that the colours are the same everywhere.
        let hash = self
            .prompt
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let seed = self.recipe.seed.wrapping_add(index.into());
        let stream = Stream::new(seed ^ hash, 0);
        [0, 1].map(|lane| {
            let [red, green, blue, _] = stream.words(0, lane);
            [red as u8, green as u8, blue as u8]
        })
    }

    fn pixels(&self, index: u32) -> Arc<[u8]> {
        let [above, below] = self.colours(index);
        let mut rgb = Vec::with_capacity(3 * (self.width * self.height) as usize);
        for row in 0..self.height {
            let between = |a: u8, b: u8| {
                let (a, b) = (u32::from(a), u32::from(b));
                ((a * (self.height - row) + b * row) / self.height) as u8
            };
            let colour: Vec<u8> = above
                .iter()
                .zip(below)
                .map(|(a, b)| between(*a, b))
                .collect();
            for _ in 0..self.width {
                rgb.extend_from_slice(if self.recipe.flagged {
                    &[0; 3]
                } else {
                    &colour
                });
            }
        }
        for (pixel, length) in rgb.chunks_exact_mut(3).zip(self.given) {
            if length > 0 {
                let [_, bytes @ ..] = (length as u32).to_be_bytes();
                pixel.copy_from_slice(&bytes);
            }
        }
        rgb.into()
    }

    fn drawn(&self, index: u32) -> Drawn {
        Drawn {
            index,
            width: self.width,
            height: self.height,
            rgb: self.pixels(index),
            recipe: Recipe {
                seed: self.recipe.seed.wrapping_add(index.into()),
                ..self.recipe.clone()
            },
        }
    }

    /// An eighth of the picture's sides, grey: the darker, the less is done.
    fn preview(&self, index: u32) -> Preview {
        let (width, height) = (self.width / MULTIPLE, self.height / MULTIPLE);
        let grey = (255 * self.done / self.recipe.steps.max(1)) as u8;
        Preview {
            index,
            step: self.done,
            width,
            height,
            rgb: vec![grey; 3 * (width * height) as usize].into(),
        }
    }
}

impl Played for MockImage {
    fn preparer() -> Arc<dyn Prepare<Prepared = Self>> {
        Arc::new(Preparer)
    }

    fn play(&mut self, id: RequestId, events: &mut Events) -> bool {
        let prompt_tokens = self.prompt.split_whitespace().count() as u32;
        if self.done == 0 {
            let cached_tokens = 0;
            events.push(
                id,
                Event::Started {
                    prompt_tokens,
                    cached_tokens,
                },
            );
        }
        self.done += 1;
        let (done, total) = (self.done, self.recipe.steps);
        events.push(id, Event::Progress { done, total });
        if self.is_shown(done) {
            for index in 0..self.pictures {
                events.push(id, Event::Preview(Box::new(self.preview(index))));
            }
        }
        if done < total {
            return false;
        }
        for index in 0..self.pictures {
            events.push(id, Event::Drawn(Box::new(self.drawn(index))));
        }
        events.push(
            id,
            Event::Done(Usage {
                prompt_tokens,
                images: self.pictures,
                ..Usage::default()
            }),
        );
        true
    }
}
