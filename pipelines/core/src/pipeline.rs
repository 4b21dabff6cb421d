//! The step machine's face. Every model is one: the engine admits requests, steps, and hands out the events;
//! it knows nothing else of a model, and a model knows nothing else of the engine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{RequestError, StepError};
use crate::event::Events;
use crate::input::{Input, Task};

/// Names a request among those that a pipeline holds. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A flag that a long step looks at between its pieces.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks the request to end.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was asked to end.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the engine hands over with a request.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Its name.
    pub id: RequestId,
    /// Raised when nobody waits for the answer any more.
    pub cancelled: CancelFlag,
}

impl Ticket {
    /// A ticket that nobody cancels, for tests.
    pub fn new(id: u64) -> Self {
        Self {
            id: RequestId(id),
            cancelled: CancelFlag::default(),
        }
    }
}

/// What a request occupies while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Rows of a batch.
    pub rows: usize,
    /// Cache blocks at its longest.
    pub blocks: usize,
    /// Host bytes of the prepared request.
    pub bytes: usize,
}

/// A request that is ready for the device, and what it will cost.
pub trait Prepared: Send + 'static {
    /// Known before it is admitted.
    fn cost(&self) -> Cost;
}

/// Work done off the engine's thread: tokenise, decode audio, resize, validate.
pub trait Prepare: Send + Sync + 'static {
    /// What comes out.
    type Prepared: Prepared;

    /// Translates an input into what the device takes.
    ///
    /// # Errors
    /// A [`RequestError`] that names the field at fault; nothing else is disturbed.
    fn prepare(&self, input: Input) -> Result<Self::Prepared, RequestError>;

    /// Facts about the loaded model.
    fn info(&self) -> ModelInfo;

    /// A request that exercises the model's common path once, run before the first user's.
    fn warm_up(&self) -> Input;

    /// Every token's text by id, for models that have tokens.
    fn vocabulary(&self) -> Vec<String> {
        Vec::new()
    }

    /// Token ids of a text without special tokens, for models that have tokens.
    ///
    /// # Errors
    /// When this model has no tokens or the text has none.
    fn tokenize(&self, _text: &str) -> Result<Vec<u32>, RequestError> {
        Err(RequestError::unsupported(
            "text",
            "this model has no tokenizer",
        ))
    }

    /// Tokens that the model would read of this input, for models that have tokens.
    ///
    /// # Errors
    /// As [`Prepare::prepare`] for the input's prompt, or that this model has no tokens.
    fn count_tokens(&self, _input: &Input) -> Result<u32, RequestError> {
        Err(RequestError::unsupported(
            "input",
            "this model has no tokens to count",
        ))
    }
}

/// Facts about a loaded model that front doors show and check against.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// What it does.
    pub task: Task,
    /// The architecture's name in config.json.
    pub architecture: String,
    /// Tokens it can hold at once; 0 where that has no meaning.
    pub context_length: usize,
    /// Tokens it knows; 0 where that has no meaning.
    pub vocab_size: usize,
    /// Number of weights.
    pub parameters: u64,
    /// `cpu`, `cuda:0`, …
    pub device: String,
    /// Numeric type it computes in.
    pub dtype: String,
    /// Whether it has a chat template.
    pub chat: bool,
    /// Whether a refiner goes on with its drawings.
    pub refiner: bool,
    /// Names of the adapters (LoRA) that a request may ask for.
    pub adapters: Vec<String>,
    /// Codes of the languages that a request may name; none where it has no choice.
    pub languages: Vec<String>,
    /// The cache that it was given, for models that have one.
    pub cache: Option<CacheSize>,
}

/// What a cache takes and holds, as it was set when the model was loaded; it never grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheSize {
    /// Bytes when every block is in use.
    pub bytes: u64,
    /// Blocks.
    pub blocks: usize,
    /// Tokens, over all blocks.
    pub tokens: usize,
}

/// What became of a request at the door of the batch.
#[derive(Debug)]
pub enum Admission<P> {
    /// It is in; events follow, the last of them terminal.
    Taken,
    /// No room now. It comes back as it was, to be tried again after some step.
    Full(P),
    /// It can never run here.
    Refused(RequestError),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Something moved forward.
    Worked,
    /// Requests are here and none could move; a cancel or a resume is needed.
    Waiting,
    /// No request is here.
    Idle,
}

/// A step's own account of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Whether calling again makes sense.
    pub activity: Activity,
    /// Rows of the batch.
    pub rows: usize,
    /// Units of work done (tokens through the model, denoised samples); bounded by [`Pipeline::step_bound`].
    pub work: usize,
}

impl Step {
    /// The step that found nothing to do.
    pub const IDLE: Self = Self {
        activity: Activity::Idle,
        rows: 0,
        work: 0,
    };
}

/// How far parking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// A piece of it is done, and the model serves as before. Calling again goes on.
    Partly,
    /// The device's memory is given up; only [`Pipeline::wake`] makes the model serve again.
    Wholly,
}

/// Bytes held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// On the device.
    pub device_bytes: u64,
    /// On the host, mapped weight files included.
    pub host_bytes: u64,
}

/// How full a pipeline is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Requests inside.
    pub requests: usize,
    /// Their rows.
    pub rows: usize,
    /// Cache blocks in use.
    pub blocks_used: usize,
    /// Cache blocks that are kept for reuse and given away when room is needed.
    pub blocks_kept: usize,
    /// Cache blocks there are.
    pub blocks_total: usize,
}

/// What a pipeline has counted since it was loaded; nothing here ever falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Tokens of prompts that were looked up in the cache.
    pub prefix_lookup_tokens: u64,
    /// Of these, found.
    pub prefix_hit_tokens: u64,
    /// Blocks kept for reuse that had to go because room was needed.
    pub prefix_evicted_blocks: u64,
    /// Requests that were put back, to be read again later, because blocks ran out.
    pub preemptions: u64,
    /// Tokens that were guessed ahead.
    pub proposed_tokens: u64,
    /// Of these, the ones that the model then chose.
    pub accepted_tokens: u64,
}

/// A loaded model, driven by one thread. Not `Send`: it lives and dies where it was loaded.
///
/// The promises, which [`crate::contract`] checks:
/// exactly one terminal event per admitted id, and none after `cancel` or `suspend`; what a request answers depends
/// on its input and seed only, never on its company or on having been suspended; a step does at most `step_bound` units.
pub trait Pipeline {
    /// A request ready for this pipeline.
    type Prepared: Prepared;

    /// The part that works off the engine's thread.
    fn preparer(&self) -> Arc<dyn Prepare<Prepared = Self::Prepared>>;

    /// Offers a request to the batch.
    fn admit(&mut self, ticket: Ticket, prepared: Self::Prepared) -> Admission<Self::Prepared>;

    /// Does one bounded piece of work for everything inside.
    ///
    /// # Errors
    /// [`StepError`] when the batch as a whole failed. State then is as before the step, so that `suspend` gives every member back.
    fn step(&mut self, events: &mut Events) -> Result<Step, StepError>;

    /// Forgets a request at once; no event follows. Unknown ids are ignored.
    fn cancel(&mut self, id: RequestId);

    /// Takes a request out so that admitting it again goes on where it stood: at most the piece of work that it was in the middle of (a
    /// window of audio) is done again. `None` for an unknown id.
    fn suspend(&mut self, id: RequestId) -> Option<Self::Prepared>;

    /// Makes the device's state new after a failed step. Called when nothing is inside.
    ///
    /// # Errors
    /// [`StepError::Fatal`] when the device does not come back.
    fn reset(&mut self) -> Result<(), StepError>;

    /// How many of the sample requests ([`Prepare::warm_up`]) run together, time after time, before the first user's: one batch of
    /// each size that the device prepares itself for.
    fn warm_up_batches(&self) -> Vec<usize> {
        vec![1]
    }

    /// Host memory that parking would take beyond what is held for it already; none where there is nothing to park, as on a CPU.
    fn parking_space(&self) -> Option<u64> {
        None
    }

    /// Does a bounded piece of parking: what a model cannot do without is kept in the host's memory, what it holds on its device is
    /// given up, and what it remembers of requests forgotten. Called when nothing is inside.
    ///
    /// # Errors
    /// When it cannot be parked now: it serves as before. [`StepError::Fatal`] when the device is lost.
    fn park(&mut self) -> Result<Parked, StepError> {
        let message = "this model has nothing on a device that it could give up";
        Err(StepError::Batch(message.to_owned()))
    }

    /// Brings a parked model back; nothing to do for one that is not.
    ///
    /// # Errors
    /// [`StepError::OutOfMemory`] when the device has no room now: it stays parked, and may be tried again.
    fn wake(&mut self) -> Result<(), StepError> {
        Ok(())
    }

    /// The most units of work that one step does.
    fn step_bound(&self) -> usize;

    /// How full it is.
    fn occupancy(&self) -> Occupancy;

    /// Bytes held; dropping the pipeline gives them back.
    fn footprint(&self) -> Footprint;

    /// What it has counted, for pipelines that count.
    fn tally(&self) -> Tally {
        Tally::default()
    }
}
