//! One row of a request on the host: the tokens it has, the text they have become, and when it ends.
//! Everything a request needs to go on after it was suspended is here; nothing here lies on the device.

use std::sync::Arc;

use chandler_core::random::Stream;
use chandler_core::{FinishReason, RequestError, TextDelta, Token};

use crate::sampling::{History, Sampler, log_probabilities};
use crate::stop::{Passed, StopText};
use crate::tokenizer::{StreamDecoder, Tokenizer};

/// What all rows of a request share.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampler: Sampler,
    pub(crate) seed: u64,
    /// Rows that are given: the best of those that run.
    pub(crate) keep: u32,
    /// The adapter's place among those of the model.
    pub(crate) adapter: Option<u32>,
    /// What else than its tokens decides about the keys and values of this request, such as its adapter; 0 is the model
    /// itself. Cache blocks are shared between equal ones only.
    pub(crate) salt: u64,
    /// Tokens at most; the context window is accounted for.
    pub(crate) max_tokens: u32,
    pub(crate) min_tokens: u32,
    pub(crate) stop: Vec<String>,
    pub(crate) max_chars: Option<u32>,
    /// Tokens that end a row.
    pub(crate) end_tokens: Vec<u32>,
    /// How many alternatives to report; `None` reports no log-probabilities.
    pub(crate) logprobs: Option<usize>,
    pub(crate) echo: Option<String>,
    /// Whether special tokens are left out of the text.
    pub(crate) skip_special: bool,
}

impl Plan {
    /// Whether the prompt's own log-probabilities are wanted.
    pub(crate) fn scores_prompt(&self) -> bool {
        self.echo.is_some() && self.logprobs.is_some()
    }
}

/// One answer in the making.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    plan: Arc<Plan>,
    index: u32,
    /// The answer's tokens so far, the last of which may not have gone through the model yet.
    pub(crate) generated: Vec<u32>,
    /// Made with the first token, and only where the sampler looks at it.
    history: Option<History>,
    stream: Stream,
    decoder: StreamDecoder,
    stop: StopText,
    /// The echoed prompt has been sent.
    pub(crate) echoed: bool,
    pub(crate) finish: Option<FinishReason>,
}

impl Row {
    pub(crate) fn new(
        plan: Arc<Plan>,
        index: u32,
        tokenizer: &Arc<Tokenizer>,
    ) -> Result<Self, RequestError> {
        // Why only the tail: what a token's text is depends on the few before it, at most.
        let tail = plan
            .prompt
            .get(plan.prompt.len().saturating_sub(8)..)
            .unwrap_or_default();
        let decoder = StreamDecoder::new(tokenizer, tail, plan.skip_special).map_err(|error| {
            RequestError::internal(format!("the prompt's end cannot be decoded: {error}"))
        })?;
        Ok(Self {
            index,
            generated: Vec::new(),
            history: None,
            stream: Stream::new(plan.seed, index),
            decoder,
            stop: StopText::new(plan.stop.clone(), plan.max_chars),
            echoed: false,
            finish: None,
            plan,
        })
    }

    /// The prompt as the first delta of a row that echoes it. `scores` are the prompt's logits-derived tokens, or empty.
    pub(crate) fn echo(&mut self, tokens: Vec<Token>) -> Option<TextDelta> {
        let text = self.plan.echo.clone()?;
        self.echoed = true;
        if self.plan.max_tokens == 0 {
            self.finish = Some(FinishReason::Length);
        }
        Some(TextDelta {
            row: self.index,
            text,
            tokens,
            finish: self.finish,
            ..TextDelta::default()
        })
    }

    /// Chooses the next token from raw logits and says what it adds to the text.
    pub(crate) fn advance(
        &mut self,
        tokenizer: &Tokenizer,
        raw: &[f32],
    ) -> Result<TextDelta, RequestError> {
        let plan = Arc::clone(&self.plan);
        let position = self.generated.len() as u64;
        let early = self.generated.len() < plan.min_tokens as usize;
        let forbidden: &[u32] = if early { &plan.end_tokens } else { &[] };
        let id = if plan.sampler.changes_logits() || !forbidden.is_empty() {
            let mut logits = raw.to_vec();
            let history = self
                .history
                .get_or_insert_with(|| match plan.sampler.needs_history() {
                    true => History::new(&plan.prompt),
                    false => History::default(),
                });
            plan.sampler.adjust(&mut logits, history, forbidden);
            plan.sampler.choose(&logits, self.stream, position)
        } else {
            plan.sampler.choose(raw, self.stream, position)
        };
        self.generated.push(id);
        if let Some(history) = &mut self.history {
            history.push(id);
        }
        let token = plan.logprobs.map_or_else(
            || Token {
                id,
                bytes: tokenizer.token_bytes(id),
                ..Token::default()
            },
            |top| scored(tokenizer, raw, id, top),
        );
        let ends = plan.end_tokens.contains(&id);
        let token = Token {
            special: ends || (plan.skip_special && tokenizer.is_special(id)),
            ..token
        };
        if ends {
            self.finish = Some(FinishReason::Stop);
            let text = self.rest();
            return Ok(self.delta(text, vec![token]));
        }
        let text = self.decode(id, !early)?;
        Ok(self.delta(text, vec![token]))
    }

    fn decode(&mut self, id: u32, armed: bool) -> Result<String, RequestError> {
        let fresh = self.decoder.push(id).map_err(|error| {
            RequestError::internal(format!("token {id} could not be decoded: {error}"))
        })?;
        let mut text = match self.stop.push(&fresh, armed) {
            Passed::Open(text) => text,
            Passed::Stopped(text) => {
                self.finish = Some(FinishReason::Stop);
                text
            }
            Passed::Full(text) => {
                self.finish = Some(FinishReason::Length);
                text
            }
        };
        if self.finish.is_none() && self.generated.len() >= self.plan.max_tokens as usize {
            self.finish = Some(FinishReason::Length);
            text.push_str(&self.rest());
        }
        Ok(text)
    }

    /// What was held back, when the row ends without a stop string.
    fn rest(&mut self) -> String {
        let tail = self.decoder.finish();
        match self.stop.push(&tail, true) {
            Passed::Open(text) => text + &self.stop.finish(),
            Passed::Stopped(text) => {
                self.finish = Some(FinishReason::Stop);
                text
            }
            Passed::Full(text) => text,
        }
    }

    fn delta(&self, text: String, tokens: Vec<Token>) -> TextDelta {
        TextDelta {
            row: self.index,
            text,
            tokens,
            finish: self.finish,
            ..TextDelta::default()
        }
    }
}

/// A token with its log-probability and the most likely alternatives, from raw logits.
pub(crate) fn scored(tokenizer: &Tokenizer, raw: &[f32], id: u32, top: usize) -> Token {
    let (logprob, alternatives) = log_probabilities(raw, id, top);
    Token {
        id,
        bytes: tokenizer.token_bytes(id),
        logprob: Some(logprob),
        top: alternatives
            .into_iter()
            .map(|(id, logprob)| chandler_core::event::TopToken {
                id,
                bytes: tokenizer.token_bytes(id),
                logprob,
            })
            .collect(),
        prompt: false,
        special: false,
    }
}
