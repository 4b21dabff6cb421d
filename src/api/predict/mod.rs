//! Vertex AI's way in: one path for `{"instances": […], "parameters": {…}}` (predict) and for every other dialect's body as
//! it is (rawPredict, streamRawPredict). What a body is, is told by its fields.

mod grouped;
mod images;
mod instance;
mod predictions;
mod raw;
mod speech;
mod task;
mod transcripts;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use chandler_core::RequestError;
use serde_json::Value;

use super::error::Dialect;
use super::json;
use super::limits::read_body;
use super::observe::RequestId;
use super::state::Api;
#[cfg(test)]
pub(super) use instance::instance;
pub(super) use instance::plain;

/// `POST /predict`
pub(super) async fn post(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let value = match read(&api, &headers, body).await {
        Ok(value) => value,
        Err(error) => return Dialect::OpenAi.error(error).into_response(),
    };
    match value.as_object() {
        Some(map) if map.contains_key("instances") => {
            let answer = predictions::answer(&api, &id, map).await;
            answer.unwrap_or_else(|error| Dialect::OpenAi.error(error).into_response())
        }
        _ => raw::answer(&api, id, &headers, &value).await,
    }
}

/// The body, which some gateways put into a JSON string.
async fn read(api: &Api, headers: &HeaderMap, body: Body) -> Result<Value, RequestError> {
    let limit = api.json_limit(headers).await?;
    let value = json::parse(&read_body(body, limit).await?)?;
    let value = match value {
        Value::String(inner) => json::parse(inner.as_bytes())?,
        value => value,
    };
    json::object(&value)?;
    Ok(value)
}
