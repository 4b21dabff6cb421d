//! One job of the local API: what has become of it, and how the platform's clients are shown that.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::runpod::work::Outcome;

/// The states of a job, as the platform names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InQueue,
    InProgress,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    pub(super) fn is_final(self) -> bool {
        !matches!(self, Self::InQueue | Self::InProgress)
    }
}

/// What is known of a job at one moment.
#[derive(Debug)]
struct State {
    status: Status,
    output: Option<Value>,
    error: Option<Value>,
    /// Chunks that nobody has fetched yet.
    chunks: Vec<Value>,
    started: Option<Instant>,
    ended: Option<Instant>,
}

/// One job.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) created: Instant,
    state: watch::Sender<State>,
    /// Bytes that it holds once it has ended, roughly.
    bytes: AtomicUsize,
}

impl Record {
    pub(super) fn new(id: String) -> Self {
        let state = State {
            status: Status::InQueue,
            output: None,
            error: None,
            chunks: Vec::new(),
            started: None,
            ended: None,
        };
        Self {
            id,
            created: Instant::now(),
            state: watch::Sender::new(state),
            bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.state.borrow().status
    }

    pub(super) fn ended(&self) -> Option<Instant> {
        self.state.borrow().ended
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.change(|state| {
            state.status = Status::InProgress;
            state.started = Some(Instant::now());
        });
    }

    pub(super) fn progress(&self, value: Value) {
        self.change(|state| state.output = Some(value));
    }

    pub(super) fn chunk(&self, value: Value) {
        self.change(|state| state.chunks.push(value));
    }

    pub(super) fn done(&self, outcome: Outcome) {
        let Value::Object(mut body) = outcome.body else {
            return self.end(Status::Failed, None, Some(json!("the outcome has no body")));
        };
        let error = body.shift_remove("error").filter(|error| !error.is_null());
        let status = match error {
            Some(_) => Status::Failed,
            None => Status::Completed,
        };
        self.end(status, body.shift_remove("output"), error);
    }

    pub(super) fn end(&self, status: Status, output: Option<Value>, error: Option<Value>) {
        self.change(|state| {
            state.status = status;
            state.output = output;
            state.error = error;
            state.ended = Some(Instant::now());
        });
        let state = self.state.borrow();
        let bytes = weight(&state.output) + weight(&state.error) + weight(&state.chunks);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Nothing changes a job that has ended.
    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let open = !state.status.is_final();
            if open {
                change(state);
            }
            open
        });
    }

    /// Resolves when it has ended.
    pub(super) async fn is_over(&self) {
        // Why ignored: the sender is this record's own.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| state.status.is_final())
            .await;
    }

    /// The chunks since the last call, waited for as long as there may be some.
    pub(super) async fn fetch(&self, patience: Duration) -> Value {
        let mut state = self.state.subscribe();
        let news = state.wait_for(|state| state.status.is_final() || !state.chunks.is_empty());
        // Why ignored: when nothing has come, nothing is what is told.
        let _ = tokio::time::timeout(patience, news).await;
        let mut answer = json!({"id": self.id, "status": null, "stream": []});
        self.state.send_if_modified(|state| {
            let chunks = std::mem::take(&mut state.chunks);
            let stream: Vec<Value> = chunks
                .into_iter()
                .map(|chunk| json!({"output": chunk}))
                .collect();
            answer["status"] = state.status.as_str().into();
            answer["stream"] = stream.into();
            false // nobody waits for chunks to be gone
        });
        answer
    }

    /// The job as `/status` shows it.
    pub(super) fn shown(&self) -> Value {
        let state = self.state.borrow();
        let mut shown = Map::new();
        shown.insert("id".into(), self.id.as_str().into());
        shown.insert("status".into(), state.status.as_str().into());
        if let Some(begun) = state.started.or(state.ended) {
            shown.insert("delayTime".into(), millis(begun - self.created));
        }
        if let (Some(started), Some(ended)) = (state.started, state.ended) {
            shown.insert("executionTime".into(), millis(ended - started));
        }
        for (key, value) in [("output", &state.output), ("error", &state.error)] {
            if let Some(value) = value {
                shown.insert(key.into(), value.clone());
            }
        }
        shown.insert("workerId".into(), "local".into());
        Value::Object(shown)
    }
}

fn millis(time: Duration) -> Value {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into()
}

/// The length of a value's JSON.
fn weight(value: &impl serde::Serialize) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        Err(_) => usize::MAX / 4, // what cannot be measured is the first to go
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_has_ended_stays_as_it_ended() {
        let record = Record::new("a".into());
        assert_eq!(
            record.shown(),
            json!({"id": "a", "status": "IN_QUEUE", "workerId": "local"})
        );
        record.begin();
        record.progress(json!("half"));
        assert_eq!(record.shown()["output"], "half");
        record.end(Status::Cancelled, None, None);
        record.done(Outcome::output(json!("late")));
        record.chunk(json!("late"));
        let shown = record.shown();
        assert_eq!(
            (&shown["status"], shown.get("output")),
            (&json!("CANCELLED"), None)
        );
        let stream = record.fetch(Duration::ZERO).await;
        assert_eq!(
            stream,
            json!({"id": "a", "status": "CANCELLED", "stream": []})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_are_given_once_and_waited_for() {
        let record = Record::new("a".into());
        record.begin();
        assert_eq!(
            record.fetch(Duration::from_secs(5)).await["stream"],
            json!([])
        );
        record.chunk(json!(1));
        record.chunk(json!(2));
        let stream = record.fetch(Duration::from_secs(5)).await;
        assert_eq!(
            stream,
            json!({"id": "a", "status": "IN_PROGRESS", "stream": [{"output": 1}, {"output": 2}]})
        );
        record.done(Outcome::streamed(json!([1, 2])));
        let stream = record.fetch(Duration::from_secs(5)).await;
        assert_eq!(
            stream,
            json!({"id": "a", "status": "COMPLETED", "stream": []})
        );
        assert!(record.bytes() > 4);
    }
}
