//! `/v1/models`: the one model that this worker serves, and its adapters.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::error::Dialect;
use crate::api::state::Api;

/// `GET /v1/models`
pub(in crate::api) async fn list(State(api): State<Api>) -> Json<Value> {
    let adapters = api.adapters().unwrap_or_default();
    let adapters = adapters.iter().map(|name| adapter(&api, name));
    let all: Vec<Value> = [model(&api)].into_iter().chain(adapters).collect();
    Json(json!({"object": "list", "data": all}))
}

/// `GET /v1/models/{id}`; an id may hold slashes, escaped or not.
pub(in crate::api) async fn retrieve(State(api): State<Api>, Path(id): Path<String>) -> Response {
    match api.serves_now(&id) {
        Ok(served) => match served.adapter {
            Some(name) => Json(adapter(&api, &name)).into_response(),
            None => Json(model(&api)).into_response(),
        },
        Err(error) => Dialect::OpenAi.error(error).into_response(),
    }
}

fn model(api: &Api) -> Value {
    let info = api.engine.info();
    let mut model = json!({
        "id": api.settings.model_id,
        "object": "model",
        "created": api.created,
        "owned_by": "chandler",
        "aliases": api.settings.aliases,
        "task": info.as_ref().map(|info| info.task.tag()),
        "max_model_len": info.as_ref().map(|info| info.context_length).filter(|tokens| *tokens > 0),
    });
    if let Some(info) = info.filter(|info| !info.languages.is_empty()) {
        model["languages"] = info.languages.into();
    }
    model
}

/// An adapter, in the same shape; `parent` is vLLM's name for the model that it belongs to.
fn adapter(api: &Api, name: &str) -> Value {
    let mut adapter = model(api);
    adapter["id"] = name.into();
    adapter["aliases"] = json!([format!("{}:{name}", api.settings.model_id)]);
    adapter["parent"] = api.settings.model_id.clone().into();
    adapter
}
