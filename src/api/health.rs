//! Is the worker there, and would it serve? `/isalive` answers the second, `/livez` the first, `/ping` the second as RunPod's
//! load balancer asks it, `/health` tells all, in one object that the RunPod console and the seeds' front ends can read as well.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::state::Api;
use crate::engine::{ColdStart, Status};

/// 200 as long as the process answers.
pub(super) async fn livez() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// 200 exactly when a prediction would be served now.
pub(super) async fn isalive(State(api): State<Api>) -> Response {
    let status = api.engine.status();
    (code(&status), Json(described(&status))).into_response()
}

/// 204 while the model loads (RunPod waits and counts the time as a cold start), 200 when a request would be served, and 503
/// when none would any more.
pub(super) async fn ping(State(api): State<Api>) -> Response {
    let status = api.engine.status();
    match status {
        Status::Loading(_) => StatusCode::NO_CONTENT.into_response(),
        _ => (code(&status), Json(described(&status))).into_response(),
    }
}

/// Everything that is known about the worker.
pub(super) async fn health(State(api): State<Api>) -> Response {
    let status = api.engine.status();
    let (counters, info) = (api.engine.counters(), api.engine.info());
    let ready = status == Status::Ready;
    let cache = info.as_ref().and_then(|i| i.cache).unwrap_or_default();
    let flag = u8::from;
    let mut body = described(&status);
    let more = json!({
        "model": api.settings.model_id,
        "model_loaded": ready,
        "version": api.settings.version,
        "uptime": api.uptime().as_secs_f64(),
        "device": info.as_ref().map(|i| i.device.as_str()),
        "dtype": info.as_ref().map(|i| i.dtype.as_str()),
        "task": info.as_ref().map(|i| i.task.tag()),
        "refiner": info.as_ref().map(|i| i.refiner),
        "architecture": info.as_ref().map(|i| i.architecture.as_str()),
        "context_length": info.as_ref().map(|i| i.context_length),
        "cold_start": cold_start(&api.engine.cold_start()),
        "jobs": {
            "completed": counters.completed,
            "failed": counters.failed,
            "inProgress": counters.running,
            "inQueue": counters.queued + api.settings.waiting_jobs.load(Ordering::Relaxed),
            "retried": counters.retried,
        },
        "workers": {
            "idle": flag(ready && counters.running == 0),
            "initializing": flag(matches!(status, Status::Loading(_))),
            "ready": flag(ready),
            "running": flag(counters.running > 0),
            "throttled": 0,
            "unhealthy": flag(matches!(status, Status::Failed(_))),
        },
        "engine": {
            "rows": counters.rows,
            "cache_bytes": cache.bytes,
            "cache_tokens": cache.tokens,
            "cache_blocks_used": counters.blocks_used,
            "cache_blocks_kept": counters.blocks_kept,
            "cache_blocks_total": counters.blocks_total,
            "cancelled": counters.cancelled,
            "rejected": counters.rejected,
            "steps": counters.steps,
            "prompt_tokens": counters.prompt_tokens,
            "cached_tokens": counters.cached_tokens,
            "preemptions": counters.tally.preemptions,
            "proposed_tokens": counters.tally.proposed_tokens,
            "accepted_tokens": counters.tally.accepted_tokens,
            "completion_tokens": counters.completion_tokens,
            "audio_seconds": counters.audio_ms as f64 / 1000.0,
            "images": counters.images,
            "device_bytes": counters.device_bytes,
            "host_bytes": counters.host_bytes,
            "parked": flag(counters.parked),
        },
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    (code(&status), Json(body)).into_response()
}

/// What the start took, or has taken so far.
fn cold_start(record: &ColdStart) -> Value {
    let stages = record
        .stages
        .iter()
        .map(|(stage, took)| json!({"stage": stage.name(), "ms": took.as_millis() as u64}));
    json!({
        "total_ms": record.total.as_millis() as u64,
        "stages": stages.collect::<Vec<_>>(),
        "fetched_bytes": record.fetched_bytes,
        "weights_bytes": record.weights_bytes,
    })
}

fn code(status: &Status) -> StatusCode {
    match status {
        Status::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The state in a word, and what belongs to it.
fn described(status: &Status) -> Value {
    match status {
        Status::Ready => json!({"status": "healthy"}),
        Status::Loading(loading) => json!({
            "status": "loading",
            "stage": loading.stage.to_string(),
            "loaded_bytes": loading.done_bytes,
            "total_bytes": loading.total_bytes,
            "download": {
                "files": loading.download.files,
                "total_bytes": loading.download.total_bytes,
                "received_bytes": loading.download.received_bytes,
                "verified_bytes": loading.download.verified_bytes,
            },
        }),
        Status::Draining => json!({"status": "draining"}),
        Status::Stopped => json!({"status": "stopped"}),
        Status::Failed(error) => json!({"status": "unhealthy", "error": error}),
    }
}
