//! What became of one request: an answer with what could be counted in it, or what went wrong. Nothing in between: an error
//! is never a fast success.

use std::time::Duration;

/// Characters of a message that are kept.
const MESSAGE: usize = 300;

/// An answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Success {
    /// From the moment it was due to the last byte.
    pub latency: Duration,
    /// To the first token, of a stream.
    pub first: Option<Duration>,
    /// Between one piece of a stream and the next.
    pub gaps: Vec<Duration>,
    /// Tokens read, by the endpoint's own count.
    pub prompt_tokens: Option<u64>,
    /// Tokens written, by the endpoint's own count.
    pub completion_tokens: Option<u64>,
    /// Denoising steps: the endpoint's own word, else what was asked for.
    pub steps: Option<u64>,
    /// Seconds of sound: the endpoint's own word, else the file's.
    pub audio_s: Option<f64>,
    /// What RunPod says the job waited.
    pub delay: Option<Duration>,
    /// What RunPod says it took.
    pub execution: Option<Duration>,
    /// Attempts that were told to come back later, before this one.
    pub retries: u64,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// No connection, or one that broke.
    Connection,
    /// Not whole within the time.
    Timeout,
    /// An HTTP status that is no success.
    Status(u16),
    /// A success by its status, and an error by its body.
    ErrorInAnswer,
    /// A stream that ended before its end.
    BrokenOff,
    /// Nothing of what such an answer has.
    Malformed,
    /// A job's state at its end, as RunPod names it.
    Job(String),
}

impl FailureKind {
    /// As the report calls it.
    pub fn label(&self) -> String {
        match self {
            Self::Connection => "connection".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Status(status) => format!("http {status}"),
            Self::ErrorInAnswer => "error in answer".to_owned(),
            Self::BrokenOff => "broken off".to_owned(),
            Self::Malformed => "malformed answer".to_owned(),
            Self::Job(state) => format!("job {state}"),
        }
    }
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub kind: FailureKind,
    /// In the endpoint's own words, cut short.
    pub message: String,
    /// When to come back, if it said.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, message: impl AsRef<str>) -> Self {
        let line = message
            .as_ref()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        Self {
            kind,
            message: line.chars().take(MESSAGE).collect(),
            retry_after: None,
        }
    }

    pub(super) fn malformed(message: impl AsRef<str>) -> Self {
        Self::new(FailureKind::Malformed, message)
    }
}
