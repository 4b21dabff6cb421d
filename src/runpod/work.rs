//! What doing a job looks like from outside: a stream of pieces with one end. Apart from the handler, so that the job loop,
//! the local API and tests depend on the shape and not on who does the work.

use futures_util::stream::BoxStream;
use serde_json::Value;

use super::job::Job;

/// What comes out of a job's work, in order: any number of `Progress` and `Chunk`, then exactly one `Done`.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// How far it is.
    Progress(Value),
    /// A part of a streamed output.
    Chunk(Value),
    /// The end.
    Done(Outcome),
}

/// How a job ended: the body of job-done, and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `{"output": …}` or `{"error": …}`.
    pub body: Value,
    /// Whether chunks may have gone before.
    pub is_stream: bool,
    /// Whether the platform should replace the worker after this job.
    pub stop_pod: bool,
}

/// Whoever can do a job's work. Dropping the stream cancels it.
pub trait Work: Send + Sync + 'static {
    /// Begins.
    fn start(&self, job: Job) -> BoxStream<'static, Piece>;
}
