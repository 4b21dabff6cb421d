//! Work that does what a job's input says, so that a test can be about any job.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chandler::runpod::{Job, Outcome, Piece, Work};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::{Value, json};

/// `{"sleep_ms", "progress", "chunks", "every_ms", "size", "panic", "silent", "refresh", "output"}`; all may be left out.
#[derive(Default, Clone)]
pub struct Told {
    pub seen: Arc<Seen>,
}

/// What became of jobs on the worker's side.
#[derive(Default)]
pub struct Seen {
    pub begun: AtomicUsize,
    pub running: AtomicUsize,
    pub most: AtomicUsize,
    /// Streams that were dropped before their end.
    pub dropped: AtomicUsize,
}

struct Running {
    seen: Arc<Seen>,
    done: bool,
}

impl Running {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.begun.fetch_add(1, Ordering::SeqCst);
        let now = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        Self {
            seen: seen.clone(),
            done: false,
        }
    }

    fn saw(&mut self, piece: &Piece) {
        self.done = matches!(piece, Piece::Done(_));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.seen.running.fetch_sub(1, Ordering::SeqCst);
        if !self.done {
            self.seen.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Work for Told {
    fn start(&self, job: Job) -> BoxStream<'static, Piece> {
        let mut running = Running::new(&self.seen);
        let input = job.input;
        let number = |name: &str| input[name].as_u64().unwrap_or(0);
        let mut pieces: Vec<Piece> = (0..number("progress"))
            .map(|n| Piece::Progress(json!({"at": n})))
            .collect();
        let chunks = number("chunks");
        pieces.extend((0..chunks).map(|n| Piece::Chunk(json!(format!("data: {n}\n\n")))));
        if input["silent"] != true {
            pieces.push(Piece::Done(outcome(&input, chunks > 0)));
        }
        let (sleep, every) = (number("sleep_ms"), number("every_ms"));
        let panics = input["panic"] == true;
        let begun = stream::once(async move {
            tokio::time::sleep(Duration::from_millis(sleep)).await;
            assert!(!panics, "on purpose");
        });
        let pieces = stream::iter(pieces).then(move |piece| async move {
            if every > 0 {
                tokio::time::sleep(Duration::from_millis(every)).await;
            }
            piece
        });
        begun
            .flat_map(move |()| futures_util::stream::empty())
            .chain(pieces)
            .map(move |piece| {
                running.saw(&piece);
                piece
            })
            .boxed()
    }
}

fn outcome(input: &Value, is_stream: bool) -> Outcome {
    let size = input["size"].as_u64().unwrap_or(0) as usize;
    let mut output = input
        .get("output")
        .cloned()
        .unwrap_or(json!({"text": "x".repeat(size)}));
    if input["refresh"] == true {
        output["refresh_worker"] = json!(true);
    }
    Outcome {
        body: json!({"output": output}),
        is_stream,
        stop_pod: false,
    }
}
