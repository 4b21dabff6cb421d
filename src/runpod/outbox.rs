//! What a job has to say before its end and has not said yet: chunks in order, and the latest progress. When the platform is
//! slower than the model, events that wait together go together.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

/// Together no more than this go in one post; the client's API cuts chunks at 1 MB.
const TOGETHER: usize = 256 << 10;
/// While so much waits, the model has to wait, too.
const FULL_BYTES: usize = 4 << 20;
const FULL_CHUNKS: usize = 4096;

/// The body of a post that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Must arrive.
    Chunk(Bytes),
    /// May be lost.
    Progress(Bytes),
}

/// What waits to be said.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    progress: Option<Value>,
}

#[derive(Debug)]
enum Chunk {
    /// A text, which may be whole events.
    Text(String),
    /// The body of its post.
    Other(Vec<u8>),
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Other(body) => body.len(),
        }
    }
}

impl Outbox {
    pub(super) fn chunk(&mut self, value: Value) {
        let chunk = match value {
            Value::String(text) => Chunk::Text(text),
            other => Chunk::Other(json!({"output": other}).to_string().into_bytes()),
        };
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Takes the place of what has not been said yet.
    pub(super) fn progress(&mut self, value: Value) {
        self.progress = Some(value);
    }

    /// The end is there: how far it is is of no interest any more.
    pub(super) fn end(&mut self) {
        self.progress = None;
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < FULL_BYTES && self.chunks.len() < FULL_CHUNKS
    }

    pub(super) fn next(&mut self) -> Option<Due> {
        if let Some(progress) = self.progress.take() {
            let body = json!({"status": "IN_PROGRESS", "output": progress});
            return Some(Due::Progress(body.to_string().into()));
        }
        let body = match self.pop()? {
            Chunk::Other(body) => body,
            Chunk::Text(mut text) => {
                self.join(&mut text);
                json!({"output": text}).to_string().into_bytes()
            }
        };
        Some(Due::Chunk(body.into()))
    }

    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }

    /// Adds the texts that follow, as long as what is there ends with a whole event: several events in a chunk are what the
    /// platform knows of its own workers (contract, section 5), while other texts may be counted by somebody.
    fn join(&mut self, text: &mut String) {
        while text.ends_with("\n\n") {
            match self.chunks.front() {
                Some(Chunk::Text(more)) if text.len() + more.len() <= TOGETHER => {}
                _ => return,
            }
            if let Some(Chunk::Text(more)) = self.pop() {
                text.push_str(&more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(outbox: &mut Outbox) -> Option<Value> {
        outbox.next().map(|due| match due {
            Due::Chunk(body) | Due::Progress(body) => serde_json::from_slice(&body).unwrap(),
        })
    }

    #[test]
    fn events_that_wait_together_go_together_and_in_order() {
        let mut outbox = Outbox::default();
        for value in [
            json!("data: 1\n\n"),
            json!("data: 2\n\n"),
            json!({"x": 1}),
            json!("a"),
            json!("b"),
        ] {
            outbox.chunk(value);
        }
        assert_eq!(
            due(&mut outbox),
            Some(json!({"output": "data: 1\n\ndata: 2\n\n"}))
        );
        assert_eq!(due(&mut outbox), Some(json!({"output": {"x": 1}})));
        // Texts that are no events stay as they are: their number may mean something.
        assert_eq!(due(&mut outbox), Some(json!({"output": "a"})));
        assert_eq!(due(&mut outbox), Some(json!({"output": "b"})));
        assert_eq!(due(&mut outbox), None);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn only_the_latest_progress_is_told_and_none_after_the_end() {
        let mut outbox = Outbox::default();
        outbox.progress(json!(1));
        outbox.progress(json!(2));
        assert_eq!(
            due(&mut outbox),
            Some(json!({"status": "IN_PROGRESS", "output": 2}))
        );
        outbox.progress(json!(3));
        outbox.end();
        assert_eq!(due(&mut outbox), None);
    }

    #[test]
    fn a_model_that_is_faster_than_the_platform_has_to_wait() {
        let mut outbox = Outbox::default();
        let event = format!("data: {}\n\n", "x".repeat(64 << 10));
        while outbox.has_room() {
            outbox.chunk(json!(event));
        }
        assert!(outbox.bytes < FULL_BYTES + event.len());
        let Some(Due::Chunk(body)) = outbox.next() else {
            panic!("a chunk");
        };
        assert!(body.len() > event.len() && body.len() <= TOGETHER + 64);
        assert!(outbox.has_room());
    }
}
