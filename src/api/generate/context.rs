//! The second dialect of `/generate` (contracts/seeds.md 4.1): tokens that go on from a context of tokens.
//! Bad input is 422 with FastAPI's `detail`, as its callers know it.

use std::time::Instant;

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{ErrorKind, Input, Limits, Prompt, RequestError, Sampling, TextInput};
use serde_json::{Value, json};

use crate::api::error::Dialect;
use crate::api::json::{self, Fields, whole, wrong};
use crate::api::state::Api;

const DEFAULT_SEED: u64 = 1337;
const DEFAULT_TEMPERATURE: f64 = 0.1;
const DEFAULT_TOKENS: u32 = 100;

#[derive(Debug, PartialEq)]
pub(in crate::api) struct Wish {
    seed: u64,
    temperature: f64,
    max_tokens: Option<u32>,
    context: Vec<Piece>,
}

/// A stretch of the context: token ids as given, or text to be encoded.
#[derive(Debug, PartialEq)]
enum Piece {
    Token(u32),
    Text(String),
}

pub(super) async fn answer(api: &Api, body: &Value) -> Response {
    let answer = async {
        let wish = read(body)?;
        generate(api, wish).await
    };
    match answer.await {
        Ok(reply) => Json(reply).into_response(),
        Err(error) if error.kind == ErrorKind::NotReady => not_loaded(),
        Err(mut error) if error.kind == ErrorKind::Internal => {
            error.message = format!("Generation failed: {}", error.message);
            Dialect::Detail.error(error).into_response()
        }
        Err(error) => Dialect::Detail.error(error).into_response(),
    }
}

/// The dialect's 503.
pub(super) fn not_loaded() -> Response {
    let error = RequestError::new(ErrorKind::NotReady, "Model not loaded");
    Dialect::Detail.error(error).into_response()
}

pub(in crate::api) fn read(body: &Value) -> Result<Wish, RequestError> {
    let fields = Fields::new(json::object(body)?);
    Ok(Wish {
        seed: fields.seed("seed")?.unwrap_or(DEFAULT_SEED),
        temperature: fields
            .number("temperature", 0.01..=2.0)?
            .unwrap_or(DEFAULT_TEMPERATURE),
        max_tokens: fields.whole("max_tokens", 1..=500)?,
        context: context(&fields)?,
    })
}

/// Token ids, or strings of one character each (longer ones are taken too); neighbouring strings are one text.
fn context(fields: &Fields<'_>) -> Result<Vec<Piece>, RequestError> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (i, value) in fields.array("context")?.into_iter().flatten().enumerate() {
        let name = format!("context[{i}]");
        match (value, pieces.last_mut()) {
            (Value::String(more), Some(Piece::Text(text))) => text.push_str(more),
            (Value::String(text), _) => pieces.push(Piece::Text(text.clone())),
            (Value::Number(_), _) => pieces.push(Piece::Token(whole(&name, value, 0..=u32::MAX)?)),
            (other, _) => return Err(wrong(&name, other, "a token id or a character")),
        }
    }
    Ok(pieces)
}

async fn generate(api: &Api, wish: Wish) -> Result<Value, RequestError> {
    let begun = Instant::now();
    let mut tokens = Vec::new();
    for piece in wish.context {
        match piece {
            Piece::Token(id) => tokens.push(id),
            Piece::Text(text) => tokens.extend(api.engine.tokenize(&text).await?),
        }
    }
    let echo = !tokens.is_empty();
    let prompt = match echo {
        true => {
            fit(&mut tokens, api, wish.max_tokens);
            Prompt::Tokens(tokens.clone())
        }
        false => super::beginning(api).await?,
    };
    let input = TextInput {
        prompt,
        sampling: Sampling {
            temperature: Some(wish.temperature),
            seed: Some(wish.seed),
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: wish.max_tokens,
            default_max_tokens: Some(DEFAULT_TOKENS),
            ..Limits::default()
        },
        n: 1,
        echo,
        ..TextInput::default()
    };
    let collected = api
        .engine
        .submit(Input::Text(input))
        .await?
        .collect()
        .await?;
    let row = collected.rows.into_iter().next().unwrap_or_default();
    tokens.extend(
        row.tokens
            .iter()
            .filter(|token| !token.prompt && !token.special)
            .map(|token| token.id),
    );
    Ok(json!({
        "text": row.text,
        "tokens": tokens,
        "generation_time": begun.elapsed().as_secs_f64(),
    }))
}

/// Keeps the end of a context that is too long for the window, as the dialect's model does.
fn fit(tokens: &mut Vec<u32>, api: &Api, answer: Option<u32>) {
    let window = api.engine.info().map_or(0, |info| info.context_length);
    if window > 0 {
        let room = match answer {
            Some(answer) => window.saturating_sub(answer as usize),
            // An answer whose length we choose takes no more than half of the window from the context.
            None => window
                .saturating_sub(DEFAULT_TOKENS as usize)
                .max(window / 2),
        };
        let room = room.max(1);
        tokens.drain(..tokens.len().saturating_sub(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_characters_make_a_context() {
        let wish = read(&json!({"context": [5, 6.0, "a", "b", 7]})).unwrap();
        let text = Piece::Text("ab".into());
        assert_eq!(
            wish.context,
            [Piece::Token(5), Piece::Token(6), text, Piece::Token(7)]
        );
        assert_eq!(
            (wish.seed, wish.max_tokens, wish.temperature),
            (1337, None, 0.1)
        );
        assert_eq!(read(&json!({"context": null})).unwrap().context, []);
    }

    #[test]
    fn each_violation_names_its_field() {
        for (body, named) in [
            (json!({"max_tokens": 501}), "max_tokens"),
            (json!({"max_tokens": 5, "temperature": 0}), "temperature"),
            (json!({"max_tokens": 5, "seed": "x"}), "seed"),
            (json!({"context": 5}), "context"),
            (json!({"context": [1, true]}), "context[1]"),
        ] {
            assert_eq!(read(&body).unwrap_err().field.as_deref(), Some(named));
        }
    }
}
