//! The client's side: run, status, stream, cancel and the rest, as section 4 of the contract has them.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, HeaderValue};
use axum::http::request::Parts;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::job::{Job, Status};
use crate::openai;
use crate::platform::{State, health};
use crate::route::parameter;

/// Production's limits of a request, in bytes.
const RUN_LIMIT: usize = 10 << 20;
const RUNSYNC_LIMIT: usize = 20 << 20;
/// How long `/runsync` waits, in milliseconds: by default, and within what may be asked for.
const WAIT: u64 = 90_000;
const WAITS: std::ops::RangeInclusive<u64> = 1_000..=300_000;

pub async fn answer(
    state: &Arc<State>,
    parts: &Parts,
    (operation, rest): (&str, &str),
    body: Bytes,
) -> Answer {
    if !authorized(state, parts) {
        return Answer::error(401, "Unauthorized");
    }
    let query = parts.uri.query().unwrap_or_default();
    match operation {
        "run" => run(state, &body),
        "runsync" => runsync(state, query, &body).await,
        "status" => status(state, rest),
        "status-sync" => waited(state, rest, query).await,
        "stream" => stream(state, rest).await,
        "cancel" => cancel(state, rest),
        "retry" => retry(state, rest),
        "purge-queue" => purge(state),
        "health" => Answer::json(&health(state)),
        _ => openai::answer(state, &parts.method, rest, &body).await,
    }
}

/// The key as it is, or behind `Bearer `: both are documented.
fn authorized(state: &State, parts: &Parts) -> bool {
    let sent = parts.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let sent = sent.map(|sent| sent.strip_prefix(b"Bearer ").unwrap_or(sent));
    sent == Some(state.options.client_key.as_bytes())
}

fn request(body: &Bytes, limit: usize) -> Result<Map<String, Value>, Answer> {
    if body.len() > limit {
        return Err(Answer::error(413, "the request is too large"));
    }
    let map: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Answer::error(400, &format!("the body is no JSON object: {error}")))?;
    if map.contains_key("input") {
        Ok(map)
    } else {
        Err(Answer::error(400, "input is missing"))
    }
}

fn unknown() -> Answer {
    Answer::error(404, "job not found")
}

fn run(state: &Arc<State>, body: &Bytes) -> Answer {
    match request(body, RUN_LIMIT) {
        Ok(given) => {
            let id = state.submit(given, false);
            Answer::json(&json!({"id": *id, "status": "IN_QUEUE"}))
        }
        Err(answer) => answer,
    }
}

async fn runsync(state: &Arc<State>, query: &str, body: &Bytes) -> Answer {
    match request(body, RUNSYNC_LIMIT) {
        Ok(given) => {
            let id = state.submit(given, true);
            waited(state, &id, query).await
        }
        Err(answer) => answer,
    }
}

/// A job's state once it has ended, or what it is when the time is over.
async fn waited(state: &Arc<State>, id: &str, query: &str) -> Answer {
    let wait = parameter(query, "wait").and_then(|wait| wait.parse().ok());
    let wait = wait.unwrap_or(WAIT).clamp(*WAITS.start(), *WAITS.end());
    let ended = |job: &mut Job| job.status.is_final().then(|| job.view());
    match state.follow(id, Duration::from_millis(wait), ended).await {
        Some(view) => Answer::json(&view),
        None => status(state, id),
    }
}

fn status(state: &State, id: &str) -> Answer {
    match state.book().jobs.get(id) {
        Some(job) => Answer::json(&job.view()),
        None => unknown(),
    }
}

/// What was streamed since the last call; a call that finds nothing waits a little.
async fn stream(state: &State, id: &str) -> Answer {
    let news = |job: &mut Job| {
        let fresh = job.chunks.get(job.read..).unwrap_or_default();
        if fresh.is_empty() && !job.status.is_final() {
            return None;
        }
        let fresh: Vec<Value> = fresh.iter().map(|chunk| json!({"output": chunk})).collect();
        job.read = job.chunks.len();
        Some(json!({"id": *job.id, "status": job.status.as_str(), "stream": fresh}))
    };
    if let Some(news) = state.follow(id, Duration::from_secs(1), news).await {
        return Answer::json(&news);
    }
    match state.book().jobs.get(id) {
        Some(job) => Answer::json(&json!({"id": id, "status": job.status.as_str(), "stream": []})),
        None => unknown(),
    }
}

fn cancel(state: &State, id: &str) -> Answer {
    state.stop(id, Status::Cancelled);
    match state.book().jobs.get(id) {
        Some(job) => Answer::json(&json!({"id": id, "status": job.status.as_str()})),
        None => unknown(),
    }
}

fn retry(state: &State, id: &str) -> Answer {
    if !state.book().jobs.contains_key(id) {
        return unknown();
    }
    if !state.book().retry(id) {
        return Answer::error(
            400,
            "only a job that FAILED or TIMED_OUT can be tried again",
        );
    }
    state.queued.notify_one();
    Answer::json(&json!({"id": id, "status": "IN_QUEUE"}))
}

fn purge(state: &State) -> Answer {
    let removed = state.book().purge();
    for _ in 0..removed {
        state.one_ended();
    }
    Answer::json(&json!({"removed": removed, "status": "completed"}))
}
