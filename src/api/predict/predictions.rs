//! `{"instances": […], "parameters": {…}}` becomes `{"predictions": […]}`: in order, all or nothing, in one batch.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{Collected, ErrorKind, Input, RequestError, Task};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::instance::{Instance, instance};
use super::{grouped, images, speech, task};
use crate::api::images::is_image;
use crate::api::json::Fields;
use crate::api::observe::RequestId;
use crate::api::openai::sampling::MOST_PROMPTS;
use crate::api::openai::{UsageBody, chat};
use crate::api::state::Api;

/// Serves a body that has instances.
pub(super) async fn answer(
    api: &Api,
    id: &RequestId,
    body: &Map<String, Value>,
) -> Result<Response, RequestError> {
    let fields = Fields::new(body);
    let parameters = fields.object("parameters")?;
    let Some(list) = fields.array("instances")? else {
        return Err(fields.missing("instances", "an array of instances"));
    };
    if list.is_empty() {
        let message = "instances is empty; it must have at least one instance";
        return Err(RequestError::field("instances", message));
    }
    bounded(list.len(), parameters, api.settings.body_limit)?;
    let grouped = task::is_grouped(&Fields::new(body).or("parameters", parameters))?;
    let does = does(api, list, parameters).await?;
    if does == Some(Task::AutomaticSpeechRecognition) {
        let manner = speech::Manner::of(&fields, grouped)?;
        return speech::predictions(api, id, (list, parameters), manner).await;
    }
    if does.is_some_and(is_image) {
        return images::predictions(api, id, (list, parameters), grouped).await;
    }
    let instances = read(api, list, parameters, does).await;
    // A bare prompt is for whatever the model makes of one, which is known only when it is loaded.
    if does.is_none() && is_image(api.engine.loaded().await?.task) {
        return images::predictions(api, id, (list, parameters), grouped).await;
    }
    let instances = instances?;
    if grouped {
        for (i, one) in instances.iter().enumerate() {
            grouped::check(i, one)?;
        }
    }
    let shapes: Vec<(bool, Option<usize>)> = instances
        .iter()
        .map(|one| (one.is_chat, one.input.logprobs.map(|top| top as usize)))
        .collect();
    let inputs = instances.into_iter().map(|one| Input::Text(one.input));
    let submitted = api.engine.submit_all(inputs.collect()).await;
    let subscriptions = submitted.map_err(|(i, error)| {
        let is_chat = shapes.get(i).is_some_and(|(is_chat, _)| *is_chat);
        of_instance(i, is_chat, error)
    })?;
    // Why together: an answer that nobody reads is stalled by the engine.
    let answers = subscriptions
        .into_iter()
        .enumerate()
        .map(|(i, one)| async move {
            one.collect()
                .await
                .map_err(|error| of_instance(i, false, error))
        });
    let answers = try_join_all(answers).await?;
    if grouped {
        return Ok(Json(grouped::lists(answers)).into_response());
    }
    let predictions: Vec<Value> = answers
        .into_iter()
        .zip(shapes)
        .map(|(answer, (is_chat, top))| prediction(answer, is_chat, top))
        .collect();
    Ok(Json(json!({"predictions": predictions})).into_response())
}

/// What the model does, as far as that matters.
async fn does(
    api: &Api,
    list: &[Value],
    parameters: Option<&Map<String, Value>>,
) -> Result<Option<Task>, RequestError> {
    let shared = parameters.cloned().map(Value::Object);
    // Why waited for only then: all else can be told without the model.
    match list.iter().chain(&shared).any(task::is_asked) {
        true => Ok(Some(api.engine.loaded().await?.task)),
        false => Ok(api.engine.info().map(|info| info.task)),
    }
}

/// All instances, or the first error.
async fn read(
    api: &Api,
    list: &[Value],
    parameters: Option<&Map<String, Value>>,
    does: Option<Task>,
) -> Result<Vec<Instance>, RequestError> {
    let mut instances = Vec::with_capacity(list.len());
    for (i, value) in list.iter().enumerate() {
        instances.push(instance(i, value, parameters, does)?);
    }
    for (i, one) in instances.iter_mut().enumerate() {
        let served = api.serves(one.model.as_deref()).await;
        one.input.adapter = served
            .map_err(|error| of_instance(i, false, error))?
            .adapter;
    }
    Ok(instances)
}

/// Refuses more instances than are run at once, and parameters that would be over the body's limit if each instance had
/// them written out: each instance gets a copy of what it takes from them.
fn bounded(
    instances: usize,
    parameters: Option<&Map<String, Value>>,
    limit: usize,
) -> Result<(), RequestError> {
    if instances > MOST_PROMPTS {
        let message =
            format!("instances has {instances} entries; it may have at most {MOST_PROMPTS}");
        return Err(RequestError::field("instances", message));
    }
    let bytes = parameters.map_or(0, |map| json!(map).to_string().len());
    if instances > 1 && bytes.saturating_mul(instances) > limit {
        let message = format!(
            "parameters has {bytes} bytes for each of {instances} instances; together they may have at most {limit}"
        );
        return Err(RequestError {
            field: Some("parameters".into()),
            ..RequestError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
        });
    }
    Ok(())
}

/// An error with the instance's place in front, where the instance is at fault.
pub(super) fn of_instance(number: usize, is_chat: bool, mut error: RequestError) -> RequestError {
    let at_fault = matches!(
        error.kind,
        ErrorKind::BadInput | ErrorKind::Unsupported | ErrorKind::TooLarge | ErrorKind::NotFound
    );
    if at_fault {
        let name = format!("instances[{number}]");
        error.message = format!("{name}: {}", error.message);
        error.field = Some(match error.field.as_deref() {
            Some("prompt") if is_chat => format!("{name}.messages"),
            Some(field) => format!("{name}.{field}"),
            None => name,
        });
    }
    error
}

/// The first answer at the top, where callers look for it; all of them in `choices` when several were asked for.
fn prediction(answer: Collected, is_chat: bool, top: Option<usize>) -> Value {
    let several = answer.rows.len() > 1;
    let usage = UsageBody::from(answer.usage);
    let mut choices: Vec<Map<String, Value>> = answer
        .rows
        .into_iter()
        .map(|row| {
            let choice = chat::choice(row, 0, top);
            let mut map = Map::new();
            if is_chat {
                map.insert("message".into(), json!(choice.message));
            } else {
                map.insert("text".into(), choice.message.content.into());
            }
            map.insert("finish_reason".into(), choice.finish_reason.into());
            if let Some(logprobs) = choice.logprobs {
                map.insert("logprobs".into(), json!(logprobs));
            }
            map
        })
        .collect();
    let mut first = if several {
        choices.first().cloned().unwrap_or_default()
    } else {
        choices.pop().unwrap_or_default()
    };
    first.insert("usage".into(), json!(usage));
    if several {
        first.insert("choices".into(), json!(choices));
    }
    Value::Object(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_and_what_they_share_are_bounded() {
        let parameters = json!({"stop": "a".repeat(100)});
        let parameters = parameters.as_object();
        assert!(bounded(256, None, 1000).is_ok());
        assert!(bounded(1, parameters, 10).is_ok());
        assert!(bounded(8, parameters, 1000).is_ok());
        assert!(bounded(10, parameters, 1000).is_err());
        let error = bounded(257, None, 1000).unwrap_err();
        assert_eq!(
            error.message,
            "instances has 257 entries; it may have at most 256"
        );
    }
}
