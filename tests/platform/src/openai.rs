//! The OpenAI paths of a queue endpoint: a request becomes a job, and its output an answer, as section 5 of the contract
//! says. How production unwraps is not public; this follows what the official workers put in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Content, Handed};
use crate::job::{Job, Status};
use crate::platform::State;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(300);

pub async fn answer(state: &Arc<State>, method: &Method, rest: &str, body: &Bytes) -> Answer {
    let mut input = Map::from_iter([("openai_route".to_owned(), json!(format!("/{rest}")))]);
    if *method == Method::POST {
        match serde_json::from_slice::<Value>(body) {
            Ok(body) => input.insert("openai_input".to_owned(), body),
            Err(error) => return Answer::error(400, &format!("the body is no JSON: {error}")),
        };
    }
    let streams = input
        .get("openai_input")
        .is_some_and(|body| body["stream"] == json!(true));
    let given = Map::from_iter([("input".to_owned(), Value::Object(input))]);
    let id = state.submit(given, true);
    // Whoever goes away takes the job along.
    let guard = Guard {
        state: Arc::clone(state),
        id,
    };
    if streams {
        live(guard).await
    } else {
        whole(guard).await
    }
}

struct Guard {
    state: Arc<State>,
    id: Arc<str>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.state.stop(&self.id, Status::Cancelled);
    }
}

/// What the job has come to, unwrapped.
async fn whole(guard: Guard) -> Answer {
    let ended = |job: &mut Job| job.status.is_final().then(|| unwrapped(job));
    let found = guard.state.follow(&guard.id, LIMIT, ended).await;
    found.unwrap_or_else(|| Answer::error(504, "the job took too long"))
}

fn unwrapped(job: &Job) -> Answer {
    if let Some(error) = job.answer.get("error") {
        return Answer::new(500, json!({"error": error}).to_string());
    }
    let output = job.answer.get("output").cloned().unwrap_or_default();
    let first = match output {
        Value::Array(list) if !list.is_empty() => list.into_iter().next(),
        // A generator that does not aggregate says everything in its chunks.
        Value::Array(_) | Value::Null => job.chunks.first().cloned(),
        other => Some(other),
    };
    match (job.status, first) {
        (Status::Completed, Some(value)) => Answer::json(&value),
        (status, _) => Answer::error(
            500,
            &format!("the job ended as {} without output", status.as_str()),
        ),
    }
}

enum Piece {
    Chunk(Value),
    End(Option<Value>),
}

fn next_piece(job: &mut Job) -> Option<Piece> {
    if let Some(chunk) = job.chunks.get(job.read) {
        job.read += 1;
        return Some(Piece::Chunk(chunk.clone()));
    }
    let error = || job.answer.get("error").cloned();
    job.status.is_final().then(|| Piece::End(error()))
}

/// Chunks as they come, each the raw text of events. An error before the first is an answer of its own.
async fn live(guard: Guard) -> Answer {
    let first = match guard.state.follow(&guard.id, LIMIT, next_piece).await {
        Some(Piece::Chunk(chunk)) => chunk,
        Some(Piece::End(Some(error))) => {
            return Answer::new(500, json!({"error": error}).to_string());
        }
        Some(Piece::End(None)) => return Answer::error(500, "the job ended without a chunk"),
        None => return Answer::error(504, "the job took too long"),
    };
    let rest = stream::unfold(Some(guard), |guard| async {
        let guard = guard?;
        match guard.state.follow(&guard.id, LIMIT, next_piece).await? {
            Piece::Chunk(chunk) => Some((text(&chunk), Some(guard))),
            Piece::End(Some(error)) => {
                let event = format!("data: {}\n\n", json!({"error": error}));
                Some((event, None))
            }
            Piece::End(None) => None,
        }
    });
    let first = stream::iter([text(&first)]);
    let all = futures_util::StreamExt::chain(first, rest);
    let all = futures_util::StreamExt::map(all, Ok::<String, std::convert::Infallible>);
    Answer {
        status: 200,
        content_type: "text/event-stream",
        body: Content::Live(Body::from_stream(all)),
        handed: Handed::Nothing,
    }
}

fn text(chunk: &Value) -> String {
    match chunk {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
