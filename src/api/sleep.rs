//! `/sleep`, `/wake_up` and `/is_sleeping`, as vLLM's sleep mode has them: the model leaves its GPU to others and comes back. Unlike
//! there a request wakes it as well, so that a worker that sleeps is as ready as one that does not.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use chandler_core::RequestError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Dialect;
use super::state::Api;

/// What vLLM takes with `/sleep`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sleep {
    level: Option<String>,
    mode: Option<String>,
}

/// Nothing may be said with `/wake_up`: of vLLM's `tags` only all together make sense here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WakeUp {}

/// `POST /sleep`: answers when the model has left, which is after everything that runs.
pub(super) async fn sleep(
    State(api): State<Api>,
    asked: Result<Query<Sleep>, QueryRejection>,
) -> Response {
    let checked = read(asked).and_then(|asked| asked.check());
    answer(&api, checked, true).await
}

/// `POST /wake_up`: answers when the model is back.
pub(super) async fn wake_up(
    State(api): State<Api>,
    asked: Result<Query<WakeUp>, QueryRejection>,
) -> Response {
    answer(&api, read(asked).map(|WakeUp {}| ()), false).await
}

/// `GET /is_sleeping`
pub(super) async fn is_sleeping(State(api): State<Api>) -> Json<Value> {
    Json(json!({"is_sleeping": api.engine.counters().parked}))
}

async fn answer(api: &Api, checked: Result<(), RequestError>, parked: bool) -> Response {
    let done = match checked {
        Ok(()) => api.engine.park(parked).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Json(json!({"is_sleeping": parked})).into_response(),
        Err(error) => Dialect::OpenAi.error(error).into_response(),
    }
}

fn read<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, RequestError> {
    match asked {
        Ok(Query(asked)) => Ok(asked),
        Err(error) => Err(RequestError::field("query", error.body_text())),
    }
}

impl Sleep {
    fn check(&self) -> Result<(), RequestError> {
        let (level, mode) = (self.level.as_deref(), self.mode.as_deref());
        if let Some(level) = level.filter(|level| *level != "1") {
            let message = format!(
                "level is {level}; only 1 is there: weights wait in the host's memory, and the cache is given up"
            );
            return Err(RequestError::unsupported("level", message));
        }
        if let Some(mode) = mode.filter(|mode| *mode != "wait") {
            let message =
                format!("mode is {mode:?}; only \"wait\" is there: what runs is finished first");
            return Err(RequestError::unsupported("mode", message));
        }
        Ok(())
    }
}
