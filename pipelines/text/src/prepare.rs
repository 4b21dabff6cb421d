//! From an input to what the batch takes: chat template, tokens, and every setting decided and checked. Runs off the
//! engine's thread.

use std::sync::Arc;

use chandler_core::input::Chat;
use chandler_core::random::fresh_seed;
use chandler_core::{
    ErrorKind, Input, Limits, ModelInfo, Prepare, Prompt, RequestError, Sampling, TextInput,
};
use chandler_nn::sampling::Sampler;

use crate::answer::Reading;
use crate::answer::dialect::Dialect;
use crate::chat::ChatTemplate;
use crate::constraint::Grammars;
use crate::generation::GenerationConfig;
use crate::prepared::{PromptProgress, TextPrepared};
use crate::ranking::Candidate;
use crate::row::{Plan, Row};
use crate::tokenizer::Tokenizer;

/// Stop strings that one request may have.
const MOST_STOPS: usize = 64;
/// What the automaton of a grammar takes while it grows with an answer: most stay under it.
const GRAMMAR_BYTES: usize = 1 << 20;

/// Prepares requests of one loaded model.
pub struct TextPreparer {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
    /// How the model marks thoughts and tool calls.
    pub(crate) dialect: Dialect,
    pub(crate) grammars: Grammars,
    pub(crate) generation: GenerationConfig,
    /// What ends a turn besides the model's own end tokens: chat models whose generation_config.json is their base's.
    pub(crate) turn_end: Option<u32>,
    /// Rows that the batch holds.
    pub(crate) max_rows: usize,
    pub(crate) info: ModelInfo,
    pub(crate) block_size: usize,
    /// Tokens that the whole key-value cache holds.
    pub(crate) cache_tokens: usize,
    /// Tokens that a sample request says.
    pub(crate) warm_up_tokens: u32,
}

impl Prepare for TextPreparer {
    type Prepared = TextPrepared;

    fn prepare(&self, input: Input) -> Result<TextPrepared, RequestError> {
        let input = input.text(self.info.task)?;
        input.sampling.validate()?;
        self.check_counts(&input)?;
        let Asked {
            ids: prompt,
            reading,
            chat,
        } = self.prompt(&input.prompt)?;
        let max_tokens = self.room(prompt.len(), &input)?;
        let end_tokens = self.end_tokens(&input);
        let count = rows_of(&input);
        let echo = if input.echo {
            Some(self.text_of(&prompt)?)
        } else {
            None
        };
        let adapter = self.adapter(input.adapter.as_deref())?;
        let language =
            self.dialect
                .language(chat.as_ref(), input.constraint.as_ref(), &self.tokenizer)?;
        let guide = match language {
            Some(language) => Some(self.grammars.compile(language)?),
            None => None,
        };
        let grammar_bytes = guide.as_ref().map_or(0, |_| GRAMMAR_BYTES);
        let plan = Arc::new(Plan {
            sampler: self.sampler(input.sampling.clone()),
            seed: input.sampling.seed.unwrap_or_else(fresh_seed),
            keep: input.n.max(1),
            adapter,
            // Keys and values differ from one adapter to the next; 0 is the model itself.
            salt: adapter.map_or(0, |place| u64::from(place) + 1),
            max_tokens,
            min_tokens: input.limits.min_tokens,
            stop: input.limits.stop,
            max_chars: input.limits.max_chars,
            end_tokens,
            logprobs: input.logprobs.map(|k| k as usize),
            echo,
            skip_special: true,
            reading,
            prompt,
        });
        let rows = (0..count)
            .map(|index| Row::new(Arc::clone(&plan), index, &self.tokenizer, guide.clone()))
            .collect::<Result<_, _>>()?;
        let ranked = if count > plan.keep { count } else { 0 };
        Ok(TextPrepared {
            plan,
            rows,
            started: false,
            progress: PromptProgress::default(),
            candidates: vec![Candidate::default(); ranked as usize],
            block_size: self.block_size,
            grammar_bytes,
        })
    }

    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn warm_up(&self) -> Input {
        Input::Text(TextInput {
            prompt: Prompt::Tokens(vec![0]),
            limits: Limits {
                max_tokens: Some(
                    self.warm_up_tokens
                        .min(self.info.context_length.saturating_sub(1) as u32),
                ),
                ignore_eos: true,
                ..Limits::default()
            },
            // The base's path is part of an adapter's.
            adapter: self.info.adapters.first().cloned(),
            ..TextInput::default()
        })
    }

    fn vocabulary(&self) -> Vec<String> {
        (0..self.tokenizer.vocab_size() as u32)
            .map(|id| String::from_utf8_lossy(&self.tokenizer.token_bytes(id)).into_owned())
            .collect()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        self.encode(text, false)
    }

    fn count_tokens(&self, input: &Input) -> Result<u32, RequestError> {
        let Input::Text(input) = input else {
            return Err(RequestError::unsupported("input", "this model takes text"));
        };
        Ok(self.prompt(&input.prompt)?.ids.len() as u32)
    }
}

impl TextPreparer {
    /// An adapter's place among those that were loaded.
    fn adapter(&self, name: Option<&str>) -> Result<Option<u32>, RequestError> {
        let Some(name) = name else {
            return Ok(None);
        };
        let known = &self.info.adapters;
        if let Some(place) = known.iter().position(|known| known == name) {
            return Ok(Some(place as u32));
        }
        let message = match known.as_slice() {
            [] => format!("there is no adapter {name:?}; none is loaded"),
            known => format!(
                "there is no adapter {name:?}; loaded are {}",
                known.join(", ")
            ),
        };
        Err(RequestError {
            field: Some("model".to_owned()),
            ..RequestError::new(ErrorKind::NotFound, message)
        })
    }

    fn check_counts(&self, input: &TextInput) -> Result<(), RequestError> {
        let wanted = input.n.max(1);
        if let Some(best_of) = input.best_of
            && best_of < wanted
        {
            let message = format!("best_of is {best_of}; it must be at least n, {wanted}");
            return Err(RequestError::field("best_of", message));
        }
        let rows = rows_of(input);
        if rows as usize > self.max_rows {
            let field = rows_field(input);
            let message = format!(
                "{field} is {rows}; this worker runs at most {} answers at once",
                self.max_rows
            );
            return Err(RequestError::field(field, message));
        }
        if input.limits.stop.len() > MOST_STOPS {
            let message = format!(
                "stop has {} entries; at most {MOST_STOPS} are taken",
                input.limits.stop.len()
            );
            return Err(RequestError::field("stop", message));
        }
        if input.limits.stop.iter().any(String::is_empty) {
            return Err(RequestError::field(
                "stop",
                "stop has an empty string; give text or leave it out",
            ));
        }
        let vocab = self.info.vocab_size;
        if let Some(id) = input
            .sampling
            .logit_bias
            .keys()
            .find(|id| **id as usize >= vocab)
        {
            let message = format!("logit_bias names token {id}; the vocabulary has {vocab} tokens");
            return Err(RequestError::field("logit_bias", message));
        }
        Ok(())
    }

    fn prompt(&self, prompt: &Prompt) -> Result<Asked, RequestError> {
        let mut asked = Asked::default();
        asked.ids = match prompt {
            Prompt::Tokens(ids) => {
                let vocab = self.info.vocab_size;
                if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
                    let message =
                        format!("prompt has token {id}; the vocabulary has {vocab} tokens");
                    return Err(RequestError::field("prompt", message));
                }
                ids.clone()
            }
            Prompt::Text(text) => self.encode(text, true)?,
            Prompt::Chat(chat) => {
                if chat.messages.is_empty() {
                    return Err(RequestError::field(
                        "messages",
                        "messages is empty; give at least one",
                    ));
                }
                let template = self.template.as_ref().ok_or_else(|| {
                    RequestError::unsupported(
                        "messages",
                        "this model has no chat template; send a prompt to /v1/completions",
                    )
                })?;
                let chat = asked.chat.insert(chat.clone());
                self.dialect.admit(chat)?;
                let text = template.render(chat)?;
                asked.reading = self.dialect.reading(chat, &text, &self.tokenizer)?;
                self.encode(&text, false)?
            }
        };
        if asked.ids.is_empty() {
            return Err(RequestError::field(
                "prompt",
                "the prompt has no tokens; give at least one",
            ));
        }
        Ok(asked)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, RequestError> {
        // Why first: a text of megabytes would take long to tokenise and cannot fit. No token is longer than 1 KiB.
        let most = self.info.context_length.saturating_mul(1024).max(1 << 16);
        if text.len() > most {
            return Err(self.too_long(&format!("at least {}", text.len() / 1024)));
        }
        let ids = self.tokenizer.encode(text, special).map_err(|error| {
            RequestError::field(
                "prompt",
                format!("the prompt could not be tokenised: {error}"),
            )
        })?;
        let vocab = self.info.vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab) {
            Some(id) => {
                let message = format!(
                    "the prompt has token {id}, which this model does not know: it has {vocab}"
                );
                Err(RequestError::field("prompt", message))
            }
            None => Ok(ids),
        }
    }

    fn text_of(&self, ids: &[u32]) -> Result<String, RequestError> {
        self.tokenizer.decode(ids, true).map_err(|error| {
            RequestError::field(
                "prompt",
                format!("the prompt could not be decoded: {error}"),
            )
        })
    }

    /// Tokens that each answer may have: what is asked for, or what the context window and the cache leave.
    fn room(&self, prompt: usize, input: &TextInput) -> Result<u32, RequestError> {
        let limits = &input.limits;
        let window = self.info.context_length;
        if limits.max_tokens == Some(0) && !input.echo {
            return Err(RequestError::field(
                "max_tokens",
                "max_tokens is 0; it must be at least 1",
            ));
        }
        let wanted = limits.max_tokens.map(|n| n as usize);
        if prompt + wanted.unwrap_or(1).min(1) > window {
            return Err(self.too_long(&prompt.to_string()));
        }
        if let Some(wanted) = wanted
            && prompt + wanted > window
        {
            let message = format!(
                "the prompt has {prompt} tokens and max_tokens is {wanted}, together {}; the context window holds {window}",
                prompt + wanted
            );
            return Err(
                RequestError::field("max_tokens", message).with_code("context_length_exceeded")
            );
        }
        let rows = rows_of(input) as usize;
        let cached = (self.cache_tokens / rows).saturating_sub(self.block_size);
        if prompt + wanted.unwrap_or(1) > cached {
            let message = format!(
                "{rows} answers of up to {} tokens with their prompt do not fit the key-value cache, which holds {} tokens; \
                 ask for fewer or shorter ones",
                prompt + wanted.unwrap_or(1),
                self.cache_tokens
            );
            let field = match rows {
                1 => "max_tokens",
                _ => rows_field(input),
            };
            return Err(RequestError::field(field, message));
        }
        let usual = limits.default_max_tokens.or(self.generation.max_new_tokens);
        let room = window.min(cached) - prompt;
        let max_tokens = wanted.unwrap_or_else(|| usual.map_or(room, |n| room.min(n as usize)));
        if limits.min_tokens as usize > max_tokens {
            let message = format!(
                "min_tokens is {}; it must be at most max_tokens, {max_tokens}",
                limits.min_tokens
            );
            return Err(RequestError::field("min_tokens", message));
        }
        Ok(max_tokens as u32)
    }

    fn too_long(&self, tokens: &str) -> RequestError {
        RequestError::field(
            "prompt",
            format!(
                "the prompt has {tokens} tokens; the context window holds {}, the answer included",
                self.info.context_length
            ),
        )
        .with_code("context_length_exceeded")
    }

    /// The request's settings over the model's own over the field's usual ones.
    fn sampler(&self, asked: Sampling) -> Sampler {
        let made = &self.generation;
        let greedy = made.do_sample == Some(false);
        let usual = if greedy {
            0.0
        } else {
            made.temperature.unwrap_or(1.0)
        };
        let temperature = asked.temperature.unwrap_or(usual) as f32;
        Sampler {
            // Why: below this, dividing logits leaves f32's range; the draw is the most likely token anyway.
            temperature: if temperature < 1e-4 { 0.0 } else { temperature },
            top_k: asked.top_k.or(made.top_k).unwrap_or(0) as usize,
            top_p: asked.top_p.or(made.top_p).unwrap_or(1.0),
            min_p: asked.min_p.or(made.min_p).unwrap_or(0.0),
            repetition_penalty: asked
                .repetition_penalty
                .or(made.repetition_penalty)
                .unwrap_or(1.0) as f32,
            presence_penalty: asked.presence_penalty.unwrap_or(0.0) as f32,
            frequency_penalty: asked.frequency_penalty.unwrap_or(0.0) as f32,
            logit_bias: asked.logit_bias,
        }
    }

    fn end_tokens(&self, input: &TextInput) -> Vec<u32> {
        let mut ends = input.limits.stop_token_ids.clone();
        if !input.limits.ignore_eos {
            ends.extend(&self.generation.eos);
            ends.extend(
                self.turn_end
                    .filter(|_| matches!(input.prompt, Prompt::Chat(_))),
            );
        }
        ends
    }
}

/// Rows that a request runs.
fn rows_of(input: &TextInput) -> u32 {
    let wanted = input.n.max(1);
    input.best_of.map_or(wanted, |best_of| best_of.max(wanted))
}

/// The field that decides about them.
fn rows_field(input: &TextInput) -> &'static str {
    if rows_of(input) > input.n.max(1) {
        "best_of"
    } else {
        "n"
    }
}

/// A prompt that was read.
#[derive(Default)]
struct Asked {
    ids: Vec<u32>,
    reading: Reading,
    /// The conversation, without tools that the model is not to see.
    chat: Option<Chat>,
}
