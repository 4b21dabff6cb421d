//! A request and its pictures, and how far each of them is. Apart from the pipeline, which moves them on: everything here may be taken
//! out of it and put back.

use std::sync::Arc;

use chandler_core::random::Stream;
use chandler_core::{Cost, Prepared, Recipe};

use super::coder::Pieces;
use super::controls::Steering;
use super::encoders::{Conditions, Encoding};
use super::frame::Part;
use super::reading::Reading;
use super::start::Start;
use crate::error::Result;
use crate::noise::{self, Draw};
use crate::pixels::Size;
use crate::schedulers::Sampler;

/// A request that is ready for the batch, or was taken out of it.
pub struct ImagePrepared {
    pub(super) asked: Arc<Asked>,
    /// What its prompts say to each expert, once the text encoders have read them; never kept outside the batch, for it lies on the
    /// device.
    pub(super) conditions: Vec<Conditions>,
    /// The coming one on the way there.
    pub(super) encoding: Option<Encoding>,
    pub(super) start: Option<Start>,
    /// Pictures that steer it.
    pub(super) controls: Vec<Steering>,
    pub(super) drawings: Vec<Drawing>,
    /// Whether anybody was told that it has begun.
    pub(super) told: bool,
}

/// What a request asks for, with the defaults filled in.
pub(super) struct Asked {
    /// For each expert that the drawings go through.
    pub(super) readings: Vec<Reading>,
    pub(super) size: Size,
    /// [channels, height, width] of the latents.
    pub(super) latent: [usize; 3],
    /// Classifier-free guidance, where there is any.
    pub(super) guidance: Option<f64>,
    /// What the denoiser is told of guidance, where it is.
    pub(super) told_guidance: Option<f64>,
    /// How much of the guided prediction's spread is brought back.
    pub(super) rescale: f64,
    /// Adapters (LoRA) by number, with their weights.
    pub(super) loras: Vec<(u32, f32)>,
    /// Steps after which a preview is wanted.
    pub(super) previews: Vec<usize>,
    /// The recipe of all its pictures, but for their seeds.
    pub(super) recipe: Recipe,
    /// Tokens of its prompts.
    pub(super) tokens: u32,
}

/// One picture on its way.
pub(super) struct Drawing {
    pub(super) index: u32,
    pub(super) seed: u64,
    /// The steps of the expert that has it.
    pub(super) sampler: Sampler,
    pub(super) refining: Refinement,
    /// [channels, height, width]
    pub(super) latents: Vec<f32>,
    pub(super) stage: Stage,
    /// Draws of fresh noise that the scheduler has had.
    fresh: u32,
    /// When it was last moved on, in steps of the pipeline.
    pub(super) turn: u64,
    /// A preview that is due: after which step, and latents of the picture as the model expects it.
    pub(super) preview: Option<(u32, Vec<f32>)>,
}

/// Who takes a picture's noise away: the experts of an ensemble, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expert {
    Base = 0,
    Refiner = 1,
}

/// What a refiner has to do with a picture.
#[derive(Clone)]
pub(super) enum Refinement {
    /// Nothing.
    Never,
    /// It goes on when the base model's steps are done.
    Coming {
        sampler: Box<Sampler>,
        /// Whether the picture is finished by then, and gets noise for it.
        noised: bool,
    },
    /// It has the picture, after so many steps of the base model.
    Now { before: usize },
}

/// Where a picture is.
pub(super) enum Stage {
    /// It has no latents yet.
    New,
    /// It has noise to lose.
    Denoising,
    /// It is being decoded.
    Decoding(Option<Pieces>),
    /// It is finished, red, green and blue of each pixel, and the safety checker has not seen it.
    Checking(Vec<u8>),
    /// It was handed out.
    Done,
}

impl Drawing {
    pub(super) fn new((index, seed): (u32, u64), sampler: Sampler, refining: Refinement) -> Self {
        Self {
            index,
            seed,
            sampler,
            refining,
            latents: Vec::new(),
            stage: Stage::New,
            fresh: 0,
            turn: 0,
            preview: None,
        }
    }

    /// The same picture as it is while it has noise to lose.
    pub(super) fn copy(&self) -> Self {
        Self {
            index: self.index,
            seed: self.seed,
            sampler: self.sampler.clone(),
            refining: self.refining.clone(),
            latents: self.latents.clone(),
            stage: Stage::Denoising,
            fresh: self.fresh,
            turn: self.turn,
            preview: None,
        }
    }

    /// A draw of its noise.
    pub(super) fn noise(&self, draw: Draw, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        noise::fill(&self.stream(), draw, &mut out);
        out
    }

    /// Goes a step on with what the model says of the noise.
    pub(super) fn advance(&mut self, predicted: &[f32]) -> Result<()> {
        let (stream, fresh) = (self.stream(), &mut self.fresh);
        let mut draw = |out: &mut [f32]| {
            noise::fill(&stream, Draw::Fresh(*fresh), out);
            *fresh += 1;
        };
        self.sampler
            .advance(predicted, &mut self.latents, &mut draw)
    }

    /// Goes over to the next expert when the one that has it is through. `false` when it is finished.
    pub(super) fn hand_on(&mut self) -> Result<bool> {
        if self.sampler.call().is_some() {
            return Ok(true);
        }
        let before = self.sampler.steps_total();
        match std::mem::replace(&mut self.refining, Refinement::Now { before }) {
            Refinement::Coming { sampler, noised } => {
                if noised {
                    let noise = self.noise(Draw::Refined, self.latents.len());
                    let drawn = std::mem::take(&mut self.latents);
                    self.latents = vec![0.0; drawn.len()];
                    sampler.add_noise(&drawn, &noise, &mut self.latents)?;
                }
                self.sampler = *sampler;
                Ok(true)
            }
            through => {
                self.refining = through;
                Ok(false)
            }
        }
    }

    /// Who has it.
    pub(super) fn expert(&self) -> Expert {
        match self.refining {
            Refinement::Never | Refinement::Coming { .. } => Expert::Base,
            Refinement::Now { .. } => Expert::Refiner,
        }
    }

    /// Steps done and to be done, by all experts.
    pub(super) fn steps(&self) -> [usize; 2] {
        let (done, total) = (self.sampler.steps_done(), self.sampler.steps_total());
        match &self.refining {
            Refinement::Never => [done, total],
            Refinement::Coming { sampler, .. } => [done, total + sampler.steps_total()],
            Refinement::Now { before } => [before + done, before + total],
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    fn stream(&self) -> Stream {
        Stream::new(self.seed, 0)
    }
}

impl ImagePrepared {
    /// Rows of the model that one of its pictures takes.
    pub(super) fn rows_each(&self) -> usize {
        1 + usize::from(self.asked.guidance.is_some())
    }

    /// Whether whatever pictures it brought are what the model takes.
    pub(super) fn is_encoded(&self) -> bool {
        self.start.as_ref().is_none_or(Start::is_encoded)
            && self.controls.iter().all(Steering::is_embedded)
    }

    /// Whether all its texts were read.
    pub(super) fn is_read(&self) -> bool {
        self.conditions.len() == self.asked.readings.len()
    }

    /// Steps done and to be done, over all pictures.
    pub(super) fn progress(&self) -> (u32, u32) {
        let each = self.drawings.iter().map(|drawing| drawing.steps());
        each.fold((0, 0), |sum, [done, total]| {
            (sum.0 + done as u32, sum.1 + total as u32)
        })
    }

    /// All its pictures have had their turn.
    pub(super) fn touch(&mut self, turn: u64) {
        for drawing in &mut self.drawings {
            drawing.turn = turn;
        }
    }

    /// Whether all its pictures were handed out.
    pub(super) fn is_done(&self) -> bool {
        self.drawings.iter().all(Drawing::is_done)
    }

    /// Lets go of what lies on the device; what was half decoded is decoded again.
    pub(super) fn leave_device(&mut self) {
        self.conditions.clear();
        self.encoding = None;
        if let Some(start) = &mut self.start {
            start.leave_device();
        }
        self.controls.iter_mut().for_each(Steering::leave_device);
        for drawing in &mut self.drawings {
            if let Stage::Decoding(half) = &mut drawing.stage {
                *half = None;
            }
        }
    }
}

impl Prepared for ImagePrepared {
    fn cost(&self) -> Cost {
        let latents: usize = self.asked.latent.iter().product();
        let start = self.start.as_ref().map_or(0, Start::bytes);
        let controls: usize = self.controls.iter().map(Steering::bytes).sum();
        let part = self.start.as_ref().and_then(|start| start.part.as_ref());
        let size = part.map_or(self.asked.size, Part::size);
        let picture = 3 * size.width as usize * size.height as usize;
        Cost {
            rows: self.drawings.len() * self.rows_each(),
            blocks: 0,
            // Latents, the scheduler's memory of earlier steps, and the finished picture.
            bytes: self.drawings.len() * (4 * 4 * latents + picture) + start + controls,
        }
    }
}
