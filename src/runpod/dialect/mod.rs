//! The shapes that a job's input may have, recognised by what is in it, each in a file of its own: which request to the
//! worker's routes it stands for, and how the answer becomes the job's output.

mod health;
mod listening;
mod openai;
mod pictures;
mod prediction;
#[cfg(test)]
mod properties;
mod refiner;
mod route;
mod sampling;
mod speech;
mod stream;
mod tasks;
mod tokens;
mod transcript;

use std::sync::{Arc, OnceLock};

use axum::http::Method;
use serde_json::{Map, Value};

use super::answer::Failure;
use super::growth::Growth;
use super::handler::Streaming;
use crate::kinds::kind_of;
use crate::sse::Event;

/// One request to the worker's own routes, and what its answer becomes.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Value>,
    pub(super) shape: Box<dyn Shape>,
    pub(super) growth: Growth,
}

/// How an answer of the routes becomes a job's output.
pub(super) trait Shape: Send {
    /// The output of an answer that came whole.
    fn whole(&self, answer: Value) -> Value;
    /// Takes one event of a streamed answer.
    fn event(&mut self, event: &Event);
    /// What goes out of the events since the last time; none where they hold nothing to see.
    fn chunks(&mut self) -> Vec<Value>;
    /// Whether the chunks together are a streamed answer's output.
    fn output_is_its_chunks(&self) -> bool {
        true
    }
    /// How far the work is, where that was told since the last time.
    fn progress(&mut self) -> Option<Value> {
        None
    }
    /// Whether the job is a stream for its client where the answer is one.
    fn is_stream(&self) -> bool {
        true
    }
    /// The output of a streamed answer.
    fn output(&mut self, chunks: Vec<Value>) -> Value {
        Value::Array(chunks)
    }
    /// An error in the dialect's words.
    fn error(&self, failure: Failure) -> String;
    /// Whether an answer is one whatever its status says.
    fn takes_any_status(&self) -> bool {
        false
    }
}

/// What is known besides the input.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The loaded model, once it is loaded: a shape that outlives the load looks again.
    pub(super) served: Arc<OnceLock<Served>>,
    pub(super) streaming: Streaming,
}

/// The loaded model, as `/health` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    /// The hub's name of what it does.
    pub(super) task: String,
    /// What it is called.
    pub(super) model: String,
    /// `cpu`, `cuda:0`, …
    pub(super) device: String,
    /// Whether a refiner goes on with its drawings.
    pub(super) refiner: bool,
}

impl Known {
    fn task(&self) -> Option<&str> {
        self.served.get().map(|served| served.task.as_str())
    }

    /// Whether the model writes text, as far as is known.
    fn writes(&self) -> bool {
        self.task().is_none_or(|task| task == TEXT_GENERATION)
    }

    /// Whether the model draws.
    fn draws(&self) -> bool {
        self.task().is_some_and(|task| DRAWING.contains(&task))
    }

    /// Whether a refiner goes on with the model's drawings.
    fn refines(&self) -> bool {
        self.served.get().is_some_and(|served| served.refiner)
    }

    /// Whether the model hears speech, as far as is known.
    fn hears(&self) -> bool {
        self.task().is_none_or(|task| task == SPEECH_RECOGNITION)
    }
}

const TEXT_GENERATION: &str = "text-generation";
const SPEECH_RECOGNITION: &str = "automatic-speech-recognition";
const DRAWING: [&str; 3] = ["text-to-image", "image-to-image", "image-inpainting"];

/// Fields of which one is what a model that draws goes by.
const PROMPTS: [&str; 4] = ["prompt", "inputs", "image", "init_image"];

/// What an input may be, for errors.
const UNDERSTOOD: &str = "this worker understands {openai_route, openai_input}, {route, body?, method?}, \
    {prompt or messages, sampling_params?, stream?}, {prompt, inputs, text or messages, task?, parameters?, stream?}, \
    {instances, parameters?}, the inputs of image, speech and embedding workers for models that do those tasks, and {debug: true}";

/// Reads an input.
///
/// # Errors
/// What is wrong with it, and what would do.
pub(super) fn recognise(input: Value, known: &Known) -> Result<Call, String> {
    let map = match input {
        Value::Object(map) => map,
        text @ Value::String(_) => return Ok(prediction::instance(text, None)),
        other => return Err(format!("the input is {}; {UNDERSTOOD}", kind_of(&other))),
    };
    if health::is(&map) {
        return Ok(health::call());
    }
    if has(&map, "openai_route") {
        return openai::read(map, known);
    }
    if has(&map, "route") {
        return route::read(map, known);
    }
    if has(&map, "instances") {
        return Ok(prediction::instances(map, known));
    }
    if let Some(reading) = tasks::read(&map) {
        // What a model of another kind is asked is `/predict`'s to refuse.
        let is_drawing = DRAWING.contains(&reading.task);
        return match reading.task {
            SPEECH_RECOGNITION if known.hears() => speech::read(map, reading, known),
            _ if is_drawing && (known.draws() || known.task().is_none()) => {
                pictures::read(map, Some(reading), known)
            }
            _ => Ok(prediction::of_task(map, reading)),
        };
    }
    let is_own = map.get("task").is_none_or(|task| {
        task.is_null() || task.as_str().is_some_and(|task| DRAWING.contains(&task))
    });
    if known.draws() && is_own && PROMPTS.iter().any(|key| has(&map, key)) {
        return pictures::read(map, None, known);
    }
    if tokens::is(&map, known) {
        return tokens::read(map, known);
    }
    if prediction::is(&map) {
        return prediction::read(map, known);
    }
    if known.task() == Some(SPEECH_RECOGNITION) {
        return Err(speech::NO_AUDIO.to_owned());
    }
    let mut keys: Vec<&str> = map.keys().map(String::as_str).take(8).collect();
    keys.sort_unstable();
    let has = match keys.as_slice() {
        [] => "nothing".to_owned(),
        keys => format!("only {}", keys.join(", ")),
    };
    Err(format!("the input has {has}; {UNDERSTOOD}"))
}

/// Whether a field is there and not null.
fn has(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(|value| !value.is_null())
}

/// Takes a field out; null is absent.
fn take(map: &mut Map<String, Value>, key: &str) -> Option<Value> {
    map.shift_remove(key).filter(|value| !value.is_null())
}

/// Takes a flag out; absent is false.
fn flag(map: &mut Map<String, Value>, key: &str) -> Result<bool, String> {
    match take(map, key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(other) => Err(format!(
            "{key} is {}; it must be true or false",
            shown(&other)
        )),
    }
}

/// Numbers and flags as written, everything else by its sort: an input does not belong in an error.
fn shown(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        other => kind_of(other).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn known(task: Option<&str>) -> Known {
        let served = Arc::new(OnceLock::new());
        if let Some(task) = task {
            let (task, model, device) = (task.to_owned(), "mine".to_owned(), "cuda:1".to_owned());
            served.get_or_init(|| Served {
                task,
                model,
                device,
                refiner: false,
            });
        }
        Known {
            served,
            streaming: Streaming::default(),
        }
    }

    /// A model that draws, with a refiner.
    pub(super) fn refining() -> Known {
        let known = known(Some("text-to-image"));
        let served = known.served.get().cloned();
        let refined = served.map(|served| Served {
            refiner: true,
            ..served
        });
        Known {
            served: Arc::new(refined.map(OnceLock::from).unwrap_or_default()),
            ..known
        }
    }

    fn path(input: Value) -> Result<(String, String), String> {
        recognise(input, &known(Some(TEXT_GENERATION)))
            .map(|call| (call.method.to_string(), call.path))
    }

    #[test]
    fn an_input_is_known_by_its_shape() {
        for (input, method, route) in [
            (
                json!({"openai_route": "/v1/models", "openai_input": null}),
                "GET",
                "/v1/models",
            ),
            (
                json!({"openai_route": "/v1/completions", "openai_input": {}}),
                "POST",
                "/v1/completions",
            ),
            (
                json!({"route": "/generate", "body": {}}),
                "POST",
                "/generate",
            ),
            (json!({"prompt": "a"}), "POST", "/v1/completions"),
            (
                json!({"prompt": "a", "sampling_params": {}}),
                "POST",
                "/v1/completions",
            ),
            (json!({"messages": []}), "POST", "/v1/chat/completions"),
            (json!({"prompt": "a", "max_tokens": 1}), "POST", "/predict"),
            (json!({"inputs": "a"}), "POST", "/predict"),
            (
                json!({"text": "a", "task": "summarise"}),
                "POST",
                "/predict",
            ),
            (
                json!({"messages": [], "parameters": {}, "stream": true}),
                "POST",
                "/v1/chat/completions",
            ),
            (json!({"instances": ["a"]}), "POST", "/predict"),
            (
                json!({"prompt": "a", "num_inference_steps": 4}),
                "POST",
                "/predict",
            ),
            (json!({"debug": true}), "GET", "/health"),
            (json!("a"), "POST", "/predict"),
        ] {
            let expected = Ok((method.to_owned(), route.to_owned()));
            assert_eq!(path(input.clone()), expected, "{input}");
        }
    }

    #[test]
    fn a_bare_prompt_is_a_prediction_where_the_model_writes_no_text() {
        let call = recognise(json!({"prompt": "a"}), &known(Some("text-to-image"))).unwrap();
        assert_eq!(call.path, "/predict");
    }

    #[test]
    fn a_model_that_hears_is_to_be_given_something_to_hear() {
        let known = known(Some(SPEECH_RECOGNITION));
        for input in [
            json!({"model": "base", "transcription": "srt"}),
            json!({"audio": null}),
        ] {
            let refusal = recognise(input, &known).err();
            assert_eq!(
                refusal.as_deref(),
                Some("Must provide either audio or audio_base64")
            );
        }
        let probed = recognise(json!({"debug": true}), &known).unwrap();
        assert_eq!(probed.path, "/health");
    }

    #[test]
    fn what_is_not_understood_is_told_with_what_would_be() {
        for (input, words) in [
            (json!(null), "the input is null"),
            (json!([1]), "the input is an array"),
            (json!({}), "the input has nothing"),
            (json!({"debug": false}), "the input has only debug"),
            (json!({"b": 1, "a": 2}), "the input has only a, b"),
        ] {
            let error = path(input).unwrap_err();
            assert!(error.starts_with(words), "{error}");
            assert!(
                error.contains("openai_route") && error.contains("instances"),
                "{error}"
            );
        }
    }
}
