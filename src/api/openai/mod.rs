//! OpenAI's routes. The request of each is read here into the engine's input; what they share is in `sampling` and `types`.

pub(super) mod chat;
pub(super) mod completions;
mod conversation;
pub(super) mod logprobs;
pub(super) mod models;
pub(super) mod sampling;
mod types;
mod usage;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use chandler_core::RequestError;
use serde_json::Value;

use super::error::Dialect;
use super::json::{self, Fields};
use super::limits::read_body;
use super::observe::RequestId;
use super::sse::Terms;
use super::state::{Api, Served, unix_seconds};
use types::Envelope;
pub(super) use types::UsageBody;
use usage::{RunningUsage, UsageWish};

/// `POST /v1/chat/completions`
pub(super) async fn post_chat(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    body: Body,
) -> Response {
    let answer = async {
        let value = body_of(&api, body).await?;
        chat::answer(&api, id, &value).await
    };
    or_error(answer.await)
}

/// `POST /v1/completions`
pub(super) async fn post_completions(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    body: Body,
) -> Response {
    let answer = async {
        let value = body_of(&api, body).await?;
        completions::answer(&api, id, &value).await
    };
    or_error(answer.await)
}

pub(super) async fn body_of(api: &Api, body: Body) -> Result<Value, RequestError> {
    json::parse(&read_body(body, api.settings.body_limit).await?)
}

pub(super) fn or_error(answer: Result<Response, RequestError>) -> Response {
    answer.unwrap_or_else(|error| Dialect::OpenAi.error(error).into_response())
}

/// The model or adapter that a request names.
pub(super) async fn served(api: &Api, fields: &Fields<'_>) -> Result<Served, RequestError> {
    api.serves(fields.string("model")?).await
}

/// Whether to stream, and whether usage is to come with it.
fn streaming(fields: &Fields<'_>) -> Result<(bool, UsageWish), RequestError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else {
        return Ok((stream, UsageWish::Never));
    };
    let name = fields.name("stream_options");
    if !stream {
        let message =
            format!("{name} is given without stream; it has a meaning only when stream is true");
        return Err(RequestError::field(name, message));
    }
    let options = Fields::within(name, options);
    let at_the_end = options.boolean("include_usage")?.unwrap_or(false);
    // vLLM's; like there, it has a meaning only with the other.
    let all_along = options.boolean("continuous_usage_stats")?.unwrap_or(false);
    let wish = match (at_the_end, all_along) {
        (false, _) => UsageWish::Never,
        (true, false) => UsageWish::AtTheEnd,
        (true, true) => UsageWish::AllAlong,
    };
    Ok((stream, wish))
}

/// `kind` is the id's prefix and the object's name.
fn envelope(api: &Api, id: &RequestId, model: String, kind: (&str, &'static str)) -> Envelope {
    Envelope {
        id: format!("{}-{}", kind.0, id.0),
        object: kind.1,
        created: unix_seconds(),
        model,
        system_fingerprint: format!("chandler-{}", api.settings.version),
    }
}

pub(super) fn terms(api: &Api, id: RequestId) -> Terms {
    Terms {
        id,
        deadline: api.deadline(),
        allowed: api.settings.request_timeout,
    }
}
