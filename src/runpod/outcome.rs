//! The few ways in which a job ends, as the bodies of job-done that the platform knows (runpod.md 2.3).

use serde_json::{Value, json};

use super::work::Outcome;

impl Outcome {
    /// A whole output.
    pub fn output(output: Value) -> Self {
        Self::of(json!({"output": output}), false)
    }

    /// The output of a job whose chunks went before.
    pub fn streamed(output: Value) -> Self {
        Self::of(json!({"output": output}), true)
    }

    /// No output, and why. A text, since that is what the platform's clients expect of `error`.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::of(json!({"error": error.into()}), false)
    }

    /// The same outcome, after chunks.
    #[must_use]
    pub fn after_chunks(mut self, chunks: bool) -> Self {
        self.is_stream = chunks;
        self
    }

    fn of(body: Value, is_stream: bool) -> Self {
        Self {
            body,
            is_stream,
            stop_pod: false,
        }
    }

    /// The error, if it ended with one.
    pub fn error(&self) -> Option<&Value> {
        self.body.get("error").filter(|error| !error.is_null())
    }
}
