//! `/openapi.json` and `/docs`. The document is a file, written by hand beside the handlers; a test holds it against the
//! router, so that a route cannot be added without it.

use axum::Json;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use chandler_core::RequestError;
use serde_json::Value;

use super::error::Dialect;
use super::state::Api;

const DOCUMENT: &str = include_str!("openapi.json");
const PAGE: &str = include_str!("docs.html");

/// `GET /openapi.json`
pub(super) async fn document(State(api): State<Api>) -> Response {
    match serde_json::from_str::<Value>(DOCUMENT) {
        Ok(mut document) => {
            document["info"]["version"] = api.settings.version.clone().into();
            Json(document).into_response()
        }
        Err(error) => {
            let error = RequestError::internal(format!("openapi.json is not JSON: {error}"));
            Dialect::OpenAi.error(error).into_response()
        }
    }
}

/// `GET /docs`
pub(super) async fn page() -> Html<&'static str> {
    Html(PAGE)
}
