//! OpenAI's Responses: `POST /v1/responses` and its relatives. This worker keeps nothing between requests, so what refers
//! to an earlier answer is refused by name, and answers say `store: false`.

mod input;
mod object;
pub(super) mod request;
mod stream;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use chandler_core::{ErrorKind, Input, RequestError};
use serde_json::{Value, json};

use super::dialogue::format::Form;
use super::dialogue::renamed;
use super::error::Dialect;
use super::json::{self, Fields};
use super::observe::RequestId;
use super::openai::{body_of, or_error, served, terms};
use super::sse;
use super::state::Api;
use object::Face;
use request::ResponsesRequest;

/// `POST /v1/responses`
pub(super) async fn post(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    body: Body,
) -> Response {
    let answer = async {
        let value = body_of(&api, body).await?;
        answer(&api, id, &value).await
    };
    or_error(answer.await)
}

/// `POST /v1/responses/input_tokens`
pub(super) async fn count(State(api): State<Api>, body: Body) -> Response {
    let answer = async {
        let value = body_of(&api, body).await?;
        let request = read(&api, &value).await?.0;
        let form = request.form;
        let counted = api.engine.count_tokens(Input::Text(request.input)).await;
        let input_tokens = counted.map_err(|error| in_our_names(error, form.as_ref()))?;
        let reply = json!({"object": "response.input_tokens", "input_tokens": input_tokens});
        Ok(Json(reply).into_response())
    };
    or_error(answer.await)
}

/// `GET /v1/responses/{id}` and `DELETE /v1/responses/{id}`: nothing was kept.
pub(super) async fn missing(Path(id): Path<String>) -> Response {
    let message =
        format!("there is no response {id:?}; this worker answers and keeps nothing afterwards");
    let error = RequestError {
        field: Some("response_id".into()),
        ..RequestError::new(ErrorKind::NotFound, message)
    };
    Dialect::OpenAi.error(error).into_response()
}

/// The request, and the model's name for its answer.
async fn read(api: &Api, body: &Value) -> Result<(ResponsesRequest, String), RequestError> {
    let fields = Fields::new(json::object(body)?);
    let served = served(api, &fields).await?;
    let mut request = request::parse(&fields)?;
    request.input.adapter = served.adapter;
    Ok((request, served.id))
}

/// Serves a body, wherever it came in.
pub(super) async fn answer(
    api: &Api,
    id: RequestId,
    body: &Value,
) -> Result<Response, RequestError> {
    let (request, model) = read(api, body).await?;
    let top = request.input.logprobs.map(|top| top as usize);
    let face = Face::new(&id, model, request.echoed);
    let submitted = api.engine.submit(Input::Text(request.input)).await;
    let subscription = submitted.map_err(|error| in_our_names(error, request.form.as_ref()))?;
    if request.stream {
        let writer = stream::Talk::new(face, top);
        let streamed = sse::respond(vec![subscription], writer, terms(api, id)).await;
        return streamed.map_err(|(_, error)| error);
    }
    let mut collected = subscription.collect().await?;
    let row = collected.rows.pop().unwrap_or_default();
    Ok(Json(face.whole(row, collected.usage, top)).into_response())
}

fn in_our_names(error: RequestError, form: Option<&Form>) -> RequestError {
    let mut names = Form::names(form);
    names.extend([
        ("prompt", "input"),
        ("messages", "input"),
        ("max_tokens", "max_output_tokens"),
        ("function.parameters", "parameters"),
    ]);
    renamed(error, &names)
}
