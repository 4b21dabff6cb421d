//! Anthropic's Messages: `POST /v1/messages` and the count of a request's tokens, with errors in that dialect's shape.
//! Keys come as `x-api-key`, which every route takes; `anthropic-version` is accepted as it is.

mod answer;
pub(super) mod request;
mod stream;
mod turns;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use chandler_core::{Input, RequestError};
use serde_json::{Value, json};

use super::dialogue::format::Form;
use super::dialogue::renamed;
use super::error::Dialect;
use super::json::{self, Fields};
use super::observe::RequestId;
use super::openai::{body_of, served, terms};
use super::sse;
use super::state::Api;
use answer::Face;

/// `POST /v1/messages`
pub(super) async fn post(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    body: Body,
) -> Response {
    match body_of(&api, body).await {
        Ok(value) => answered(&api, id, &value).await,
        Err(error) => or_error(Err(error)),
    }
}

/// Serves a body, wherever it came in; errors are in the dialect's shape.
pub(super) async fn answered(api: &Api, id: RequestId, body: &Value) -> Response {
    or_error(answer(api, id, body).await)
}

/// `POST /v1/messages/count_tokens`
pub(super) async fn count(State(api): State<Api>, body: Body) -> Response {
    let answer = async {
        let value = body_of(&api, body).await?;
        let fields = Fields::new(json::object(&value)?).with_spellings();
        served(&api, &fields).await?;
        let request = request::conversation(&fields)?;
        let counted = api.engine.count_tokens(Input::Text(request.input)).await;
        let input_tokens = counted.map_err(|error| in_our_names(error, request.form.as_ref()))?;
        Ok(Json(json!({"input_tokens": input_tokens})).into_response())
    };
    or_error(answer.await)
}

async fn answer(api: &Api, id: RequestId, body: &Value) -> Result<Response, RequestError> {
    let fields = Fields::new(json::object(body)?).with_spellings();
    let served = served(api, &fields).await?;
    let mut request = request::parse(&fields)?;
    request.input.adapter = served.adapter;
    let face = Face::new(&id, served.id);
    let submitted = api.engine.submit(Input::Text(request.input)).await;
    let subscription = submitted.map_err(|error| in_our_names(error, request.form.as_ref()))?;
    if request.stream {
        let writer = stream::Talk::new(face);
        let streamed = sse::respond(vec![subscription], writer, terms(api, id)).await;
        return streamed.map_err(|(_, error)| error);
    }
    let mut collected = subscription.collect().await?;
    let row = collected.rows.pop().unwrap_or_default();
    Ok(Json(face.whole(&row, collected.usage)).into_response())
}

fn or_error(answer: Result<Response, RequestError>) -> Response {
    answer.unwrap_or_else(|error| Dialect::Anthropic.error(error).into_response())
}

fn in_our_names(error: RequestError, form: Option<&Form>) -> RequestError {
    let mut names = Form::names(form);
    names.extend([
        ("prompt", "messages"),
        ("stop", "stop_sequences"),
        ("function.parameters", "input_schema"),
    ]);
    renamed(error, &names)
}
