//! The first dialect of `/generate` (contracts/seeds.md 4.1): so many characters from a seed, with no prompt at all.
//! Its messages are kept to the letter, since its callers show them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chandler_core::{ErrorKind, Input, Limits, RequestError, Sampling, TextInput};
use serde_json::{Value, json};

use crate::api::error::Dialect;
use crate::api::json::{Fields, whole};
use crate::api::state::Api;

const DEFAULT_SEED: u64 = 42;
const MOST_CHARACTERS: u32 = 5000;
/// The dialect has no highest temperature; past this all tokens are equally likely for every purpose.
const HOTTEST: f64 = 100.0;

/// What the dialect asks for; `shown` are the values as the caller wrote them, which the answer repeats.
#[derive(Debug)]
pub(in crate::api) struct Wish {
    characters: u32,
    seed: u64,
    temperature: f64,
    shown: Value,
}

pub(super) async fn answer(api: &Api, body: &Value) -> Response {
    let wish = match read(body) {
        Ok(wish) => wish,
        Err(error) => return Dialect::Plain.error(error).into_response(),
    };
    match generate(api, &wish).await {
        Ok(text) => Json(json!({
            "success": true,
            "generated_text": text,
            "parameters": wish.shown,
        }))
        .into_response(),
        Err(mut error) if error.kind == ErrorKind::Internal => {
            error.message = format!("Generation failed: {}", error.message);
            Dialect::Plain
                .error_with(StatusCode::INTERNAL_SERVER_ERROR, error)
                .into_response()
        }
        Err(error) => Dialect::Plain.error(error).into_response(),
    }
}

pub(in crate::api) fn read(body: &Value) -> Result<Wish, RequestError> {
    let bad = |field: &str, message: &str| RequestError::field(field, message);
    let Some(map) = body.as_object().filter(|map| !map.is_empty()) else {
        return Err(RequestError::new(
            ErrorKind::BadInput,
            "No JSON data provided",
        ));
    };
    let fields = Fields::new(map);
    let Some(characters) = fields.find("num_chars") else {
        return Err(bad("num_chars", "num_chars is required"));
    };
    let characters = match whole("num_chars", characters.value, 1..=u32::MAX) {
        Ok(characters) if characters <= MOST_CHARACTERS => characters,
        Ok(_) => return Err(bad("num_chars", "num_chars must be <= 5000")),
        // A number of this size is too large, and not a number of the wrong kind.
        Err(_)
            if characters
                .value
                .as_f64()
                .is_some_and(|n| n > 4e9 && n.fract() == 0.0) =>
        {
            return Err(bad("num_chars", "num_chars must be <= 5000"));
        }
        Err(_) => return Err(bad("num_chars", "num_chars must be a positive integer")),
    };
    let temperature = match fields.find("temperature").map(|found| found.value.as_f64()) {
        None => 1.0,
        Some(Some(temperature)) if temperature > 0.0 => temperature,
        Some(_) => return Err(bad("temperature", "temperature must be a positive number")),
    };
    let seed = fields
        .seed("seed")
        .map_err(|_| bad("seed", "seed must be an integer"))?
        .unwrap_or(DEFAULT_SEED);
    let shown = json!({"seed": seed, "temperature": temperature, "num_chars": characters});
    Ok(Wish {
        characters,
        seed,
        temperature,
        shown,
    })
}

async fn generate(api: &Api, wish: &Wish) -> Result<String, RequestError> {
    let input = TextInput {
        prompt: super::beginning(api).await?,
        sampling: Sampling {
            temperature: Some(wish.temperature.min(HOTTEST)),
            seed: Some(wish.seed),
            ..Sampling::default()
        },
        limits: Limits {
            max_chars: Some(wish.characters),
            // So many characters were asked for; where the model would stop is not asked.
            ignore_eos: true,
            ..Limits::default()
        },
        n: 1,
        ..TextInput::default()
    };
    let collected = api
        .engine
        .submit(Input::Text(input))
        .await?
        .collect()
        .await?;
    Ok(collected.rows.into_iter().next().unwrap_or_default().text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_messages_are_kept_to_the_letter() {
        for (body, message) in [
            (json!(null), "No JSON data provided"),
            (json!({}), "No JSON data provided"),
            (json!({"seed": 1}), "num_chars is required"),
            (
                json!({"num_chars": 0}),
                "num_chars must be a positive integer",
            ),
            (
                json!({"num_chars": -5}),
                "num_chars must be a positive integer",
            ),
            (
                json!({"num_chars": "5"}),
                "num_chars must be a positive integer",
            ),
            (
                json!({"num_chars": 5.5}),
                "num_chars must be a positive integer",
            ),
            (json!({"num_chars": 5001}), "num_chars must be <= 5000"),
            (json!({"num_chars": 1e12}), "num_chars must be <= 5000"),
            (
                json!({"num_chars": 5, "temperature": 0}),
                "temperature must be a positive number",
            ),
            (
                json!({"num_chars": 5, "temperature": "a"}),
                "temperature must be a positive number",
            ),
            (
                json!({"num_chars": 5, "seed": "a"}),
                "seed must be an integer",
            ),
        ] {
            assert_eq!(read(&body).unwrap_err().message, message, "{body}");
        }
        assert_eq!(
            read(&json!({"num_chars": 5.0})).unwrap().shown,
            json!({"seed": 42, "temperature": 1.0, "num_chars": 5})
        );
    }
}
