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
    let mut text = Gathered::new(wish.characters);
    loop {
        let prompt = match text.text.as_str() {
            "" => beginning.clone(),
            text => Prompt::Text(tail(text, window / 2).to_owned()),
        };
        let seed = wish.seed.wrapping_add(text.pieces);
        let input = piece(prompt, seed, wish.temperature, text.missing);
        let answer = api.engine.submit(Input::Text(input)).await?;
        let rows = answer.collect().await?.rows;
        if text.is_whole_with(rows.into_iter().next().unwrap_or_default())? {
            return Ok(text.text);
        }
    }
}

/// The text so far.
#[derive(Debug)]
struct Gathered {
    text: String,
    pieces: u64,
    /// Characters still to come.
    missing: u32,
}

impl Gathered {
    fn new(characters: u32) -> Self {
        Self {
            text: String::new(),
            pieces: 0,
            missing: characters,
        }
    }

    /// Whether the text is long enough with this piece, or the model has come to an end of its own.
    /// Each piece brings a character at least, so that their number is bounded.
    fn is_whole_with(&mut self, piece: RowOutput) -> Result<bool, RequestError> {
        self.text.push_str(&piece.text);
        self.pieces += 1;
        let more = u32::try_from(piece.text.chars().count()).unwrap_or(u32::MAX);
        self.missing = self.missing.saturating_sub(more);
        if self.missing == 0 || piece.finish != Some(FinishReason::Length) {
            return Ok(true);
        }
        if more == 0 {
            let message = format!(
                "the model wrote nothing more; {} characters are missing",
                self.missing
            );
            return Err(RequestError::internal(message));
        }
        Ok(false)
    }
}

/// The end of a text in at most so many bytes, and at least one character: no tokenizer makes more tokens than bytes.
fn tail(text: &str, bytes: usize) -> &str {
    let from = text.ceil_char_boundary(text.len().saturating_sub(bytes));
    let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
    text.get(from.min(last)..).unwrap_or(text)
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

    #[test]
    fn pieces_are_asked_for_until_the_text_is_long_enough() {
        let row = |text: &str, finish| RowOutput {
            text: text.to_owned(),
            finish: Some(finish),
            ..RowOutput::default()
        };
        let mut text = Gathered::new(7);
        assert!(
            !text
                .is_whole_with(row("añc", FinishReason::Length))
                .unwrap()
        );
        assert!(
            !text
                .is_whole_with(row("def", FinishReason::Length))
                .unwrap()
        );
        assert_eq!((text.pieces, text.missing), (2, 1));
        assert!(text.is_whole_with(row("g", FinishReason::Length)).unwrap());
        assert_eq!(text.text, "añcdefg");
        let mut text = Gathered::new(7);
        assert!(text.is_whole_with(row("a", FinishReason::Stop)).unwrap());
        let stuck = text
            .is_whole_with(row("", FinishReason::Length))
            .unwrap_err();
        assert!(stuck.message.contains("6 characters"), "{}", stuck.message);
    }

    #[test]
    fn a_tail_begins_with_a_character() {
        assert_eq!(
            (tail("añc", 2), tail("añc", 1), tail("añc", 0)),
            ("c", "c", "c")
        );
        assert_eq!(
            (tail("añc", 3), tail("ñ", 1), tail("ñ", 9)),
            ("ñc", "ñ", "ñ")
        );
    }
}
