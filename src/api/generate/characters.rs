//! The first dialect of `/generate` (contracts/seeds.md 4.1): so many characters from a seed, with no prompt at all.
//! Its messages are kept to the letter, since its callers show them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chandler_core::{
    ErrorKind, FinishReason, Input, Limits, Prompt, RequestError, RowOutput, Sampling, TextInput,
};
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

/// Writes piece after piece, since so many characters may be more than the context window holds. Each piece goes on from
/// the text before it, with a seed of its own, so that the same request has the same answer.
async fn generate(api: &Api, wish: &Wish) -> Result<String, RequestError> {
    let beginning = super::beginning(api).await?;
    let window = api.engine.info().map_or(0, |info| info.context_length);
    gather(wish.characters as usize, async |number, text, missing| {
        let prompt = match text {
            "" => beginning.clone(),
            text => Prompt::Text(tail(text, window / 2).to_owned()),
        };
        let seed = wish.seed.wrapping_add(number);
        let input = piece(prompt, seed, wish.temperature, missing);
        let answer = api.engine.submit(Input::Text(input)).await?;
        let rows = answer.collect().await?.rows;
        Ok(rows.into_iter().next().unwrap_or_default())
    })
    .await
}

/// Asks for pieces, by number, text so far and characters that are missing, until there is enough or the model ends.
async fn gather(
    wanted: usize,
    mut next: impl AsyncFnMut(u64, &str, u32) -> Result<RowOutput, RequestError>,
) -> Result<String, RequestError> {
    let mut text = String::new();
    let mut has = 0;
    for number in 0.. {
        let row = next(number, &text, (wanted - has) as u32).await?;
        text.push_str(&row.text);
        let more = row.text.chars().count();
        has += more;
        if has >= wanted || row.finish != Some(FinishReason::Length) {
            break;
        }
        if more == 0 {
            let message = format!("the model wrote {has} characters of {wanted}");
            return Err(RequestError::internal(message));
        }
    }
    Ok(text)
}

/// The end of a text in at most so many bytes, and at least one character: no tokenizer makes more tokens than bytes.
fn tail(text: &str, bytes: usize) -> &str {
    let from = text.len().saturating_sub(bytes.max(1));
    text.get(text.floor_char_boundary(from)..).unwrap_or(text)
}

fn piece(prompt: Prompt, seed: u64, temperature: f64, characters: u32) -> TextInput {
    TextInput {
        prompt,
        sampling: Sampling {
            temperature: Some(temperature.min(HOTTEST)),
            seed: Some(seed),
            ..Sampling::default()
        },
        limits: Limits {
            max_chars: Some(characters),
            // So many characters were asked for; where the model would stop is not asked.
            ignore_eos: true,
            ..Limits::default()
        },
        n: 1,
        ..TextInput::default()
    }
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

    #[tokio::test]
    async fn pieces_are_asked_for_until_the_text_is_long_enough() {
        let row = |text: &str, finish| {
            let text = text.to_owned();
            Ok(RowOutput {
                text,
                finish: Some(finish),
                ..RowOutput::default()
            })
        };
        let mut asked = Vec::new();
        let text = gather(7, async |number, text, missing| {
            asked.push((number, text.to_owned(), missing));
            row(["añc", "def", "g"][number as usize], FinishReason::Length)
        });
        assert_eq!(text.await.unwrap(), "añcdefg");
        let asked_for = [
            (0, String::new(), 7),
            (1, "añc".into(), 4),
            (2, "añcdef".into(), 1),
        ];
        assert_eq!(asked, asked_for);
        let ended = gather(7, async |_, _, _| row("a", FinishReason::Stop)).await;
        assert_eq!(ended.unwrap(), "a");
        let stuck = gather(7, async |_, _, _| row("", FinishReason::Length)).await;
        assert!(stuck.unwrap_err().message.contains("0 characters of 7"));
        assert_eq!((tail("añc", 2), tail("añc", 0), tail("ñ", 9)), ("ñc", "c", "ñ"));
    }
}
