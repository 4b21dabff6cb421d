//! The batch: windows that are encoded together a stage at a time, and whose prompts, beams and samples go through the decoder in one
//! pass. A step does one stage of the encoder and one pass of the decoder at most, whoever they are for.

use chandler_nn::error::NnError;

use super::encoding::{Encoder, Underway};
use super::job::{Job, Outcome};
use super::pass::{self, Machine, Member};
use super::rows::{Made, Rows};
use super::search::{Found, Logits};
use crate::error::{Result, SpeechError};
use crate::whisper::caches::{CacheLimits, Caches};
use crate::whisper::model::Whisper;

/// How much a batch holds, and how much a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// What the caches have room for.
    pub caches: CacheLimits,
    /// Rows of a pass at most that belong to prompts; those of searches come besides.
    pub prompt_rows: usize,
    /// Windows that are encoded together at most.
    pub encoded_together: usize,
}

impl Default for BatchLimits {
    /// For a CPU, which a single window keeps busy: what a step may take decides.
    fn default() -> Self {
        Self {
            caches: CacheLimits {
                windows: 8,
                sequences: 16,
            },
            prompt_rows: 256,
            encoded_together: 1,
        }
    }
}

/// Names a window of a batch. Never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId(u64);

/// What a step has done.
#[derive(Debug, Default)]
pub struct Progress {
    /// Answers, in the order of the windows.
    pub outcomes: Vec<(WindowId, Outcome)>,
    /// Windows that went through a stage of the encoder.
    pub encoded: usize,
    /// Rows that went through the decoder.
    pub rows: usize,
}

impl Progress {
    /// Whether there was nothing to do.
    pub fn is_idle(&self) -> bool {
        self.encoded == 0 && self.rows == 0
    }
}

struct Window {
    id: WindowId,
    /// Its block of the cross-attention cache.
    block: u32,
    state: State,
    rows: Option<Rows>,
    /// Sequences that its job may grow to.
    sequences: usize,
}

enum State {
    /// Its frames wait for the encoder.
    Waiting(Vec<f32>),
    Encoding,
    Ready,
}

/// Windows at work.
pub struct DecodingBatch {
    limits: BatchLimits,
    caches: Caches,
    /// In the order in which they came.
    windows: Vec<Window>,
    underway: Option<Underway>,
    next: u64,
}

impl DecodingBatch {
    /// An empty batch with its caches.
    ///
    /// # Errors
    /// When a limit is 0 or there is no memory for the caches.
    pub fn new(model: &Whisper, limits: BatchLimits) -> Result<Self> {
        if limits.prompt_rows == 0 || limits.encoded_together == 0 {
            return Err(SpeechError::Input(format!(
                "{limits:?}: every limit is at least 1"
            )));
        }
        Ok(Self {
            caches: Caches::new(&model.description.config, limits.caches, &model.placement)?,
            limits,
            windows: Vec::new(),
            underway: None,
            next: 0,
        })
    }

    /// What it holds and does at most.
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Gives its caches' memory up until [`take_up`](Self::take_up). Called when it is empty.
    pub fn give_up(&mut self) {
        self.caches.give_up();
    }

    /// Takes it again: all of it or none.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_up(&mut self) -> Result<(), NnError> {
        self.caches.take_up()
    }

    /// Its caches.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Windows that there is room for.
    pub fn free_windows(&self) -> usize {
        self.caches.free_windows()
    }

    /// Sequences that there is room for.
    pub fn free_sequences(&self) -> usize {
        let taken: usize = self.windows.iter().map(|window| window.sequences).sum();
        self.limits.caches.sequences.saturating_sub(taken)
    }

    /// Takes up a window: log-mel frames [frames, mel bins], at most a window's. It is encoded in the steps that follow.
    ///
    /// # Errors
    /// [`SpeechError::Input`] when there is no room.
    pub fn open(&mut self, frames: Vec<f32>) -> Result<WindowId> {
        let block = self.caches.take_window()?;
        let id = WindowId(self.next);
        self.next += 1;
        self.windows.push(Window {
            id,
            block,
            state: State::Waiting(frames),
            rows: None,
            sequences: 0,
        });
        Ok(id)
    }

    /// Asks something about a window, which may still be on its way; one question at a time.
    ///
    /// # Errors
    /// [`SpeechError::Input`] for a window that is not here or has a question open, a prompt that leaves no room for an answer,
    /// and when there is no room for the rows that it needs.
    pub fn submit(&mut self, model: &Whisper, id: WindowId, job: Job) -> Result<()> {
        let free = self.free_sequences();
        let sequences = check(model, &job)?;
        if sequences > free {
            return Err(SpeechError::Input(format!(
                "{sequences} sequences are asked for, and there is room for {free}"
            )));
        }
        let window = self.windows.iter_mut().find(|window| window.id == id);
        let Some(window) = window.filter(|window| window.rows.is_none()) else {
            return Err(SpeechError::Input(format!(
                "window {} is not here, or has a question open",
                id.0
            )));
        };
        window.sequences = sequences;
        window.rows = Some(Rows::of(job, model.description.generation.tokens.sot));
        Ok(())
    }

    /// Forgets a window and what was asked about it; unknown ones are ignored.
    pub fn close(&mut self, id: WindowId) {
        let Some(at) = self.windows.iter().position(|window| window.id == id) else {
            return;
        };
        let window = self.windows.remove(at);
        if let Some(rows) = window.rows {
            rows.free(&mut self.caches);
        }
        // What the encoder is still writing to is given back when it is done.
        match (&window.state, &mut self.underway) {
            (State::Encoding, Some(underway)) => underway.forget(window.block),
            _ => self.caches.give_window(window.block),
        }
        if let Some(done) = self.underway.take_if(|underway| underway.is_forgotten()) {
            done.forgotten()
                .for_each(|block| self.caches.give_window(block));
        }
    }

    /// Forgets everything: what is to be done after a step that failed.
    pub fn clear(&mut self) {
        if let Some(underway) = self.underway.take() {
            underway
                .forgotten()
                .for_each(|block| self.caches.give_window(block));
        }
        for window in std::mem::take(&mut self.windows) {
            if let Some(rows) = window.rows {
                rows.free(&mut self.caches);
            }
            self.caches.give_window(window.block);
        }
    }

    /// Does one stage of the encoder, if windows wait for it, and one pass of the decoder, if any has a question open.
    ///
    /// # Errors
    /// What the device says. The batch is to be cleared then; nothing that it did can be relied on.
    pub fn step(&mut self, model: &Whisper) -> Result<Progress> {
        let mut progress = Progress {
            encoded: self.encode(model)?,
            ..Progress::default()
        };
        self.decode(model, &mut progress)?;
        Ok(progress)
    }

    fn encode(&mut self, model: &Whisper) -> Result<usize> {
        if self.underway.is_none() {
            let is_waiting = |window: &&mut Window| matches!(window.state, State::Waiting(_));
            let waiting = self.windows.iter_mut().filter(is_waiting);
            let mut frames = Vec::new();
            for window in waiting.take(self.limits.encoded_together) {
                if let State::Waiting(of) = std::mem::replace(&mut window.state, State::Encoding) {
                    frames.push((window.block, of));
                }
            }
            if frames.is_empty() {
                return Ok(0);
            }
            self.underway = Some(Underway::begin(&model.encoder, frames)?);
        }
        let Some(underway) = &mut self.underway else {
            return Ok(0);
        };
        let encoder = Encoder {
            encoder: &model.encoder,
            decoder: &model.decoder,
        };
        let windows = underway.windows();
        if underway.advance(&encoder, &mut self.caches)?
            && let Some(done) = self.underway.take()
        {
            for window in &mut self.windows {
                if done.blocks().any(|block| block == window.block) {
                    window.state = State::Ready;
                }
            }
            done.forgotten()
                .for_each(|block| self.caches.give_window(block));
        }
        Ok(windows)
    }

    fn decode(&mut self, model: &Whisper, progress: &mut Progress) -> Result<()> {
        let Self {
            windows,
            caches,
            limits,
            ..
        } = self;
        let mut budget = limits.prompt_rows;
        let mut ids = Vec::new();
        let mut members = Vec::new();
        for window in windows.iter_mut() {
            let (State::Ready, Some(rows)) = (&window.state, &mut window.rows) else {
                continue;
            };
            let count = rows.next(budget);
            if !rows.is_searching() {
                budget -= count;
            }
            if count > 0 {
                ids.push(window.id);
                members.push(Member {
                    block: window.block,
                    count,
                    rows,
                });
            }
        }
        if members.is_empty() {
            return Ok(());
        }
        let placement = &model.placement;
        let machine = Machine {
            decoder: &model.decoder,
            heads: &model.description.generation.alignment_heads,
            on_device: placement.plain || !placement.device.is_cpu(),
        };
        let shares = pass::run(&machine, caches, &mut members)?;
        let vocab = model.description.config.vocab_size;
        for ((id, member), mut share) in ids.into_iter().zip(members).zip(shares) {
            progress.rows += member.count;
            let found = match &share.likeliest {
                Some(likeliest) => Found::Likeliest(likeliest),
                None => Found::Logits(Logits {
                    numbers: &mut share.logits,
                    vocab,
                }),
            };
            let made = Made {
                found,
                scores: share.scores,
                tokens: &model.description.generation.tokens,
                caches,
            };
            if let Some(outcome) = member.rows.take(member.count, made) {
                progress.outcomes.push((id, outcome));
            }
        }
        for (id, _) in &progress.outcomes {
            if let Some(window) = windows.iter_mut().find(|window| window.id == *id) {
                window.sequences = 0;
                if let Some(rows) = window.rows.take() {
                    rows.free(caches);
                }
            }
        }
        Ok(())
    }
}

/// Sequences that a job may grow to, when it can be done at all.
fn check(model: &Whisper, job: &Job) -> Result<usize> {
    let config = &model.description.config;
    let fault = |message: String| Err(SpeechError::Input(message));
    let positions = config.target_positions;
    match job {
        Job::Detect => Ok(1),
        Job::Decode(job) => {
            // The last token is chosen and never read.
            let most = (positions + 1).saturating_sub(job.prompt.len());
            if job.prompt.is_empty() || job.sot >= job.prompt.len() {
                return fault(format!(
                    "token {} of a prompt of {}",
                    job.sot,
                    job.prompt.len()
                ));
            }
            if job.max_tokens == 0 || job.max_tokens > most {
                return fault(format!(
                    "{} tokens after a prompt of {}; the model has {positions} positions",
                    job.max_tokens,
                    job.prompt.len()
                ));
            }
            Ok(job.strategy.rows())
        }
        Job::Align(job) => {
            let all = job.prompt.len() + job.text.len() + 1;
            let seen = 1..=config.source_positions;
            if job.prompt.is_empty() || all > positions || !seen.contains(&job.positions) {
                return fault(format!(
                    "{all} tokens over {} positions are to be aligned; the model has {positions} and {}",
                    job.positions, config.source_positions
                ));
            }
            Ok(1)
        }
    }
}
