//! Long audio, window after window: which frames come next and what is told before them, what of a window's transcript is believed,
//! and where the next window begins. A state machine without a model: it asks for a window and takes the transcript, so that whoever
//! drives it may decode it beside others. Mirrors openai-whisper transcribe.py.
//!
//! Chunks that somebody has cut are so many of these, each over its own stretch of frames ([`Sequential::over`]): what a window leaves
//! open at its end is heard again in the next, and nothing is lost or doubled where stretches meet.

mod hallucination;
mod slices;

use std::ops::Range;

use super::config::INPUT_STRIDE;
use super::decoding::Alignment;
use super::fallback::{Attempt, Thresholds};
use super::model::Description;
use super::prompt::most_previous;
use super::segment::Segment;
use super::timing::{Punctuation, place_words, time_words, token_positions};
use hallucination::Suspicion;
use slices::Slices;

/// How long audio is transcribed.
#[derive(Debug, Clone, PartialEq)]
pub struct SequentialOptions {
    /// What is believed.
    pub thresholds: Thresholds,
    /// Whether a window is told what was said in those before it.
    pub condition_on_previous: bool,
    /// What the first window is told, as tokens.
    pub initial_prompt: Vec<u32>,
    /// Whether every window is told that.
    pub carry_initial_prompt: bool,
    /// Words with times; where marks belong in them.
    pub words: Option<Punctuation>,
    /// Seconds of silence around words that make them suspect; only with words.
    pub hallucination_silence: Option<f64>,
    /// The code of the language, which decides where words end.
    pub language: String,
}

/// A window that is to be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPlan {
    /// The frames that it holds; zeros follow if they are fewer than a window's.
    pub frames: Range<usize>,
    /// What was said before, as tokens.
    pub previous: Vec<u32>,
    /// How many windows there were before.
    pub number: u64,
}

/// What follows when a window's transcript has been taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Segments, none of which will change; the next window may be asked for.
    Segments(Vec<Segment>),
    /// How this text lies on the window is wanted.
    Align(AlignmentPlan),
}

/// Text whose place on the window is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignmentPlan {
    /// Its tokens.
    pub text: Vec<u32>,
    /// Positions of the window that hold audio.
    pub positions: usize,
}

/// The transcript of a stretch of audio, as far as it has come.
#[derive(Debug, Clone)]
pub struct Sequential {
    description: Description,
    options: SequentialOptions,
    /// Frames that are transcribed; `end` is past everything until it is known.
    stretch: Range<usize>,
    /// Frames of the audio, where they are known.
    content: Option<usize>,
    seek: usize,
    windows: u64,
    tokens: Vec<u32>,
    /// Tokens from here on are told to the next window.
    told_from: usize,
    /// When the last word ended.
    last_speech: f64,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// A window may be asked for.
    Idle,
    /// A window of so many frames is being decoded.
    Decoding(usize),
    /// Its words are being timed.
    Aligning(Pending),
}

/// A window whose transcript is here.
#[derive(Debug, Clone)]
struct Pending {
    frames: usize,
    attempt: Attempt,
    slices: Slices,
}

impl Sequential {
    /// All of the audio.
    pub fn new(description: Description, options: SequentialOptions) -> Self {
        Self::over(description, options, 0..usize::MAX)
    }

    /// A stretch of the audio's frames.
    pub fn over(
        description: Description,
        options: SequentialOptions,
        stretch: Range<usize>,
    ) -> Self {
        Self {
            tokens: options.initial_prompt.clone(),
            seek: stretch.start,
            description,
            options,
            stretch,
            content: None,
            windows: 0,
            told_from: 0,
            last_speech: 0.0,
            state: State::Idle,
        }
    }

    /// Says how many frames the audio has. It is to be said before the first window is asked for that has fewer than
    /// [`Timing::window_frames`](super::preprocessing::Timing) of them left.
    pub fn ends_at(&mut self, frames: usize) {
        self.content = Some(frames);
        self.stretch.end = self.stretch.end.min(frames);
    }

    /// The frame at which the next window begins: what lies before it is not needed any more, unless a window is out.
    pub fn seek(&self) -> usize {
        self.seek
    }

    /// Whether all of it is transcribed.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Idle) && self.seek >= self.stretch.end
    }

    /// The text so far, without what it was told.
    pub fn text(&self) -> String {
        let said = self.tokens.get(self.options.initial_prompt.len()..);
        let is_word = |id: &u32| !self.description.generation.tokens.is_timestamp(*id);
        let words: Vec<u32> = said
            .unwrap_or_default()
            .iter()
            .copied()
            .filter(is_word)
            .collect();
        self.description.tokenizer.decode(&words)
    }

    /// The next window; none when all is transcribed or one is out.
    pub fn next_window(&mut self) -> Option<WindowPlan> {
        let State::Idle = self.state else {
            return None;
        };
        let left = self
            .stretch
            .end
            .checked_sub(self.seek)
            .filter(|left| *left > 0)?;
        let frames = left.min(self.description.timing.window_frames);
        let plan = WindowPlan {
            frames: self.seek..self.seek + frames,
            previous: self.previous(),
            number: self.windows,
        };
        self.windows += 1;
        self.state = State::Decoding(frames);
        Some(plan)
    }

    /// Forgets that a window is out: it is asked for again.
    pub fn take_back(&mut self) {
        if !matches!(self.state, State::Idle) {
            self.windows = self.windows.saturating_sub(1);
            self.state = State::Idle;
        }
    }

    /// Takes the transcript of the window that is out. Without one, nothing follows.
    pub fn decoded(&mut self, attempt: Attempt) -> Next {
        let State::Decoding(frames) = self.state else {
            return Next::Segments(Vec::new());
        };
        self.state = State::Idle;
        if self.options.thresholds.is_silence(&attempt) {
            self.seek += frames;
            return Next::Segments(Vec::new());
        }
        let slices = Slices::of(&self.description, &attempt, self.seek, frames);
        let eot = self.description.generation.tokens.eot;
        let is_text = |id: &u32| *id < eot;
        let all = slices.segments.iter().flat_map(|segment| &segment.tokens);
        let text: Vec<u32> = all.copied().filter(is_text).collect();
        let pending = Pending {
            frames,
            attempt,
            slices,
        };
        match self.options.words.is_some() {
            true if text.is_empty() => Next::Segments(self.with_words(pending, None)),
            true => {
                self.state = State::Aligning(pending);
                Next::Align(AlignmentPlan {
                    text,
                    positions: (frames / INPUT_STRIDE).max(1),
                })
            }
            false => {
                let Pending {
                    attempt, slices, ..
                } = pending;
                self.go_on(slices.next_seek, frames);
                Next::Segments(self.keep(slices.segments, &attempt))
            }
        }
    }

    /// Takes how the window's text lies on it. `prompt` counts the tokens that were before the text. Without a window that this was
    /// asked of, nothing follows.
    pub fn aligned(&mut self, alignment: &Alignment, prompt: usize) -> Vec<Segment> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Aligning(pending) => self.with_words(pending, Some((alignment, prompt))),
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    fn with_words(
        &mut self,
        pending: Pending,
        alignment: Option<(&Alignment, usize)>,
    ) -> Vec<Segment> {
        let Pending {
            frames,
            attempt,
            mut slices,
        } = pending;
        let Description {
            config,
            generation,
            timing,
            tokenizer,
        } = &self.description;
        let eot = generation.tokens.eot;
        let words = alignment.map(|(alignment, prompt)| {
            let is_text = |id: &u32| *id < eot;
            let all = slices.segments.iter().flat_map(|segment| &segment.tokens);
            let mut text: Vec<u32> = all.copied().filter(is_text).collect();
            text.push(eot);
            let words = tokenizer.words(&text, eot, &self.options.language);
            let positions = token_positions(alignment, prompt, config.median_filter_width);
            time_words(words, &positions, alignment, timing)
        });
        let punctuation = self.options.words.clone().unwrap_or_default();
        place_words(
            words.unwrap_or_default(),
            &mut slices.segments,
            timing,
            &punctuation,
            (eot, self.last_speech),
        );
        let before = self.seek;
        let suspicion = Suspicion {
            timing,
            window: before..before + frames,
            content: self.content,
            silence: self.options.hallucination_silence,
            last_speech: self.last_speech,
        };
        let found = suspicion.look(&mut slices);
        self.go_on(found.seek, frames);
        if found.dropped {
            return Vec::new();
        }
        if let Some(end) = last_word_end(&slices.segments) {
            self.last_speech = end;
        }
        self.keep(slices.segments, &attempt)
    }

    /// Goes on at `seek`, or after the window's `frames` when that leads nowhere: it would be decoded for ever.
    fn go_on(&mut self, seek: usize, frames: usize) {
        self.seek = match seek > self.seek {
            true => seek,
            false => self.seek + frames,
        };
    }

    /// Keeps a window's segments; those without text or length are emptied.
    fn keep(&mut self, mut segments: Vec<Segment>, attempt: &Attempt) -> Vec<Segment> {
        for segment in &mut segments {
            if segment.start == segment.end || segment.text.trim().is_empty() {
                segment.text.clear();
                segment.tokens.clear();
                if let Some(words) = &mut segment.words {
                    words.clear();
                }
            }
            self.tokens.extend(&segment.tokens);
        }
        // What was drawn at a high temperature is not told on.
        if !self.options.condition_on_previous || attempt.temperature > 0.5 {
            self.told_from = self.tokens.len();
        }
        segments
    }

    /// What the next window is told.
    fn previous(&self) -> Vec<u32> {
        let from = |start: usize| self.tokens.get(start..).unwrap_or_default();
        if !self.options.carry_initial_prompt {
            return from(self.told_from).to_vec();
        }
        let initial = &self.options.initial_prompt;
        let said = from(self.told_from.max(initial.len()));
        let room = most_previous(&self.description.config).saturating_sub(initial.len());
        let said = said
            .get(said.len().saturating_sub(room)..)
            .unwrap_or_default();
        [initial, said].concat()
    }
}

/// When the last word ended, or the last segment where none has words.
fn last_word_end(segments: &[Segment]) -> Option<f64> {
    let words = segments
        .iter()
        .rev()
        .flat_map(|segment| segment.words.iter().flatten().rev());
    let last = words.map(|word| word.end).next();
    last.or_else(|| segments.last().map(|segment| segment.end))
}
