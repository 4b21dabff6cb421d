//! `/v1/models`: the one model that this worker serves.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::error::Dialect;
use crate::api::state::Api;

/// `GET /v1/models`
pub(in crate::api) async fn list(State(api): State<Api>) -> Json<Value> {
    Json(json!({"object": "list", "data": [model(&api)]}))
}

/// `GET /v1/models/{id}`; an id may hold slashes, escaped or not.
pub(in crate::api) async fn retrieve(State(api): State<Api>, Path(id): Path<String>) -> Response {
    match api.serves(Some(&id)) {
        Ok(()) => Json(model(&api)).into_response(),
        Err(error) => Dialect::OpenAi.error(error).into_response(),
    }
}

fn model(api: &Api) -> Value {
    let info = api.engine.info();
    json!({
        "id": api.settings.model_id,
        "object": "model",
        "created": api.created,
        "owned_by": "chandler",
        "aliases": api.settings.aliases,
        "task": info.as_ref().map(|info| info.task.tag()),
        "max_model_len": info.as_ref().map(|info| info.context_length),
    })
}
