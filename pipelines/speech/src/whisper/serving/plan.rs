//! What a request asks for, in the model's terms: checked, and as tokens. It never changes while the request runs.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chandler_core::random::fresh_seed;
use chandler_core::{LongForm, RequestError, SpeechInput, SpeechTask, Times};

use crate::whisper::asked::Asked;
use crate::whisper::decoding::Strategy;
use crate::whisper::fallback::{TEMPERATURES, Thresholds};
use crate::whisper::model::Description;
use crate::whisper::prompt::{Prompt, PromptParts, most_previous};
use crate::whisper::rules::Rules;
use crate::whisper::sequential::SequentialOptions;
use crate::whisper::timing::Punctuation;
use crate::whisper::tokens::Task;

/// What is drawn at a temperature when nobody says how many, as in openai-whisper.
const BEST_OF: u32 = 5;

/// A request's wishes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) asked: Asked,
    pub(super) only_language: bool,
    pub(super) timestamps: bool,
    pub(super) temperatures: Vec<f32>,
    pub(super) rules: Arc<Rules>,
    /// What the first window's transcript begins with.
    pub(super) prefix: Vec<u32>,
    pub(super) hotwords: Vec<u32>,
    pub(super) max_new_tokens: Option<usize>,
    /// Without the language, which may have to be found first.
    pub(super) sequential: SequentialOptions,
    beam_size: usize,
    best_of: usize,
    patience: f32,
    length_penalty: Option<f32>,
    seed: u64,
}

/// Which transcript something is drawn for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    pub(super) track: usize,
    pub(super) window: u64,
    /// The place of its temperature in the ladder.
    pub(super) attempt: usize,
}

impl Plan {
    /// From a request for this model, whose batch holds so many sequences.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub(super) fn new(
        input: &SpeechInput,
        description: &Description,
        sequences: usize,
    ) -> Result<Self, RequestError> {
        let task = match input.task {
            // The checkpoint's own default, where it has one.
            SpeechTask::Transcribe => None,
            SpeechTask::Translate => Some(Task::Translate),
        };
        let generation = &description.generation;
        let language = input.language.as_deref().filter(|_| !input.only_language);
        let asked = Asked::new(language, task, generation)?;
        let timestamps = input.times != Times::None && generation.tokens.no_timestamps.is_some();
        let search = &input.search;
        let rows = |field: &str, value: Option<u32>, default: u32| {
            whole(field, value.unwrap_or(default), 1..=sequences as u32)
        };
        let tokens = |field: &str, text: Option<&String>| encode(description, field, text);
        let plan = Self {
            temperatures: temperatures(search.temperatures.as_deref())?,
            beam_size: rows("beam_size", search.beam_size, 1)?,
            best_of: rows("best_of", search.best_of, BEST_OF.min(sequences as u32))?,
            patience: number("patience", search.patience, 0.01..=100.0)?.unwrap_or(1.0),
            length_penalty: number("length_penalty", search.length_penalty, -100.0..=100.0)?,
            seed: search.seed.unwrap_or_else(fresh_seed),
            rules: Arc::new(rules(input, description, timestamps)?),
            prefix: tokens("prefix", input.hints.prefix.as_ref())?,
            hotwords: tokens("hotwords", input.hints.hotwords.as_ref())?,
            max_new_tokens: search.max_new_tokens.map(|most| (most as usize).max(1)),
            sequential: SequentialOptions {
                thresholds: thresholds(input),
                condition_on_previous: input
                    .hints
                    .condition_on_previous
                    .unwrap_or(input.long_form == LongForm::Sequential),
                initial_prompt: tokens("prompt", input.hints.prompt.as_ref())?,
                carry_initial_prompt: input.hints.carry_prompt,
                words: (input.times == Times::Words).then(Punctuation::default),
                hallucination_silence: input.belief.hallucination_silence,
                language: String::new(),
            },
            only_language: input.only_language,
            timestamps,
            asked,
        };
        plan.check_room(description)?;
        Ok(plan)
    }

    /// The longest prompt that may come must leave room for a transcript.
    fn check_room(&self, description: &Description) -> Result<(), RequestError> {
        let told = vec![0; most_previous(&description.config)];
        let languages = &description.generation.tokens.languages;
        let parts = PromptParts {
            previous: &told,
            prefix: &self.prefix,
            ..self.parts(languages.first().map(|language| language.id))
        };
        let prompt = Prompt::new(&parts, &description.generation.tokens, &description.config);
        if prompt.most_tokens(None, &description.config) == 0 {
            let message = format!(
                "prefix has {} tokens, which leaves no room for a transcript; the model has {} positions for both",
                self.prefix.len(),
                description.config.target_positions
            );
            return Err(RequestError::field("prefix", message));
        }
        Ok(())
    }

    fn parts(&self, language: Option<u32>) -> PromptParts<'_> {
        PromptParts {
            language,
            task: self.asked.task,
            timestamps: self.timestamps,
            hotwords: &self.hotwords,
            ..PromptParts::default()
        }
    }

    /// The prompt of a window.
    pub(super) fn prompt(
        &self,
        description: &Description,
        language: Option<u32>,
        (previous, is_first): (&[u32], bool),
    ) -> Prompt {
        let parts = PromptParts {
            previous,
            prefix: if is_first { &self.prefix } else { &[] },
            ..self.parts(language)
        };
        Prompt::new(&parts, &description.generation.tokens, &description.config)
    }

    /// How tokens are chosen in an attempt.
    pub(super) fn strategy(&self, temperature: f32, draw: Draw) -> Strategy {
        if temperature > 0.0 {
            // Draws of a request lie apart by 2^14: more than any transcript takes, times sixteen temperatures.
            let place = draw
                .window
                .wrapping_mul(16)
                .wrapping_add(draw.attempt as u64);
            return Strategy::Sample {
                temperature,
                best_of: self.best_of,
                length_penalty: self.length_penalty,
                seed: self
                    .seed
                    .wrapping_add((draw.track as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
                first_draw: place.wrapping_mul(1 << 14),
            };
        }
        match self.beam_size {
            0 | 1 => Strategy::Greedy,
            size => Strategy::Beam {
                size,
                patience: self.patience,
                length_penalty: self.length_penalty,
            },
        }
    }

    /// Sequences that a window of it may take.
    pub(super) fn rows(&self) -> usize {
        let sampled = self.temperatures.iter().any(|t| *t > 0.0);
        let greedy = self.temperatures.first().is_none_or(|t| *t <= 0.0);
        let best_of = if sampled { self.best_of } else { 1 };
        let beams = if greedy { self.beam_size } else { 1 };
        best_of.max(beams).max(1)
    }
}

fn temperatures(asked: Option<&[f32]>) -> Result<Vec<f32>, RequestError> {
    let Some(asked) = asked else {
        return Ok(TEMPERATURES.to_vec());
    };
    if asked.is_empty() || asked.len() > 16 {
        let message = format!(
            "temperature has {} entries; it must have 1 to 16",
            asked.len()
        );
        return Err(RequestError::field("temperature", message));
    }
    for one in asked {
        number("temperature", Some(*one), 0.0..=2.0)?;
    }
    Ok(asked.to_vec())
}

fn thresholds(input: &SpeechInput) -> Thresholds {
    let (default, asked) = (Thresholds::default(), input.belief);
    Thresholds {
        compression_ratio: asked.compression_ratio.or(default.compression_ratio),
        log_probability: asked.log_probability.or(default.log_probability),
        no_speech: asked.no_speech.or(default.no_speech),
    }
}

/// The checkpoint's rules, with the request's own list of what is never written.
fn rules(
    input: &SpeechInput,
    description: &Description,
    timestamps: bool,
) -> Result<Rules, RequestError> {
    let Description {
        generation, config, ..
    } = description;
    let tokens = &generation.tokens;
    let mut rules = Rules::of_checkpoint(generation, timestamps);
    if let Some(asked) = &input.search.suppress_tokens {
        if !asked.contains(&-1) {
            rules.suppress.clear();
        }
        let mut ids = Vec::with_capacity(asked.len());
        for id in asked.iter().filter(|id| **id != -1) {
            let fits = u32::try_from(*id)
                .ok()
                .filter(|id| (*id as usize) < config.vocab_size);
            ids.push(fits.ok_or_else(|| {
                let message = format!(
                    "suppress_tokens has {id}; it must be -1 or token ids below {}",
                    config.vocab_size
                );
                RequestError::field("suppress_tokens", message)
            })?);
        }
        rules = rules.with_suppressed(ids);
    }
    let times = tokens
        .timestamp_begin()
        .map(|begin| begin..config.vocab_size as u32);
    let times = times.into_iter().flatten().filter(|_| !timestamps);
    Ok(rules.with_control_tokens(tokens).with_suppressed(times))
}

/// A text as tokens, with a space before it as it would stand in a transcript.
fn encode(
    description: &Description,
    field: &str,
    text: Option<&String>,
) -> Result<Vec<u32>, RequestError> {
    let Some(text) = text.map(|text| text.trim()).filter(|text| !text.is_empty()) else {
        return Ok(Vec::new());
    };
    let encoded = description.tokenizer.encode(&format!(" {text}"));
    encoded.map_err(|error| RequestError::field(field, format!("{field}: {error}")))
}

fn whole(field: &str, value: u32, range: RangeInclusive<u32>) -> Result<usize, RequestError> {
    if range.contains(&value) {
        return Ok(value as usize);
    }
    let message = format!(
        "{field} is {value}; this worker takes {} to {}",
        range.start(),
        range.end()
    );
    Err(RequestError::field(field, message))
}

fn number(
    field: &str,
    value: Option<f32>,
    range: RangeInclusive<f32>,
) -> Result<Option<f32>, RequestError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let message = format!(
                "{field} is {value}; it must be between {} and {}",
                range.start(),
                range.end()
            );
            Err(RequestError::field(field, message))
        }
        value => Ok(value),
    }
}
