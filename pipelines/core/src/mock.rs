//! A pipeline without a model: it says the prompt's words back, one a step. Front doors and the engine are tested on it,
//! and the contract suite is proved on it. Its faults are set by options and by nothing in a request of a real worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{RequestError, StepError};
use crate::event::{Event, Events, FinishReason, TextDelta, Token, Usage};
use crate::input::{Content, Input, Prompt, Task};
use crate::pipeline::{
    Activity, Admission, Cost, Footprint, ModelInfo, Occupancy, Pipeline, Prepare, Prepared,
    RequestId, Step, Ticket,
};
use crate::random::Stream;

/// What the mock should do wrong, and how slowly.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Rows at most at once.
    pub rows: usize,
    /// How long a step takes.
    pub step: Duration,
    /// Prompts holding this word make every step fail that they are part of, once the answer has two words.
    pub poison: Option<String>,
    /// How a poisoned step fails.
    pub fault: Fault,
    /// A batch of more rows than this is out of memory.
    pub memory_rows: usize,
    /// Tokens a prompt may have.
    pub context_length: usize,
}

/// How a poisoned step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It returns [`StepError::Batch`].
    Batch,
    /// It returns [`StepError::Fatal`].
    Fatal,
    /// It panics.
    Panic,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self {
            rows: 16,
            step: Duration::ZERO,
            poison: None,
            fault: Fault::Batch,
            memory_rows: usize::MAX,
            context_length: 4096,
        }
    }
}

/// The pipeline.
#[derive(Debug)]
pub struct MockPipeline {
    options: MockOptions,
    running: BTreeMap<RequestId, (Ticket, MockPrepared)>,
}

/// A request of the mock, with what it has said so far.
#[derive(Debug, Clone)]
pub struct MockPrepared {
    words: Vec<String>,
    answer: usize,
    said: usize,
    started: bool,
    rows: u32,
    seed: u64,
    stop: Vec<String>,
    poisoned: bool,
    logprobs: bool,
    finish: FinishReason,
}

impl MockPrepared {
    /// The word at a position, drawn from the prompt's words by seed and position only.
    fn word(&self, row: u32, position: usize) -> &str {
        let draw = Stream::new(self.seed, row).uniform(position as u64);
        let pick = (draw * self.words.len() as f64) as usize;
        self.words.get(pick).map_or("", String::as_str)
    }
}

impl Prepared for MockPrepared {
    fn cost(&self) -> Cost {
        Cost {
            rows: self.rows as usize,
            blocks: 1,
            bytes: self.words.iter().map(String::len).sum(),
        }
    }
}

struct MockPreparer(MockOptions);

impl Prepare for MockPreparer {
    type Prepared = MockPrepared;

    fn prepare(&self, input: Input) -> Result<MockPrepared, RequestError> {
        let Input::Text(input) = input;
        input.sampling.validate()?;
        let words: Vec<String> = match &input.prompt {
            Prompt::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            Prompt::Tokens(ids) => ids.iter().map(|id| format!("t{id}")).collect(),
            Prompt::Chat(chat) => match chat.messages.last().map(|m| &m.content) {
                Some(Content::Text(text)) => text.split_whitespace().map(str::to_owned).collect(),
                Some(Content::Parts(parts)) => parts
                    .iter()
                    .filter_map(|part| part.text.as_deref())
                    .flat_map(|text| text.split_whitespace().map(str::to_owned))
                    .collect(),
                _ => Vec::new(),
            },
        };
        if words.is_empty() {
            return Err(RequestError::field(
                "prompt",
                "prompt is empty; give at least one word",
            ));
        }
        if words.len() > self.0.context_length {
            return Err(RequestError::field(
                "prompt",
                format!(
                    "the prompt has {} tokens and the context window holds {}",
                    words.len(),
                    self.0.context_length
                ),
            )
            .with_code("context_length_exceeded"));
        }
        let limit = input
            .limits
            .max_tokens
            .or(input.limits.default_max_tokens)
            .map(|n| n as usize);
        let natural = 16;
        Ok(MockPrepared {
            answer: limit.unwrap_or(natural).max(1),
            finish: if limit.is_some() {
                FinishReason::Length
            } else {
                FinishReason::Stop
            },
            said: 0,
            started: false,
            rows: input.n.max(1),
            seed: input.sampling.seed.unwrap_or(0),
            stop: input.limits.stop,
            poisoned: self.0.poison.as_ref().is_some_and(|p| words.contains(p)),
            logprobs: input.logprobs.is_some(),
            words,
        })
    }

    fn info(&self) -> ModelInfo {
        ModelInfo {
            task: Task::TextGeneration,
            architecture: "Mock".into(),
            context_length: self.0.context_length,
            vocab_size: 0,
            parameters: 0,
            device: "cpu".into(),
            dtype: "f32".into(),
            chat: true,
            adapters: Vec::new(),
            cache: None,
        }
    }

    fn warm_up(&self) -> Input {
        Input::Text(crate::input::TextInput {
            prompt: Prompt::Text("warm".into()),
            limits: crate::input::Limits {
                max_tokens: Some(1),
                ..Default::default()
            },
            ..Default::default()
        })
    }
}

impl MockPipeline {
    /// A mock that behaves as the options say.
    pub fn new(options: MockOptions) -> Self {
        Self {
            options,
            running: BTreeMap::new(),
        }
    }

    fn rows(&self) -> usize {
        self.running.values().map(|(_, p)| p.rows as usize).sum()
    }

    fn fault(&self) -> Result<(), StepError> {
        let rows = self.rows();
        if rows > self.options.memory_rows {
            return Err(StepError::OutOfMemory(format!(
                "{rows} rows are running and memory holds {}",
                self.options.memory_rows
            )));
        }
        if self
            .running
            .values()
            .any(|(_, p)| p.poisoned && p.said >= 2)
        {
            return match self.options.fault {
                Fault::Batch => Err(StepError::Batch(
                    "a poisoned request was in the batch".into(),
                )),
                Fault::Fatal => Err(StepError::Fatal("the mock's device was unplugged".into())),
                #[allow(clippy::panic)] // Why: a panic in a step is what this fault is for.
                Fault::Panic => panic!("a poisoned request was in the batch"),
            };
        }
        Ok(())
    }
}

impl Pipeline for MockPipeline {
    type Prepared = MockPrepared;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = MockPrepared>> {
        Arc::new(MockPreparer(self.options.clone()))
    }

    fn admit(&mut self, ticket: Ticket, prepared: MockPrepared) -> Admission<MockPrepared> {
        let rows = prepared.cost().rows;
        if rows > self.options.rows {
            return Admission::Refused(RequestError::field(
                "n",
                format!(
                    "n is {rows}; this worker runs at most {} rows",
                    self.options.rows
                ),
            ));
        }
        if self.rows() + rows > self.options.rows {
            return Admission::Full(prepared);
        }
        self.running.insert(ticket.id, (ticket, prepared));
        Admission::Taken
    }

    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        if self.running.is_empty() {
            return Ok(Step::IDLE);
        }
        self.fault()?;
        if !self.options.step.is_zero() {
            std::thread::sleep(self.options.step);
        }
        let rows = self.rows();
        let mut ended = Vec::new();
        for (id, (_, request)) in &mut self.running {
            if speak(*id, request, events) {
                ended.push(*id);
            }
        }
        for id in ended {
            self.running.remove(&id);
        }
        Ok(Step {
            activity: Activity::Worked,
            rows,
            work: rows,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.running.remove(&id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<MockPrepared> {
        self.running.remove(&id).map(|(_, prepared)| prepared)
    }

    fn reset(&mut self) -> Result<(), StepError> {
        Ok(())
    }

    fn step_bound(&self) -> usize {
        self.options.rows
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            requests: self.running.len(),
            rows: self.rows(),
            blocks_used: self.running.len(),
            blocks_kept: 0,
            blocks_total: self.options.rows,
        }
    }

    fn footprint(&self) -> Footprint {
        Footprint::default()
    }
}

/// Says the next word of every row; `true` when the request has ended.
fn speak(id: RequestId, request: &mut MockPrepared, events: &mut Events) -> bool {
    let prompt_tokens = request.words.len() as u32;
    if !request.started {
        request.started = true;
        events.push(
            id,
            Event::Started {
                prompt_tokens,
                cached_tokens: 0,
            },
        );
    }
    let position = request.said;
    let stopped = request.stop.iter().any(|s| s == request.word(0, position));
    let last = stopped || position + 1 >= request.answer;
    for row in 0..request.rows {
        let word = request.word(row, position);
        let text = match (stopped, position) {
            (true, _) => String::new(),
            (false, 0) => word.to_owned(),
            (false, _) => format!(" {word}"),
        };
        let token = Token {
            id: position as u32,
            bytes: text.clone().into_bytes(),
            logprob: request.logprobs.then_some(-0.5),
            ..Token::default()
        };
        events.push(
            id,
            Event::Text(TextDelta {
                row,
                text,
                tokens: vec![token],
                finish: last.then_some(if stopped {
                    FinishReason::Stop
                } else {
                    request.finish
                }),
                ..TextDelta::default()
            }),
        );
    }
    request.said += 1;
    if last {
        events.push(
            id,
            Event::Done(Usage {
                prompt_tokens,
                cached_tokens: 0,
                completion_tokens: request.said as u32 * request.rows,
                reasoning_tokens: 0,
            }),
        );
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    fn input(number: u64) -> Input {
        let words = ["tallow", "wick", "flame", "wax", "light"];
        let prompt: Vec<&str> = (0..=number % 4)
            .map(|i| words[((number + i) % 5) as usize])
            .collect();
        Input::Text(crate::input::TextInput {
            prompt: Prompt::Text(prompt.join(" ")),
            sampling: crate::input::Sampling {
                seed: Some(number),
                ..Default::default()
            },
            limits: crate::input::Limits {
                max_tokens: Some(1 + (number % 9) as u32),
                ..Default::default()
            },
            n: 1 + (number % 3) as u32,
            ..Default::default()
        })
    }

    #[test]
    fn the_mock_keeps_the_contract() {
        contract::check(&contract::Subject {
            make: &|| MockPipeline::new(MockOptions::default()),
            input: &input,
            requests: 60,
        });
    }

    #[test]
    fn the_mock_does_not_grow_over_a_hundred_thousand_requests() {
        let mut pipeline = MockPipeline::new(MockOptions::default());
        contract::no_growth(&mut pipeline, &input, 100_000);
    }
}
