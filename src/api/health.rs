//! Is the worker there, and would it serve? `/isalive` answers the second, `/livez` the first, `/health` tells all,
//! in one object that the RunPod console and the seeds' front ends can read as well.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::state::Api;
use crate::engine::Status;

/// 200 as long as the process answers.
pub(super) async fn livez() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// 200 exactly when a prediction would be served now.
pub(super) async fn isalive(State(api): State<Api>) -> Response {
    let status = api.engine.status();
    (code(&status), Json(described(&status))).into_response()
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
        "architecture": info.as_ref().map(|i| i.architecture.as_str()),
        "context_length": info.as_ref().map(|i| i.context_length),
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
            "device_bytes": counters.device_bytes,
            "host_bytes": counters.host_bytes,
        },
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    (code(&status), Json(body)).into_response()
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
        }),
        Status::Draining => json!({"status": "draining"}),
        Status::Stopped => json!({"status": "stopped"}),
        Status::Failed(error) => json!({"status": "unhealthy", "error": error}),
    }
}
