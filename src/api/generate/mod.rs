//! `POST /generate`, which three kinds of caller know: ours (`prompt`), the context dialect (`max_tokens` or `context`),
//! and the characters dialect (everything else). The body's fields decide; each dialect is a file.

pub(super) mod characters;
pub(super) mod context;
mod ours;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use chandler_core::{Prompt, RequestError};
use serde_json::{Value, json};

use super::error::Dialect;
use super::json;
use super::limits::read_body;
use super::observe::RequestId;
use super::state::Api;

/// `POST /generate`
pub(super) async fn post(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    body: Body,
) -> Response {
    let bytes = match read_body(body, api.settings.body_limit).await {
        Ok(bytes) => bytes,
        Err(error) => return Dialect::Generate.error(error).into_response(),
    };
    if bytes.trim_ascii().is_empty() {
        return characters::answer(&api, &Value::Null).await;
    }
    let value = match json::parse(&bytes) {
        Ok(value) => value,
        Err(error) => return Dialect::Generate.error(error).into_response(),
    };
    let has = |key: &str| value.get(key).is_some();
    if has("prompt") {
        let answer = ours::answer(&api, id, &value).await;
        answer.unwrap_or_else(|error| Dialect::OpenAi.error(error).into_response())
    } else if has("max_tokens") || has("context") {
        context::answer(&api, &value).await
    } else {
        characters::answer(&api, &value).await
    }
}

/// `GET /vocab`
pub(super) async fn vocab(State(api): State<Api>) -> Response {
    match (api.engine.info(), api.engine.vocabulary().await) {
        (Some(info), Some(characters)) => Json(json!({
            "vocab_size": info.vocab_size,
            "characters": characters,
            "block_size": info.context_length,
        }))
        .into_response(),
        _ => context::not_loaded(),
    }
}

/// What a model reads that is asked for text and given none: a line's end, or the first token where the
/// tokenizer has nothing for that (a character model of this dialect begins there too).
async fn beginning(api: &Api) -> Result<Prompt, RequestError> {
    match api.engine.tokenize("\n").await {
        Ok(tokens) if !tokens.is_empty() => Ok(Prompt::Text("\n".into())),
        Err(error) if error.kind == chandler_core::ErrorKind::NotReady => Err(error),
        _ => Ok(Prompt::Tokens(vec![0])),
    }
}
