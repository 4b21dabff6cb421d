//! Answers of `/predict`: one prediction of one instance.

use serde_json::Value;

use super::http::error_in;
use super::openai::{count, seconds};
use crate::bench::outcome::{Failure, Success};
use crate::bench::requests::Does;

/// Where containers put pictures: ours, Vertex's Imagen, and those before them.
const PICTURES: [&str; 5] = [
    "images",
    "image",
    "image_base64",
    "bytesBase64Encoded",
    "image_url",
];

/// The prediction of a whole answer.
pub(super) fn predicted(answer: &Value, does: Does) -> Result<Success, Failure> {
    if let Some(failure) = error_in(answer) {
        return Err(failure);
    }
    match &answer["predictions"] {
        Value::Array(list) => match list.first() {
            Some(prediction) => counted(prediction, does),
            None => Err(Failure::malformed("predictions is empty")),
        },
        _ => Err(Failure::malformed("the answer has no predictions")),
    }
}

/// What can be counted in a prediction, or in a job's output, which has the same names.
pub(super) fn counted(prediction: &Value, does: Does) -> Result<Success, Failure> {
    if let Some(failure) = error_in(prediction) {
        return Err(failure);
    }
    let is_there = match prediction {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) if does == Does::Draws => {
            PICTURES.iter().any(|key| is_full(map.get(*key)))
        }
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    if !is_there {
        return Err(Failure::malformed(match does {
            Does::Draws => format!("there is no picture in it: none of {}", PICTURES.join(", ")),
            _ => "it is empty".to_owned(),
        }));
    }
    let mut success = Success {
        steps: prediction["steps"].as_u64(),
        audio_s: seconds(prediction),
        ..Success::default()
    };
    count(&prediction["usage"], &mut success);
    Ok(success)
}

fn is_full(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    }
}
