//! Bodies without `instances`: rawPredict and streamRawPredict hand on whatever a client sent, and all of it comes to one
//! path. Which dialect a body is in is told by its fields; the answer, errors included, is in the same one.

use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use chandler_core::RequestError;
use serde_json::{Map, Value};

use super::{images, speech};
use crate::api::audio::source;
use crate::api::error::Dialect;
use crate::api::images::is_image;
use crate::api::observe::{ANTHROPIC_HEADER, RequestId};
use crate::api::openai::{chat, completions};
use crate::api::state::Api;
use crate::api::{messages, responses};

const MISSING: &str = "instances is missing; the body must be {\"instances\": [...]}, or the body of a chat (messages), \
    a completion (prompt), a response (input), a message of Anthropic's (messages with anthropic_version) or a transcription \
    (audio, audio_base64 or audio_url); of a model that draws, a prompt or a picture";

/// Fields of a body that is to be drawn; a bare prompt is told by the model.
const IMAGES: [&str; 8] = [
    "image",
    "image_base64",
    "image_url",
    "init_image",
    "init_image_url",
    "input_image_url",
    "num_inference_steps",
    "negative_prompt",
];

/// What a body without instances is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Chat,
    Completion,
    Response,
    Message,
    Speech,
    Image,
    Embeddings,
    Unknown,
}

impl Kind {
    fn of(body: &Map<String, Value>, headers: &HeaderMap) -> Self {
        let has = |key: &str| body.get(key).is_some_and(|value| !value.is_null());
        // Vertex's partner models have the version in the body; Anthropic's own API has it in a header.
        let anthropic = has("anthropic_version") || headers.contains_key("anthropic-version");
        if has("messages") {
            if anthropic { Self::Message } else { Self::Chat }
        } else if source::FIELDS.into_iter().any(has) {
            Self::Speech
        } else if IMAGES.into_iter().any(has) {
            Self::Image
        } else if let Some(input) = body.get("input").filter(|input| !input.is_null()) {
            let asks = has("encoding_format") || has("dimensions") || is_texts(input);
            if asks {
                Self::Embeddings
            } else {
                Self::Response
            }
        } else if anthropic {
            Self::Message // which misses its messages, and is told so
        } else if has("prompt") || has("model") {
            Self::Completion
        } else {
            Self::Unknown
        }
    }
}

impl Kind {
    /// A bare prompt is a completion's unless the model draws, which is known when it is loaded.
    async fn of_model(self, api: &Api) -> Self {
        let does = match self {
            Self::Completion => api.engine.loaded().await.ok(),
            Self::Unknown => api.engine.info(),
            other => return other,
        };
        match does.is_some_and(|info| is_image(info.task)) {
            true => Self::Image,
            false => self,
        }
    }
}

/// Whether these are texts or token ids to be embedded: a conversation is made of objects.
fn is_texts(input: &Value) -> bool {
    let list = input.as_array().filter(|list| !list.is_empty());
    list.is_some_and(|list| list.iter().all(|item| !item.is_object()))
}

pub(super) async fn answer(
    api: &Api,
    id: RequestId,
    headers: &HeaderMap,
    body: &Value,
) -> Response {
    let kind = match body.as_object() {
        Some(map) => Kind::of(map, headers).of_model(api).await,
        None => Kind::Unknown,
    };
    let answer = match kind {
        Kind::Chat => chat::answer(api, id, body).await,
        Kind::Completion => completions::answer(api, id, body).await,
        Kind::Response => responses::answer(api, id, body).await,
        Kind::Message => return message(api, id, body).await,
        Kind::Speech => match body.as_object() {
            Some(map) => speech::raw(api, id, map).await,
            None => Err(RequestError::field("instances", MISSING)),
        },
        Kind::Image => match body.as_object() {
            Some(map) => images::raw(api, id, map).await,
            None => Err(RequestError::field("instances", MISSING)),
        },
        Kind::Embeddings => Err(no_embeddings(api)),
        Kind::Unknown => Err(RequestError::field("instances", MISSING)),
    };
    answer.unwrap_or_else(|error| Dialect::OpenAi.error(error).into_response())
}

async fn message(api: &Api, id: RequestId, body: &Value) -> Response {
    let name = HeaderValue::from_str(&id.0);
    let mut response = messages::answered(api, id, body).await;
    if let Ok(name) = name {
        response.headers_mut().insert(ANTHROPIC_HEADER, name);
    }
    response
}

fn no_embeddings(api: &Api) -> RequestError {
    let does = api.engine.info().map_or_else(
        || "this worker makes none".to_owned(),
        |info| format!("the model loaded here does {:?}", info.task.tag()),
    );
    let message = format!("input asks for embeddings (feature-extraction); {does}");
    RequestError::unsupported("input", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_is_known_by_its_fields() {
        let of = |body: Value| Kind::of(body.as_object().unwrap(), &HeaderMap::new());
        for (body, kind) in [
            (json!({"messages": []}), Kind::Chat),
            (json!({"messages": [], "input": "a"}), Kind::Chat),
            (
                json!({"messages": [], "anthropic_version": "vertex-2023-10-16"}),
                Kind::Message,
            ),
            (
                json!({"anthropic_version": "vertex-2023-10-16"}),
                Kind::Message,
            ),
            (json!({"input": "a"}), Kind::Response),
            (
                json!({"input": [{"role": "user", "content": "a"}]}),
                Kind::Response,
            ),
            (json!({"input": "a", "prompt": {"id": "b"}}), Kind::Response),
            (
                json!({"input": "a", "encoding_format": "float"}),
                Kind::Embeddings,
            ),
            (json!({"input": ["a", "b"]}), Kind::Embeddings),
            (json!({"input": [1.0, 2.0]}), Kind::Embeddings),
            (json!({"input": []}), Kind::Response),
            (json!({"input": null, "prompt": "a"}), Kind::Completion),
            (json!({"model": "m"}), Kind::Completion),
            (
                json!({"model": "m", "audio_url": "a", "prompt": "b"}),
                Kind::Speech,
            ),
            (json!({"prompt": "a", "image_url": "b"}), Kind::Image),
            (
                json!({"prompt": "a", "negative_prompt": null}),
                Kind::Completion,
            ),
            (json!({"messages": [], "audio": {}}), Kind::Chat),
            (json!({"audio": null}), Kind::Unknown),
            (json!({"inputs": "a"}), Kind::Unknown),
            (json!({}), Kind::Unknown),
        ] {
            assert_eq!(of(body.clone()), kind, "{body}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        let body = json!({"messages": []});
        assert_eq!(Kind::of(body.as_object().unwrap(), &headers), Kind::Message);
    }
}
