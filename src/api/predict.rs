//! Vertex AI's way in: `{"instances": […], "parameters": {…}}` becomes `{"predictions": […]}`, in order and all or nothing.
//! Raw calls (rawPredict, streamRawPredict) bring an OpenAI body to the same path, and get OpenAI's answer.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use chandler_core::{Collected, ErrorKind, Input, Prompt, RequestError, TextInput};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::dialogue::format;
use super::json::{self, Fields, wrong};
use super::limits::read_body;
use super::observe::RequestId;
use super::openai::sampling::{MOST_PROMPTS, best_of, limits, or_tokens, refuse, rows, sampling};
use super::openai::{UsageBody, chat, completions, or_error};
use super::state::Api;

/// Tokens of an answer to a plain prompt when nothing is said: a base model may have no end of its own.
pub(super) const DEFAULT_TOKENS: u32 = 256;
const INSTANCE: &str = "a string, or an object with prompt (or inputs, or text) or messages";

/// `POST /predict`
pub(super) async fn post(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    body: Body,
) -> Response {
    let answer = async {
        let body = read_body(body, api.settings.body_limit).await?;
        let mut value = json::parse(&body)?;
        // Some gateways put the body into a JSON string.
        if let Value::String(inner) = &value {
            value = json::parse(inner.as_bytes())?;
        }
        let map = json::object(&value)?;
        if map.contains_key("instances") {
            predictions(&api, map).await
        } else if map.contains_key("messages") {
            chat::answer(&api, id, &value).await
        } else if map.contains_key("prompt") || map.contains_key("model") {
            completions::answer(&api, id, &value).await
        } else {
            let message = "instances is missing; the body must be {\"instances\": [...]}, or an OpenAI body with messages or prompt";
            Err(RequestError::field("instances", message))
        }
    };
    or_error(answer.await)
}

/// An instance, read; and what its prediction is to look like.
pub(super) struct Instance {
    pub(super) input: TextInput,
    /// The model or adapter that it names.
    model: Option<String>,
    is_chat: bool,
}

async fn predictions(api: &Api, body: &Map<String, Value>) -> Result<Response, RequestError> {
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
    let task = task(api, list).await?;
    let mut instances = list
        .iter()
        .enumerate()
        .map(|(i, value)| instance(i, value, parameters, task))
        .collect::<Result<Vec<_>, _>>()?;
    for (i, one) in instances.iter_mut().enumerate() {
        let served = api.serves(one.model.as_deref()).await;
        one.input.adapter = served
            .map_err(|error| of_instance(i, false, error))?
            .adapter;
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
    // Why together: an answer that nobody reads is parked by the engine.
    let answers = subscriptions
        .into_iter()
        .enumerate()
        .map(|(i, one)| async move {
            one.collect()
                .await
                .map_err(|error| of_instance(i, false, error))
        });
    let answers = try_join_all(answers).await?;
    let predictions: Vec<Value> = answers
        .into_iter()
        .zip(shapes)
        .map(|(answer, (is_chat, top))| prediction(answer, is_chat, top))
        .collect();
    Ok(Json(json!({"predictions": predictions})).into_response())
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

/// The loaded model's task, waited for only when an instance names one.
async fn task(api: &Api, instances: &[Value]) -> Result<Option<&'static str>, RequestError> {
    let named = instances
        .iter()
        .any(|one| one.get("task").is_some_and(|t| !t.is_null()));
    if named && api.engine.info().is_none() {
        // Why: this waits for a model that is loading. What it says of the text is of no interest.
        match api.engine.tokenize(" ").await {
            Err(error) if error.kind == ErrorKind::NotReady => return Err(error),
            _ => {}
        }
    }
    Ok(api.engine.info().map(|info| info.task.tag()))
}

pub(super) fn instance(
    number: usize,
    value: &Value,
    parameters: Option<&Map<String, Value>>,
    task: Option<&str>,
) -> Result<Instance, RequestError> {
    let name = format!("instances[{number}]");
    let empty = Map::new();
    let (own, text) = match value {
        Value::String(text) => (&empty, Some(text.as_str())),
        Value::Object(map) => (map, None),
        other => return Err(wrong(&name, other, INSTANCE)),
    };
    let nested = own.get("parameters").and_then(Value::as_object);
    let fields = Fields::within(name.clone(), own)
        .or(&format!("{name}.parameters"), nested)
        .or("parameters", parameters)
        .with_spellings();
    if let (Some(wanted), Some(task)) = (fields.string("task")?, task)
        && wanted != task
    {
        let field = fields.name("task");
        let message = format!("{field} is {wanted:?}; the model loaded here does {task:?}");
        return Err(RequestError::unsupported(field, message));
    }
    let whole_only = "predictions come whole; to stream, send an OpenAI body to this path";
    refuse(&fields, "stream", |v| v == false, whole_only)?;
    let is_chat = fields.has("messages");
    let prompt = match text {
        Some(text) => Some(text),
        None => fields.string("prompt")?,
    };
    let input = match (is_chat, prompt) {
        (true, None) => chat::parse(&fields)?.input,
        (false, Some(prompt)) => plain(&fields, Prompt::Text(prompt.to_owned()), false)?,
        (true, Some(_)) => {
            let message =
                format!("{name} has both messages and a prompt; it must have one of them");
            return Err(RequestError::field(name, message));
        }
        (false, None) => {
            let message = format!("{name} has no prompt; it must be {INSTANCE}");
            return Err(RequestError::field(name, message));
        }
    };
    Ok(Instance {
        input,
        model: fields.string("model")?.map(str::to_owned),
        is_chat,
    })
}

/// A request for text after a plain prompt, as `/predict` and `/generate` take it.
pub(super) fn plain(
    fields: &Fields<'_>,
    prompt: Prompt,
    stream: bool,
) -> Result<TextInput, RequestError> {
    let limits = limits(fields, &["max_tokens"], 1)?;
    let n = rows(fields)?;
    Ok(TextInput {
        prompt,
        sampling: sampling(fields)?,
        limits: or_tokens(limits, DEFAULT_TOKENS),
        n,
        logprobs: completions::logprobs_of(fields)?,
        echo: fields.boolean("echo")?.unwrap_or(false),
        best_of: best_of(fields, n, stream)?,
        constraint: format::requested(fields)?.map(|form| form.constraint),
        adapter: None,
    })
}

/// An error with the instance's place in front, where the instance is at fault.
fn of_instance(number: usize, is_chat: bool, mut error: RequestError) -> RequestError {
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

    fn read(value: Value, parameters: Value) -> Result<TextInput, RequestError> {
        instance(3, &value, parameters.as_object(), Some("text-generation")).map(|one| one.input)
    }

    #[test]
    fn an_instance_takes_what_it_lacks_from_the_parameters() {
        let defaults = json!({"maxOutputTokens": 8.0, "topP": 0.5});
        let input = read(
            json!({"inputs": "a", "parameters": {"max_new_tokens": 4.0}}),
            defaults.clone(),
        );
        let input = input.unwrap();
        assert_eq!(input.prompt, Prompt::Text("a".into()));
        assert_eq!(input.limits.max_tokens, Some(4));
        assert_eq!(input.sampling.top_p, Some(0.5));
        assert_eq!(
            read(json!("b"), defaults).unwrap().limits.max_tokens,
            Some(8)
        );
    }

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

    #[test]
    fn an_error_names_the_instance_or_the_parameters() {
        let field = |value, parameters| read(value, parameters).unwrap_err().field.unwrap();
        assert_eq!(field(json!(7), json!({})), "instances[3]");
        assert_eq!(field(json!({}), json!({})), "instances[3]");
        assert_eq!(
            field(json!({"prompt": 7}), json!({})),
            "instances[3].prompt"
        );
        assert_eq!(
            field(json!({"prompt": "a", "n": 0}), json!({})),
            "instances[3].n"
        );
        assert_eq!(
            field(json!("a"), json!({"temperature": -1.0})),
            "parameters.temperature"
        );
        assert_eq!(
            field(json!({"prompt": "a", "task": "text-to-image"}), json!({})),
            "instances[3].task"
        );
        assert_eq!(
            field(
                json!({"messages": [{"role": "x", "content": ""}]}),
                json!({})
            ),
            "instances[3].messages[0].role"
        );
    }
}
