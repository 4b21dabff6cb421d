//! One row of a request on the host: the tokens it has, the text they have become, and when it ends.
//! Everything a request needs to go on after it was suspended is here; nothing here lies on the device.

use std::sync::{Arc, LazyLock};

use chandler_core::random::Stream;
use chandler_core::{FinishReason, RequestError, TextDelta, Token};
use chandler_nn::sampling::{Draw, History, Sampler, log_probabilities};

use crate::answer::marks::Phase;
use crate::answer::thinking::Thinking;
use crate::answer::tools::ids::IdSource;
use crate::answer::{Answer, Reading};
use crate::constraint::Guide;
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
    /// How the text is told into thoughts, text and tool calls.
    pub(crate) reading: Reading,
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
    /// The grammar that the answer is kept to, after its thoughts.
    guide: Option<Guide>,
    /// Where the row stands with its thoughts.
    thinking: Option<Thinking>,
    answer: Answer,
    /// The echoed prompt has been sent.
    pub(crate) echoed: bool,
    pub(crate) finish: Option<FinishReason>,
}

/// A token that was chosen.
struct Choice {
    id: u32,
    /// It ends the row, and is no part of its text.
    ends: bool,
}

impl Row {
    pub(crate) fn new(
        plan: Arc<Plan>,
        index: u32,
        tokenizer: &Arc<Tokenizer>,
        guide: Option<Guide>,
    ) -> Result<Self, RequestError> {
        // Why only the tail: what a token's text is depends on the few before it, at most.
        let tail = plan
            .prompt
            .get(plan.prompt.len().saturating_sub(8)..)
            .unwrap_or_default();
        let decoder = StreamDecoder::new(tokenizer, tail, plan.skip_special).map_err(|error| {
            RequestError::internal(format!("the prompt's end cannot be decoded: {error}"))
        })?;
        let thoughts = plan.reading.thoughts;
        // A grammar lets thoughts begin only where one token says so.
        let thinking = thoughts
            .filter(|t| guide.is_none() || t.phase != Phase::Possible || t.open.is_some())
            .map(|t| Thinking::new(t.marks, t.phase));
        let ids = IdSource::new(plan.seed, &plan.prompt, index);
        Ok(Self {
            index,
            generated: Vec::new(),
            history: None,
            stream: Stream::new(plan.seed, index),
            decoder: decoder.showing(Arc::clone(&plan.reading.shown)),
            guide,
            thinking,
            answer: Answer::new(&plan.reading, ids),
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

    /// Tokens of the answer that are thoughts.
    pub(crate) fn thought_tokens(&self) -> u32 {
        self.thinking.as_ref().map_or(0, |thinking| thinking.tokens)
    }

    /// Chooses the next token from raw logits and says what it adds to the text.
    pub(crate) fn advance(
        &mut self,
        tokenizer: &Tokenizer,
        raw: &[f32],
    ) -> Result<TextDelta, RequestError> {
        let early = self.is_early();
        let Some(choice) = self.choose(raw)? else {
            // The grammar has nothing more to say, and no token says that.
            self.finish = Some(FinishReason::Stop);
            let text = self.rest();
            return Ok(self.delta(text, Vec::new()));
        };
        let token = self.plan.logprobs.map_or_else(
            || unscored(tokenizer, choice.id),
            |top| scored(tokenizer, raw, choice.id, top),
        );
        self.say(tokenizer, (choice, token), early)
    }

    /// Counts what was said, where the sampler looks at it.
    pub(crate) fn remember(&mut self) {
        if self.plan.sampler.needs_history() && self.history.is_none() {
            let mut history = History::new(&self.plan.prompt);
            self.generated.iter().for_each(|id| history.push(*id));
            self.history = Some(history);
        }
    }

    /// What decides about a token drawn from row `logits`, where nothing but the token is wanted of them; after
    /// [`remember`](Self::remember). `undecided` tokens before it are drawn and not known here; `last` says which of those drawn last
    /// is this row's.
    pub(crate) fn draw(
        &self,
        logits: usize,
        undecided: usize,
        last: Option<usize>,
    ) -> Option<Draw<'_>> {
        if self.plan.logprobs.is_some() || self.guide.is_some() {
            return None;
        }
        let place = self.generated.len() + undecided;
        Some(Draw {
            row: logits,
            sampler: &self.plan.sampler,
            history: self.history.as_ref().unwrap_or(&NO_HISTORY),
            last,
            forbidden: match place < self.plan.min_tokens as usize {
                true => &self.plan.end_tokens,
                false => &[],
            },
            uniform: self.stream.uniform(place as u64),
        })
    }

    /// Takes a token that was drawn as [`draw`](Self::draw) has it, and says what it adds to the text.
    pub(crate) fn accept(
        &mut self,
        tokenizer: &Tokenizer,
        id: u32,
    ) -> Result<TextDelta, RequestError> {
        let early = self.is_early();
        let ends = self.plan.end_tokens.contains(&id);
        self.say(
            tokenizer,
            (Choice { id, ends }, unscored(tokenizer, id)),
            early,
        )
    }

    fn say(
        &mut self,
        tokenizer: &Tokenizer,
        (choice, token): (Choice, Token),
        early: bool,
    ) -> Result<TextDelta, RequestError> {
        let Choice { id, ends } = choice;
        let plan = Arc::clone(&self.plan);
        self.generated.push(id);
        if let Some(history) = &mut self.history {
            history.push(id);
        }
        let token = Token {
            special: ends || (plan.skip_special && tokenizer.is_special(id)),
            ..token
        };
        let text = if ends {
            self.finish = Some(FinishReason::Stop);
            self.rest()
        } else {
            self.decode(id, !early)?
        };
        Ok(self.delta(text, vec![token]))
    }

    /// Whether the answer is still shorter than it has to be.
    fn is_early(&self) -> bool {
        self.generated.len() < self.plan.min_tokens as usize
    }

    /// Chooses the next token, and moves the grammar on; nothing else changes. `None` when the grammar is complete and no token of
    /// the model's ends an answer.
    ///
    /// Under a grammar an end token ends the row only where the grammar may end, whatever else it would be; and where the grammar has
    /// nothing else left, the row ends, however few tokens it has.
    fn choose(&mut self, raw: &[f32]) -> Result<Option<Choice>, RequestError> {
        let plan = Arc::clone(&self.plan);
        let early = self.is_early();
        let phase = self.thinking.as_ref().map_or(Phase::Over, |t| t.phase);
        let guided = self.guide.is_some();
        // Thoughts that a grammar waits behind have to end before the answer does.
        let waits = guided && phase == Phase::Inside;
        let forbidden: &[u32] = if waits || (early && !guided) {
            &plan.end_tokens
        } else {
            &[]
        };
        if !guided && !plan.sampler.changes_logits() && forbidden.is_empty() {
            let id = self.pick(raw);
            let ends = plan.end_tokens.contains(&id);
            return Ok(Some(Choice { id, ends }));
        }
        let mut logits = raw.to_vec();
        let history = self
            .history
            .get_or_insert_with(|| match plan.sampler.needs_history() {
                true => History::new(&plan.prompt),
                false => History::default(),
            });
        plan.sampler.adjust(&mut logits, history, forbidden);
        if guided && !waits {
            return self.choose_guided(logits, phase);
        }
        let id = self.pick(&logits);
        let ends = !waits && plan.end_tokens.contains(&id);
        Ok(Some(Choice { id, ends }))
    }

    /// As [`choose`](Self::choose), from changed logits, for a row that stands within its grammar or before it.
    fn choose_guided(
        &mut self,
        mut logits: Vec<f32>,
        phase: Phase,
    ) -> Result<Option<Choice>, RequestError> {
        let plan = Arc::clone(&self.plan);
        let early = self.is_early();
        let Some(guide) = self.guide.as_mut() else {
            return Err(RequestError::internal("a row has lost its grammar"));
        };
        let allowed = guide.allowed()?;
        let thoughts = plan.reading.thoughts.filter(|_| phase == Phase::Possible);
        let think = thoughts.and_then(|thoughts| thoughts.open);
        let kept = |ids: &[u32]| -> Vec<(u32, f32)> {
            let logit = |id: &u32| Some((*id, *logits.get(*id as usize)?));
            ids.iter().filter_map(logit).collect()
        };
        let (ends, opens) = (kept(&plan.end_tokens), kept(think.as_slice()));
        let goes_on = allowed.restrict(&mut logits);
        let may_end = allowed.may_end && (!early || !goes_on);
        let others = if may_end { ends } else { Vec::new() };
        for (id, logit) in others.iter().chain(&opens) {
            if let Some(place) = logits.get_mut(*id as usize) {
                *place = *logit;
            }
        }
        if !goes_on && others.is_empty() && opens.is_empty() {
            return match may_end {
                true => Ok(None),
                false => Err(RequestError::internal(
                    "no token of this model goes on with the answer as its constraint demands",
                )),
            };
        }
        let id = self.pick(&logits);
        let ends = may_end && plan.end_tokens.contains(&id);
        let thinks = think == Some(id);
        if let Some(thinking) = self.thinking.as_mut().filter(|_| !thinks) {
            thinking.phase = Phase::Over;
        }
        if let Some(guide) = self.guide.as_mut().filter(|_| !ends && !thinks) {
            guide.accept(id)?;
        }
        Ok(Some(Choice { id, ends }))
    }

    /// The number for this place of the row's stream decides.
    fn pick(&self, logits: &[f32]) -> u32 {
        let uniform = self.stream.uniform(self.generated.len() as u64);
        self.plan.sampler.choose(logits, uniform)
    }

    fn decode(&mut self, id: u32, armed: bool) -> Result<String, RequestError> {
        let fresh = self.decoder.push(id).map_err(|error| {
            RequestError::internal(format!("token {id} could not be decoded: {error}"))
        })?;
        let behind = self.thinking.as_mut().and_then(|t| t.see(&fresh));
        if let (Some(guide), Some(behind)) = (&mut self.guide, behind) {
            // A token that ends the thoughts may hold the answer's beginning.
            guide.accept_text(behind.trim_start())?;
        }
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
        if self.finish.is_none() && self.guide.as_ref().is_some_and(Guide::is_complete) {
            self.finish = Some(FinishReason::Stop);
            text.push_str(&self.rest());
        }
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

    /// Tells new text into its parts; a row that has ended gives what was held.
    fn delta(&mut self, text: String, tokens: Vec<Token>) -> TextDelta {
        let mut parts = self.answer.push(text);
        if self.answer.is_over() {
            self.finish = Some(FinishReason::Stop);
        }
        if self.finish.is_some() {
            parts.extend(self.answer.finish());
        }
        if self.finish == Some(FinishReason::Stop) && self.answer.has_calls() {
            self.finish = Some(FinishReason::ToolCalls);
        }
        TextDelta {
            row: self.index,
            text: parts.text,
            reasoning: parts.reasoning,
            tool_calls: parts.tool_calls,
            tokens,
            finish: self.finish,
            stop: self.stop.matched(),
        }
    }
}

/// Where the sampler looks at none.
static NO_HISTORY: LazyLock<History> = LazyLock::new(History::default);

fn unscored(tokenizer: &Tokenizer, id: u32) -> Token {
    Token {
        id,
        bytes: tokenizer.token_bytes(id),
        ..Token::default()
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
