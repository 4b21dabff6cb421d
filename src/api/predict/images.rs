//! Instances for an image model: all are read and their pictures are fetched before any is drawn; and the same of one body without
//! instances. Apart from `instance`, which reads requests for text.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{Input, RequestError, Task};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::predictions::of_instance;
use super::task;
use crate::api::images::fields::{self, SPELLINGS, Wish};
use crate::api::images::sources::{self, Sources};
use crate::api::images::{self, GENERATION, answer};
use crate::api::json::{Fields, wrong};
use crate::api::observe::RequestId;
use crate::api::openai::sampling::refuse;
use crate::api::state::Api;

const DOES: Task = Task::TextToImage;
const INSTANCE: &str = "a prompt, or an object with a prompt";

/// The predictions of instances.
pub(super) async fn predictions(
    api: &Api,
    id: &RequestId,
    (list, parameters): (&[Value], Option<&Map<String, Value>>),
    is_grouped: bool,
) -> Result<Response, RequestError> {
    if is_grouped {
        let message = "grouped answers have texts only; leave out grouped";
        return Err(RequestError::unsupported("grouped", message));
    }
    let (mut wishes, mut sources) = (Vec::new(), Vec::new());
    for (number, value) in list.iter().enumerate() {
        let (wish, source) = instance(api, number, value, parameters)?;
        wishes.push(wish);
        sources.push(source);
    }
    let mut inputs = Vec::new();
    for (number, (wish, brought)) in wishes
        .iter()
        .zip(sources::bring(api, sources).await?)
        .enumerate()
    {
        let input = images::input(api, wish, brought).await;
        let input = input.map_err(|error| of_instance(number, false, error))?;
        inputs.push(Input::Image(Box::new(input)));
    }
    let told = |number: usize, error| {
        let error = match wishes.get(number) {
            Some(wish) => images::in_its_words(error, wish),
            None => error,
        };
        of_place(number, error)
    };
    let submitted = api.engine.submit_all(inputs).await;
    let subscriptions = submitted.map_err(|(number, error)| told(number, error))?;
    // Why together: an answer that nobody reads is stalled by the engine.
    let answers = subscriptions
        .into_iter()
        .enumerate()
        .map(|(number, one)| async move { one.collect().await.map_err(|error| (number, error)) });
    let answers = try_join_all(answers)
        .await
        .map_err(|(number, error)| told(number, error))?;
    let mut predictions = Vec::with_capacity(answers.len());
    for (answer, wish) in answers.into_iter().zip(wishes) {
        let asked = Arc::new(images::asked(api, id, wish));
        predictions.push(answer::prediction(&asked, answer).await?);
    }
    Ok(Json(json!({"predictions": predictions})).into_response())
}

/// An error with the instance's place in front, unless the request's own name for the field has it already.
fn of_place(number: usize, error: RequestError) -> RequestError {
    let place = error.field.as_deref().unwrap_or_default();
    match place.starts_with("instances[") || place.starts_with("parameters") {
        true => error,
        false => of_instance(number, false, error),
    }
}

fn instance(
    api: &Api,
    number: usize,
    value: &Value,
    parameters: Option<&Map<String, Value>>,
) -> Result<(Wish, Sources), RequestError> {
    let name = format!("instances[{number}]");
    let bare;
    let own = match value {
        Value::String(prompt) => {
            bare = Map::from_iter([("prompt".to_owned(), prompt.clone().into())]);
            &bare
        }
        Value::Object(map) => map,
        other => return Err(wrong(&name, other, INSTANCE)),
    };
    let nested = own.get("parameters").and_then(Value::as_object);
    let fields = Fields::within(name.clone(), own)
        .or(&format!("{name}.parameters"), nested)
        .or("parameters", parameters)
        .spelled(SPELLINGS);
    task::check(&fields, DOES)?;
    let whole_only =
        "predictions come whole; to stream, send the instance's object alone to this path";
    refuse(&fields, "stream", |v| v == false, whole_only)?;
    let wish = fields::read(&fields)?;
    Ok((wish, sources::read(&sources::kind(api), &fields)?))
}

/// A body without instances: its prediction, or OpenAI's events of it where it asks for a stream.
pub(super) async fn raw(
    api: &Api,
    id: RequestId,
    body: &Map<String, Value>,
) -> Result<Response, RequestError> {
    let fields = Fields::new(body).spelled(SPELLINGS);
    let does = api.engine.loaded().await?.task;
    task::check(&fields, does)?;
    if !images::is_image(does) {
        let message = format!(
            "the body is for {}; the model loaded here does {:?}",
            DOES.tag(),
            does.tag()
        );
        return Err(RequestError::unsupported("instances", message));
    }
    let wish = fields::read(&fields)?;
    let sources = sources::read(&sources::kind(api), &fields)?;
    let mut brought = sources::bring(api, vec![sources]).await?;
    let brought = brought.pop().unwrap_or_default();
    let (asked, subscription) = images::submit(api, &id, (wish, brought)).await?;
    if asked.wish.stream {
        return images::streamed(api, id, GENERATION, (asked, subscription)).await;
    }
    let answer = subscription.collect().await;
    let answer = answer.map_err(|error| images::in_its_words(error, &asked.wish))?;
    Ok(Json(answer::prediction(&asked, answer).await?).into_response())
}
