//! Our own task input: what `/predict` takes as an instance, and its prediction as the output, not in a list. Streamed, the
//! chunks are pieces of the answer and the output is the same prediction, whole.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::listening::{self, Chunks};
use super::stream::Growing;
use super::tasks::Reading;
use super::{Call, Known, Shape, TEXT_GENERATION, has, take};
use crate::kinds::kind_of;
use crate::runpod::answer::Failure;
use crate::runpod::growth::Growth;
use crate::spellings::SPELLINGS;
use crate::sse::Event;

/// `/predict`'s own; OpenAI's route for plain prompts has another.
const DEFAULT_TOKENS: u32 = 256;
const PROMPTS: [&str; 3] = ["prompt", "inputs", "text"];

pub(super) fn is(map: &Map<String, Value>) -> bool {
    let own = ["messages", "task"].iter().chain(&PROMPTS);
    own.into_iter().any(|key| has(map, key))
}

pub(super) fn read(map: Map<String, Value>, known: &Known) -> Result<Call, String> {
    let streams = map.get("stream") == Some(&Value::Bool(true));
    // A task that the model does not do is `/predict`'s to refuse.
    let writes = map
        .get("task")
        .is_none_or(|task| task.is_null() || task == TEXT_GENERATION);
    match streams && writes && known.writes() {
        true => streamed(map, known),
        false => Ok(instance(Value::Object(map), None)),
    }
}

/// One instance.
pub(super) fn instance(input: Value, note: Option<String>) -> Call {
    let shape = Prediction { note, is_one: true };
    predict(json!({"instances": [input]}), Box::new(shape))
}

/// An input that asks for a task in other words than ours.
pub(super) fn of_task(mut map: Map<String, Value>, reading: Reading) -> Call {
    map.insert("task".into(), reading.task.into());
    instance(Value::Object(map), Some(reading.because))
}

/// The shape of one prediction.
pub(super) fn one(note: String) -> Box<dyn Shape> {
    Box::new(Prediction {
        note: Some(note),
        is_one: true,
    })
}

/// A whole `/predict` body, answered as `/predict` does.
pub(super) fn instances(map: Map<String, Value>, known: &Known) -> Call {
    let shape = Box::new(Prediction {
        note: None,
        is_one: false,
    });
    match map.get("stream") == Some(&Value::Bool(true)) && known.hears() {
        true => listening::listen(map, (shape, Chunks::Numbered, true), known),
        false => predict(Value::Object(map), shape),
    }
}

/// A whole `/predict` body.
fn predict(body: Value, shape: Box<dyn Shape>) -> Call {
    Call {
        method: Method::POST,
        path: "/predict".into(),
        body: Some(body),
        shape,
        growth: Growth::default(),
    }
}

/// Reads an instance as a request to the route that streams what it asks for.
fn streamed(mut map: Map<String, Value>, known: &Known) -> Result<Call, String> {
    let parameters = take(&mut map, "parameters");
    let mut body = in_our_words(map);
    match parameters {
        None => {}
        // The instance's own fields win.
        Some(Value::Object(parameters)) => {
            for (key, value) in in_our_words(parameters) {
                body.entry(key).or_insert(value);
            }
        }
        Some(other) => {
            return Err(format!(
                "parameters is {}; it must be an object",
                kind_of(&other)
            ));
        }
    }
    body.shift_remove("task");
    let is_chat = body.contains_key("messages");
    let path = match (is_chat, body.get("prompt")) {
        (true, None) => "/v1/chat/completions",
        (true, Some(_)) => {
            return Err(
                "the input has both messages and a prompt; it must have one of them".to_owned(),
            );
        }
        (false, Some(Value::String(_))) => "/v1/completions",
        (false, other) => {
            let is = other.map_or("missing", kind_of);
            return Err(format!("prompt is {is}; it must be a string"));
        }
    };
    if !is_chat {
        if has(&body, "logprobs") {
            return Err(
                "logprobs come with whole predictions only; leave out logprobs or stream"
                    .to_owned(),
            );
        }
        body.entry("max_tokens").or_insert(DEFAULT_TOKENS.into());
    }
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    Ok(Call {
        method: Method::POST,
        path: path.into(),
        body: Some(Value::Object(body)),
        shape: Box::new(Growing::new(is_chat)),
        growth: known.streaming.growth,
    })
}

/// The fields under our own names, nulls left out.
fn in_our_words(map: Map<String, Value>) -> Map<String, Value> {
    let mut body = Map::new();
    for (key, value) in map {
        if value.is_null() {
            continue;
        }
        let ours = SPELLINGS
            .iter()
            .find(|(_, others)| others.contains(&key.as_str()));
        match ours {
            None => body.insert(key, value),
            Some((ours, _)) => match body.get(*ours) {
                None => body.insert((*ours).to_owned(), value),
                Some(_) => None,
            },
        };
    }
    body
}

/// Predictions as they are, or the one there is.
struct Prediction {
    /// How the input was read, where that may surprise.
    note: Option<String>,
    is_one: bool,
}

/// What `/predict` puts before the names of an instance's fields, which is no name of the job's input.
const PLACES: [&str; 3] = ["instances[0].", "instances[0]: ", "instances[0]"];

/// An error of `/predict` as one of a job's input.
pub(super) fn of_input(message: &str) -> String {
    let input = ["", "", "the input"];
    let places = PLACES.iter().zip(input);
    places.fold(message.to_owned(), |message, (place, input)| {
        message.replace(place, input)
    })
}

impl Shape for Prediction {
    fn whole(&self, answer: Value) -> Value {
        if !self.is_one {
            return answer;
        }
        match answer {
            Value::Object(mut map) => {
                match map.get_mut("predictions").and_then(Value::as_array_mut) {
                    Some(predictions) if predictions.len() == 1 => predictions.remove(0),
                    _ => Value::Object(map),
                }
            }
            other => other,
        }
    }

    fn event(&mut self, _: &Event) {}

    fn chunks(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn error(&self, failure: Failure) -> String {
        let message = match self.is_one {
            true => of_input(&failure.message),
            false => failure.message,
        };
        match &self.note {
            Some(note) => format!("{message} ({note})"),
            None => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::tests::known;

    fn call(input: Value) -> Result<(String, Value), String> {
        let call = read(
            input.as_object().unwrap().clone(),
            &known(Some(TEXT_GENERATION)),
        )?;
        Ok((call.path, call.body.unwrap()))
    }

    #[test]
    fn an_input_is_one_instance_and_its_output_one_prediction() {
        let input = json!({"inputs": "a", "parameters": {"max_new_tokens": 4}});
        assert_eq!(
            call(input.clone()).unwrap(),
            ("/predict".into(), json!({"instances": [input]}))
        );
        let shape = instance(json!("a"), None).shape;
        assert_eq!(
            shape.whole(json!({"predictions": [{"text": "b"}]})),
            json!({"text": "b"})
        );
        let shape = instances(Map::new(), &known(None)).shape;
        let all = json!({"predictions": [{"text": "b"}]});
        assert_eq!(shape.whole(all.clone()), all);
    }

    #[test]
    fn a_streamed_input_is_put_into_openais_words() {
        let input = json!({"inputs": "a", "stream": true, "topK": 3, "task": "text-generation", "seed": null,
            "parameters": {"max_new_tokens": 4.0, "top_k": 9, "stopSequences": ["x"]}});
        let options = json!({"include_usage": true});
        assert_eq!(
            call(input).unwrap(),
            (
                "/v1/completions".into(),
                json!({"prompt": "a", "stream": true, "top_k": 3, "max_tokens": 4.0, "stop": ["x"], "stream_options": options})
            )
        );
        let (path, body) = call(json!({"messages": [7], "stream": true})).unwrap();
        assert_eq!(path, "/v1/chat/completions");
        assert_eq!(
            body,
            json!({"messages": [7], "stream": true, "stream_options": options})
        );
        let (_, body) = call(json!({"text": "a", "stream": true})).unwrap();
        assert_eq!(body["max_tokens"], 256);
    }

    #[test]
    fn each_wrong_field_of_a_streamed_input_is_named() {
        for (input, words) in [
            (json!({"prompt": 7, "stream": true}), "prompt is a number"),
            (
                json!({"task": "text-generation", "stream": true}),
                "prompt is missing",
            ),
            (
                json!({"prompt": "a", "messages": [], "stream": true}),
                "the input has both",
            ),
            (
                json!({"prompt": "a", "parameters": [], "stream": true}),
                "parameters is an array",
            ),
            (
                json!({"prompt": "a", "logprobs": 1, "stream": true}),
                "logprobs come with whole",
            ),
        ] {
            let error = call(input).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_inputs_fields_and_how_it_was_read() {
        let failure = |message: &str| Failure {
            message: message.into(),
            told: Value::Null,
        };
        let shape = instance(json!("a"), Some("it is read as x".into())).shape;
        for (told, said) in [
            ("instances[0].task is 7", "task is 7 (it is read as x)"),
            (
                "instances[0]: the prompt is long",
                "the prompt is long (it is read as x)",
            ),
            (
                "instances[0] has no prompt",
                "the input has no prompt (it is read as x)",
            ),
        ] {
            assert_eq!(shape.error(failure(told)), said);
        }
        let shape = instances(Map::new(), &known(None)).shape;
        assert_eq!(
            shape.error(failure("instances[0].task")),
            "instances[0].task"
        );
    }
}
