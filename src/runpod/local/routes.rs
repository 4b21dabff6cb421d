//! The platform's client-side paths (runpod.md 4), as its official clients call them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use super::Local;
use super::record::{Record, Status};
use super::run::{Plan, run};
use super::submission::{self, Submission};
use crate::runpod::job::Job;

/// How long an output can be asked for after its end.
const KEPT: Duration = Duration::from_secs(30 * 60);
const KEPT_SYNC: Duration = Duration::from_secs(60);
/// `/runsync` without `wait`, and the platform's bounds for it, in milliseconds.
const USUAL_WAIT: u64 = 90_000;
const WAITS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
/// How long `/stream` waits for a chunk: the official client asks once a second, and gives up on an answer after ten.
const STREAM_WAIT: Duration = Duration::from_secs(5);

type Shared = State<Arc<Local>>;

pub(super) fn of(local: Arc<Local>) -> Router {
    let here = Router::new()
        .route("/run", post(run_later))
        .route("/runsync", post(run_now))
        .route("/status/{id}", get(status).post(status))
        .route("/status-sync/{id}", get(status_sync))
        .route("/stream/{id}", get(stream).post(stream))
        .route("/cancel/{id}", get(cancel).post(cancel))
        .route("/purge-queue", post(purge));
    let there = Router::new()
        .route("/v2/{endpoint}/run", post(run_later))
        .route("/v2/{endpoint}/runsync", post(run_now))
        .route("/v2/{endpoint}/status/{id}", get(status).post(status))
        .route("/v2/{endpoint}/status-sync/{id}", get(status_sync))
        .route("/v2/{endpoint}/stream/{id}", get(stream).post(stream))
        .route("/v2/{endpoint}/cancel/{id}", get(cancel).post(cancel))
        .route("/v2/{endpoint}/purge-queue", post(purge))
        .route("/v2/{endpoint}/health", get(passed_on))
        .route("/v2/{endpoint}/openai/{*path}", any(passed_on));
    here.merge(there).with_state(local)
}

/// A job's id, whether or not an endpoint's stands before it.
#[derive(Deserialize)]
struct Named {
    id: String,
}

async fn run_later(State(local): Shared, body: Body) -> Response {
    match begin(&local, body, "test", KEPT).await {
        Ok(record) => answer(
            StatusCode::OK,
            json!({"id": record.id, "status": "IN_QUEUE"}),
        ),
        Err(refusal) => refusal,
    }
}

#[derive(Deserialize)]
struct Patience {
    wait: Option<String>,
}

impl Patience {
    /// How long a client waits for a job's end.
    fn time(&self) -> Result<Duration, String> {
        let wait = self.wait.as_deref().map(str::parse::<u64>);
        match wait {
            None => Ok(Duration::from_millis(USUAL_WAIT)),
            Some(Ok(wait)) if WAITS.contains(&wait) => Ok(Duration::from_millis(wait)),
            Some(_) => {
                let (low, high) = (WAITS.start(), WAITS.end());
                Err(format!(
                    "wait must be a number of milliseconds from {low} to {high}"
                ))
            }
        }
    }
}

async fn run_now(State(local): Shared, Query(patience): Query<Patience>, body: Body) -> Response {
    let begun = match patience.time() {
        Ok(wait) => begin(&local, body, "sync", KEPT_SYNC)
            .await
            .map(|record| (record, wait)),
        Err(message) => Err(refusal(StatusCode::BAD_REQUEST, &message)),
    };
    match begun {
        Ok((record, wait)) => shown_within(wait, &record).await,
        Err(refusal) => refusal,
    }
}

/// The JavaScript client asks so for a job that `/runsync` gave back unfinished.
async fn status_sync(
    State(local): Shared,
    Path(Named { id }): Path<Named>,
    Query(patience): Query<Patience>,
) -> Response {
    match (local.store.get(&id), patience.time()) {
        (Some(record), Ok(wait)) => shown_within(wait, &record).await,
        (None, _) => missing(&id),
        (_, Err(message)) => refusal(StatusCode::BAD_REQUEST, &message),
    }
}

/// A job as it is at its end, or when the time is over.
async fn shown_within(wait: Duration, record: &Record) -> Response {
    // Why ignored: a job that is not over is shown as far as it is.
    let _ = tokio::time::timeout(wait, record.is_over()).await;
    answer(StatusCode::OK, record.shown())
}

async fn status(State(local): Shared, Path(Named { id }): Path<Named>) -> Response {
    match local.store.get(&id) {
        Some(record) => answer(StatusCode::OK, record.shown()),
        None => missing(&id),
    }
}

async fn stream(State(local): Shared, Path(Named { id }): Path<Named>) -> Response {
    match local.store.get(&id) {
        Some(record) => answer(StatusCode::OK, record.fetch(STREAM_WAIT).await),
        None => missing(&id),
    }
}

/// A job that has ended stays as it is, and its status tells how.
async fn cancel(State(local): Shared, Path(Named { id }): Path<Named>) -> Response {
    let Some(record) = local.store.get(&id) else {
        return missing(&id);
    };
    record.end(Status::Cancelled, None, None);
    let status = record.status().as_str();
    answer(StatusCode::OK, json!({"id": id, "status": status}))
}

async fn purge(State(local): Shared) -> Response {
    let removed = local.store.purge();
    answer(
        StatusCode::OK,
        json!({"removed": removed, "status": "completed"}),
    )
}

/// Paths below an endpoint's that are the worker's own: what follows the endpoint, without the platform's `/openai`.
async fn passed_on(State(local): Shared, mut request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let below = path
        .strip_prefix("/v2/")
        .and_then(|path| path.split_once('/'));
    let below = below.map_or("", |(_, below)| below);
    let own = format!("/{}", below.strip_prefix("openai/").unwrap_or(below));
    match own.parse::<Uri>() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => return refusal(StatusCode::BAD_REQUEST, "the path is no path"),
    }
    let Ok(response) = local.inner.clone().oneshot(request).await;
    response
}

/// Queues what a body asks for.
async fn begin(
    local: &Arc<Local>,
    body: Body,
    prefix: &str,
    kept: Duration,
) -> Result<Arc<Record>, Response> {
    let limit = local.options.body_limit;
    let too_large = |_| {
        let message = format!("the body is over the limit of {limit} bytes, or broke off");
        refusal(StatusCode::PAYLOAD_TOO_LARGE, &message)
    };
    let bytes = axum::body::to_bytes(body, limit).await.map_err(too_large)?;
    let bad = |message: &str| refusal(StatusCode::BAD_REQUEST, message);
    let read = submission::read(&bytes).map_err(|message| bad(&message))?;
    let Submission {
        input,
        rest,
        webhook,
        execution,
        life,
    } = read;
    if webhook.is_some() && local.options.hook.is_none() {
        return Err(bad(
            "webhook: this worker's local API delivers none; leave it out and ask /status",
        ));
    }
    let record = Arc::new(Record::new(format!("{prefix}-{}", uuid::Uuid::new_v4())));
    if let Err(full) = local.store.insert(record.clone()) {
        let mut busy = refusal(StatusCode::TOO_MANY_REQUESTS, &full.to_string());
        let headers = busy.headers_mut();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        return Err(busy);
    }
    let job = Job {
        id: record.id.clone(),
        input,
        rest,
    };
    let plan = Plan {
        webhook,
        execution,
        expires: Instant::now() + life,
        kept,
    };
    tokio::spawn(run(local.clone(), record.clone(), job, plan));
    Ok(record)
}

fn missing(id: &str) -> Response {
    let message = format!("there is no job {id:?} here: it never was, or its time is over");
    refusal(StatusCode::NOT_FOUND, &message)
}

fn refusal(status: StatusCode, message: &str) -> Response {
    answer(status, json!({"error": message}))
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, axum::Json(body)).into_response()
}
