//! One job: its states, and all that workers posted about it. Apart from `book`, which moves jobs between workers.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

/// A job's state, in production's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// No worker has it.
    InQueue,
    /// A worker has taken it.
    InProgress,
    /// A result without an error has come.
    Completed,
    /// A result with an error has come.
    Failed,
    /// A client wanted no more of it.
    Cancelled,
    /// It ran longer than its policy allowed.
    TimedOut,
}

impl Status {
    /// Whether nothing more happens to it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::InQueue | Self::InProgress)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// A result's body, and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// As it was sent.
    pub body: Bytes,
    /// `isStream` of the query.
    pub is_stream: bool,
    /// Times that exactly this came.
    pub times: usize,
}

pub struct Job {
    pub id: Arc<str>,
    /// The job object that workers get.
    pub wire: Bytes,
    pub status: Status,
    pub worker: Option<Arc<str>>,
    pub queued: Instant,
    pub taken: Option<Instant>,
    pub ended: Option<Instant>,
    /// What a progress post said last.
    pub progress: Option<Value>,
    pub progress_posts: usize,
    pub chunks: Vec<Value>,
    /// Chunks that a client has read.
    pub read: usize,
    /// Different results that came for this attempt: more than one is a fault of the worker's.
    pub results: Vec<Posted>,
    /// What the first result said.
    pub answer: Map<String, Value>,
    /// How long it may run, in milliseconds.
    pub execution_timeout: Option<u64>,
    /// The platform made it up: nobody waits for it, and it counts nowhere.
    pub is_malformed: bool,
    /// The worker was told to stop it.
    pub stop_told: bool,
    pub retries: u32,
    /// Wakes whoever waits for its chunks and its end.
    pub changed: Option<Arc<Notify>>,
}

impl Job {
    pub fn new(id: Arc<str>, wire: Bytes) -> Self {
        Self {
            id,
            wire,
            status: Status::InQueue,
            worker: None,
            queued: Instant::now(),
            taken: None,
            ended: None,
            progress: None,
            progress_posts: 0,
            chunks: Vec::new(),
            read: 0,
            results: Vec::new(),
            answer: Map::new(),
            execution_timeout: None,
            is_malformed: false,
            stop_told: false,
            retries: 0,
            changed: None,
        }
    }

    pub fn wake(&self) {
        if let Some(changed) = &self.changed {
            changed.notify_waiters();
        }
    }

    /// As `/status` and `/runsync` show it.
    pub fn view(&self) -> Value {
        let mut view = Map::new();
        view.insert("id".into(), (*self.id).into());
        view.insert("status".into(), self.status.as_str().into());
        if let Some(taken) = self.taken {
            view.insert("delayTime".into(), millis(self.queued, taken).into());
            if let Some(ended) = self.ended {
                view.insert("executionTime".into(), millis(taken, ended).into());
            }
        }
        if let Some(worker) = &self.worker {
            view.insert("workerId".into(), (**worker).into());
        }
        if self.status.is_final() {
            for key in ["output", "error"] {
                if let Some(value) = self.answer.get(key) {
                    view.insert(key.into(), value.clone());
                }
            }
        } else if let Some(progress) = &self.progress {
            view.insert("output".into(), progress.clone());
        }
        Value::Object(view)
    }
}

fn millis(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_millis() as u64
}

/// A job as a test sees it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// Every different result that came, in order.
    pub results: Vec<Posted>,
    /// The chunks that were streamed.
    pub chunks: Vec<Value>,
    /// How many progress posts came.
    pub progress_posts: usize,
    /// What the last one said.
    pub progress: Option<Value>,
    /// Whether a worker was told to stop it.
    pub stop_told: bool,
    /// As `/status` shows it.
    pub view: Value,
}

impl Job {
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self.id.to_string(),
            status: self.status,
            results: self.results.clone(),
            chunks: self.chunks.clone(),
            progress_posts: self.progress_posts,
            progress: self.progress.clone(),
            stop_told: self.stop_told,
            view: self.view(),
        }
    }
}
