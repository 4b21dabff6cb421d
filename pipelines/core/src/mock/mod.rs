//! A pipeline without a model: it says the prompt's words back, one a step. Front doors and the engine are tested on it,
//! and the contract suite is proved on it. Its faults are set by options and by nothing in a request of a real worker.
//! Thoughts, tool calls and answers in a form come from `script`.

mod batch;
mod image;
mod script;
mod speech;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{RequestError, StepError};
use crate::event::{Event, Events, FinishReason, TextDelta, Token, Usage};
use crate::input::{Content, Input, Prompt, Task, TextInput};
use crate::pipeline::{
    Activity, Admission, Cost, Footprint, ModelInfo, Occupancy, Parked, Pipeline, Prepare,
    Prepared, RequestId, Step, Ticket,
};
use crate::random::Stream;
pub use batch::MockBatch;
pub use image::{FORBIDDEN, MockArtist};
use script::Script;
pub use script::{CALL, THINK};
pub use speech::MockRecogniser;

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
    /// Adapters that a request may name; each puts its name before every word.
    pub adapters: Vec<String>,
    /// Bytes that it says to hold on a device while it is not parked.
    pub device_bytes: u64,
    /// Waking fails so often before it succeeds: for want of memory, or, where [`fault`](Self::fault) is fatal, with the device.
    pub wakes_refused: u32,
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
            adapters: Vec::new(),
            device_bytes: 0,
            wakes_refused: 0,
        }
    }
}

/// The pipeline.
#[derive(Debug)]
pub struct MockPipeline {
    options: MockOptions,
    running: BTreeMap<RequestId, (Ticket, MockPrepared)>,
    /// Pieces of parking that are done; all of them when it is parked.
    parked: u32,
}

/// What parking is done in.
const PARKING_PIECES: u32 = 3;

/// A request of the mock, with what it has said so far.
#[derive(Debug, Clone)]
pub struct MockPrepared {
    words: Vec<String>,
    script: Script,
    answer: usize,
    said: usize,
    started: bool,
    /// Rows that are given; all are equally likely, so the first are as good as any.
    rows: u32,
    /// Rows that run.
    best_of: u32,
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
            rows: self.best_of as usize,
            blocks: 1,
            bytes: self.words.iter().map(String::len).sum(),
        }
    }
}

struct MockPreparer(MockOptions);

impl Prepare for MockPreparer {
    type Prepared = MockPrepared;

    fn prepare(&self, input: Input) -> Result<MockPrepared, RequestError> {
        let input = input.text(Task::TextGeneration)?;
        input.sampling.validate()?;
        let mut words = self.words(&input)?;
        let script = Script::of(&input, &words)?;
        let rows = input.n.max(1);
        let best_of = input.best_of.unwrap_or(rows);
        if best_of < rows {
            let message = format!("best_of is {best_of}; it must be at least n, {rows}");
            return Err(RequestError::field("best_of", message));
        }
        let poisoned = self.0.poison.as_ref().is_some_and(|p| words.contains(p));
        if let Some(adapter) = &input.adapter {
            if !self.0.adapters.contains(adapter) {
                let message = format!("there is no adapter {adapter:?}");
                return Err(RequestError::field("model", message).with_code("model_not_found"));
            }
            for word in &mut words {
                word.insert_str(0, &format!("{adapter}:"));
            }
        }
        let limit = input.limits.max_tokens.or(input.limits.default_max_tokens);
        let limit = limit.map(|n| (n as usize).max(1));
        let (answer, natural) = match script.end() {
            Some(end) => (script.len(), end),
            None => (script.len() + 16, FinishReason::Stop),
        };
        let (answer, finish) = match (limit, script.end()) {
            (Some(limit), None) => (limit, FinishReason::Length),
            (Some(limit), Some(_)) if limit < answer => (limit, FinishReason::Length),
            _ => (answer, natural),
        };
        Ok(MockPrepared {
            answer,
            finish,
            script,
            said: 0,
            started: false,
            rows,
            best_of,
            seed: input.sampling.seed.unwrap_or(0),
            stop: input.limits.stop,
            poisoned,
            logprobs: input.logprobs.is_some(),
            words,
        })
    }

    fn count_tokens(&self, input: &Input) -> Result<u32, RequestError> {
        let Input::Text(input) = input else {
            return Err(RequestError::unsupported(
                "input",
                "the mock counts words of text",
            ));
        };
        Ok(self.words(input)?.len() as u32)
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
            refiner: false,
            adapters: self.0.adapters.clone(),
            languages: Vec::new(),
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

impl MockPreparer {
    /// The words of a prompt: a conversation's last turn.
    fn words(&self, input: &TextInput) -> Result<Vec<String>, RequestError> {
        let of =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let words: Vec<String> = match &input.prompt {
            Prompt::Text(text) => of(text),
            Prompt::Tokens(ids) => ids.iter().map(|id| format!("t{id}")).collect(),
            Prompt::Chat(chat) => match chat.messages.last().map(|m| &m.content) {
                Some(Content::Text(text)) => of(text),
                Some(Content::Parts(parts)) => parts
                    .iter()
                    .filter_map(|part| part.text.as_deref())
                    .flat_map(of)
                    .collect(),
                _ => Vec::new(),
            },
        };
        let (count, window) = (words.len(), self.0.context_length);
        if words.is_empty() {
            let message = "prompt is empty; give at least one word";
            return Err(RequestError::field("prompt", message));
        }
        if count > window {
            let message =
                format!("the prompt has {count} tokens and the context window holds {window}");
            return Err(RequestError::field("prompt", message).with_code("context_length_exceeded"));
        }
        Ok(words)
    }
}

impl MockPipeline {
    /// A mock that behaves as the options say.
    pub fn new(options: MockOptions) -> Self {
        Self {
            options,
            running: BTreeMap::new(),
            parked: 0,
        }
    }

    fn rows(&self) -> usize {
        self.running.values().map(|(_, p)| p.best_of as usize).sum()
    }

    fn is_parked(&self) -> bool {
        self.parked >= PARKING_PIECES
    }

    fn fault(&self) -> Result<(), StepError> {
        if self.is_parked() {
            return Err(StepError::Batch("the mock was not woken".into()));
        }
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

    fn parking_space(&self) -> Option<u64> {
        Some(match self.parked {
            0 => self.options.device_bytes,
            _ => 0,
        })
    }

    fn park(&mut self) -> Result<Parked, StepError> {
        self.parked = (self.parked + 1).min(PARKING_PIECES);
        Ok(match self.is_parked() {
            true => Parked::Wholly,
            false => Parked::Partly,
        })
    }

    fn wake(&mut self) -> Result<(), StepError> {
        if self.is_parked() && self.options.wakes_refused > 0 {
            self.options.wakes_refused -= 1;
            return Err(match self.options.fault {
                Fault::Fatal => StepError::Fatal("the mock's device was unplugged".to_owned()),
                _ => StepError::OutOfMemory("another process has the mock's memory".to_owned()),
            });
        }
        if self.is_parked() {
            self.parked = 1;
        }
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
        let bytes = self.options.device_bytes;
        Footprint {
            device_bytes: if self.is_parked() { 0 } else { bytes },
            host_bytes: if self.parked > 0 { bytes } else { 0 },
        }
    }
}

/// A text as a delta, and the bytes of its token.
fn said(text: String) -> (TextDelta, Vec<u8>) {
    let bytes = text.clone().into_bytes();
    let delta = TextDelta {
        text,
        ..TextDelta::default()
    };
    (delta, bytes)
}

/// The next word of a row: of its script while that lasts, then its prompt's; nothing of the word at which it is `stopped`.
fn next_word(request: &MockPrepared, row: u32, (stopped, last): (Option<&str>, bool)) -> TextDelta {
    let position = request.said;
    let scripted = request.script.piece(position);
    let (delta, bytes) = scripted.unwrap_or_else(|| {
        let word = request.word(row, position);
        said(match (stopped, position == request.script.len()) {
            (Some(_), _) => String::new(),
            (None, true) => word.to_owned(),
            (None, false) => format!(" {word}"),
        })
    });
    let token = Token {
        id: position as u32,
        bytes,
        logprob: request.logprobs.then_some(-0.5),
        ..Token::default()
    };
    let finish = match stopped {
        Some(_) => FinishReason::Stop,
        None => request.finish,
    };
    TextDelta {
        row,
        tokens: vec![token],
        finish: last.then_some(finish),
        stop: stopped.map(Into::into),
        ..delta
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
    let scripted = position < request.script.len();
    let stopped = (!scripted)
        .then(|| request.word(0, position).to_owned())
        .filter(|word| request.stop.contains(word));
    let last = stopped.is_some() || position + 1 >= request.answer;
    for row in 0..request.rows {
        let said = next_word(request, row, (stopped.as_deref(), last));
        events.push(id, Event::Text(said));
    }
    request.said += 1;
    if last {
        events.push(
            id,
            Event::Done(Usage {
                prompt_tokens,
                cached_tokens: 0,
                completion_tokens: request.said as u32 * request.best_of,
                reasoning_tokens: request.script.thoughts(request.said) * request.best_of,
                ..Usage::default()
            }),
        );
    }
    last
}
