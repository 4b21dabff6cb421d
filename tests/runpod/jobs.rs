//! Jobs that are done in the process, as the job loop does them, and what becomes of each.

use chandler::runpod::{Handler, Job, Outcome, Piece, Work};
use futures_util::StreamExt;
use serde_json::{Map, Value};

/// Does jobs on the routes of a worker, which ends with it.
pub struct Jobs<W> {
    pub worker: W,
    pub handler: Handler,
}

pub fn job(input: Value) -> Job {
    Job {
        id: "job-1".into(),
        input,
        rest: Map::new(),
    }
}

impl<W> Jobs<W> {
    /// The chunks and the end.
    pub async fn run(&self, input: Value) -> (Vec<Value>, Outcome) {
        let mut pieces: Vec<Piece> = self.handler.start(job(input)).collect().await;
        let Some(Piece::Done(outcome)) = pieces.pop() else {
            panic!("no outcome");
        };
        let chunks = pieces.into_iter().map(|piece| match piece {
            Piece::Chunk(chunk) => chunk,
            other => panic!("{other:?}"),
        });
        (chunks.collect(), outcome)
    }

    /// The output of a job that streams nothing.
    pub async fn output(&self, input: Value) -> Value {
        let (chunks, outcome) = self.run(input).await;
        assert!(chunks.is_empty() && !outcome.is_stream, "{outcome:?}");
        assert_eq!(outcome.body.as_object().unwrap().len(), 1);
        outcome
            .body
            .get("output")
            .unwrap_or_else(|| panic!("{outcome:?}"))
            .clone()
    }

    pub async fn error(&self, input: Value) -> String {
        let (chunks, outcome) = self.run(input.clone()).await;
        assert!(chunks.is_empty(), "{chunks:?}");
        let error = outcome
            .error()
            .unwrap_or_else(|| panic!("{input}: {outcome:?}"));
        assert_eq!(outcome.body.as_object().unwrap().len(), 1);
        error.as_str().unwrap().to_owned()
    }
}
