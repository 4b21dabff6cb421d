//! Chat completions: the request, the whole answer, and the chunks of a streamed one.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{
    Collected, Input, Prompt, RequestError, RowOutput, TextDelta, TextInput, Usage,
};
use serde_json::Value;

use super::logprobs;
use super::sampling::{limits, refuse, rows, sampling};
use super::types::{ChatChoice, ChatChunkChoice, ChatMessage, Delta, Envelope, Reply};
use super::{check_model, envelope, messages, renamed, streaming, terms};
use crate::api::json::{self, Fields};
use crate::api::observe::RequestId;
use crate::api::sse::{self, Frames, Writer};
use crate::api::state::Api;

const MOST_TOP: u32 = 20;

/// What a chat request asks for.
#[derive(Debug)]
pub(in crate::api) struct ChatRequest {
    pub(in crate::api) input: TextInput,
    stream: bool,
    include_usage: bool,
}

/// Reads the fields of a chat request; the model's name is looked at elsewhere.
pub(in crate::api) fn parse(fields: &Fields<'_>) -> Result<ChatRequest, RequestError> {
    refuse_unbuilt(fields)?;
    let (stream, include_usage) = streaming(fields)?;
    let logprobs = match (
        fields.boolean("logprobs")?.unwrap_or(false),
        fields.whole("top_logprobs", 0..=MOST_TOP)?,
    ) {
        (true, top) => Some(top.unwrap_or(0)),
        (false, None | Some(0)) => None,
        (false, Some(_)) => {
            let name = fields.name("top_logprobs");
            let message = format!("{name} is given without logprobs; set logprobs to true");
            return Err(RequestError::field(name, message));
        }
    };
    let input = TextInput {
        prompt: Prompt::Chat(messages::chat(fields)?),
        sampling: sampling(fields)?,
        limits: limits(fields, &["max_completion_tokens", "max_tokens"], 1)?,
        n: rows(fields)?,
        logprobs,
        ..TextInput::default()
    };
    Ok(ChatRequest {
        input,
        stream,
        include_usage,
    })
}

/// A field that we do not serve is refused by name: an answer without it would look right and be wrong.
fn refuse_unbuilt(fields: &Fields<'_>) -> Result<(), RequestError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let is_text = |value: &Value| value.get("type").and_then(Value::as_str) == Some("text");
    let only_text = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(|modality| modality == "text"))
    };
    let never = |_: &Value| false;
    refuse(
        fields,
        "response_format",
        is_text,
        "only {\"type\": \"text\"} is built",
    )?;
    refuse(fields, "functions", empty, "it was replaced by tools")?;
    refuse(
        fields,
        "function_call",
        |v| v == "none" || v == "auto",
        "it was replaced by tool_choice",
    )?;
    refuse(fields, "audio", never, "this model speaks text only")?;
    refuse(
        fields,
        "modalities",
        only_text,
        "this model speaks text only; use [\"text\"]",
    )?;
    refuse(
        fields,
        "web_search_options",
        never,
        "this worker searches nothing",
    )
}

/// Serves a chat request, whole or streamed.
pub(in crate::api) async fn answer(
    api: &Api,
    id: RequestId,
    body: &Value,
) -> Result<Response, RequestError> {
    let fields = Fields::new(json::object(body)?);
    check_model(api, &fields)?;
    let request = parse(&fields)?;
    let top = request.input.logprobs.map(|top| top as usize);
    let rows = request.input.n;
    let submitted = api.engine.submit(Input::Text(request.input)).await;
    let subscription = submitted.map_err(|error| renamed(error, "prompt", "messages".into()))?;
    if !request.stream {
        let collected = subscription.collect().await?;
        let envelope = envelope(api, &id, "chatcmpl", "chat.completion");
        return Ok(whole(&envelope, collected, top));
    }
    let writer = Chunks {
        envelope: envelope(api, &id, "chatcmpl", "chat.completion.chunk"),
        rows,
        top,
        include_usage: request.include_usage,
    };
    sse::respond(vec![subscription], writer, terms(api, id))
        .await
        .map_err(|(_, error)| error)
}

fn whole(envelope: &Envelope, collected: Collected, top: Option<usize>) -> Response {
    let rows = collected.rows.into_iter().zip(0..);
    let reply = Reply {
        envelope,
        choices: rows.map(|(row, index)| choice(row, index, top)).collect(),
        usage: Some(Some(collected.usage.into())),
    };
    Json(reply).into_response()
}

/// One row of an answer as a choice.
pub(in crate::api) fn choice(row: RowOutput, index: u32, top: Option<usize>) -> ChatChoice {
    ChatChoice {
        index,
        message: ChatMessage {
            role: "assistant",
            content: row.text,
            refusal: None,
        },
        logprobs: top.map(|top| logprobs::chat(row.tokens, top)),
        finish_reason: row.finish.map_or("stop", |finish| finish.as_str()),
    }
}

struct Chunks {
    envelope: Envelope,
    rows: u32,
    top: Option<usize>,
    include_usage: bool,
}

impl Chunks {
    fn push(&self, choice: ChatChunkChoice, frames: &mut Frames) {
        frames.push(&Reply {
            envelope: &self.envelope,
            choices: vec![choice],
            usage: self.include_usage.then_some(None),
        });
    }
}

impl Writer for Chunks {
    fn open(&mut self, frames: &mut Frames) {
        for index in 0..self.rows {
            let delta = Delta {
                role: Some("assistant"),
                content: Some(String::new()),
            };
            let choice = ChatChunkChoice {
                index,
                delta,
                logprobs: None,
                finish_reason: None,
            };
            self.push(choice, frames);
        }
    }

    fn text(&mut self, _: usize, delta: TextDelta, frames: &mut Frames) {
        let wants_tokens = self.top.is_some() && delta.tokens.iter().any(logprobs::is_shown);
        if !delta.text.is_empty() || wants_tokens {
            let choice = ChatChunkChoice {
                index: delta.row,
                delta: Delta {
                    role: None,
                    content: Some(delta.text),
                },
                logprobs: self.top.map(|top| logprobs::chat(delta.tokens, top)),
                finish_reason: None,
            };
            self.push(choice, frames);
        }
        if let Some(finish) = delta.finish {
            let choice = ChatChunkChoice {
                index: delta.row,
                delta: Delta::default(),
                logprobs: None,
                finish_reason: Some(finish.as_str()),
            };
            self.push(choice, frames);
        }
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        if self.include_usage {
            frames.push(&Reply::<ChatChunkChoice> {
                envelope: &self.envelope,
                choices: Vec::new(),
                usage: Some(Some(usage.into())),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::Content;
    use serde_json::{Map, json};

    fn read(body: Value) -> Result<ChatRequest, RequestError> {
        parse(&Fields::new(body.as_object().unwrap()))
    }

    fn with(field: &str, value: Value) -> Result<ChatRequest, RequestError> {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        read(body)
    }

    #[test]
    fn nulls_are_absent_and_unknown_fields_are_left_alone() {
        let request = with("temperature", Value::Null).unwrap();
        assert_eq!(request.input.sampling, Default::default());
        assert!(with("safety_identifier", json!({"x": 1})).is_ok());
    }

    #[test]
    fn each_violation_names_its_field() {
        let many_biases: Map<String, Value> =
            (0..1025).map(|id| (id.to_string(), json!(1))).collect();
        let many_biases = Value::Object(many_biases);
        for (field, value, named) in [
            ("temperature", json!(-1), "temperature"),
            ("temperature", json!("hot"), "temperature"),
            ("top_p", json!(0), "top_p"),
            ("max_tokens", json!(1e12), "max_tokens"),
            ("max_tokens", json!(512.5), "max_tokens"),
            ("max_tokens", json!(0), "max_tokens"),
            ("max_completion_tokens", json!(-3), "max_completion_tokens"),
            ("n", json!(129), "n"),
            ("stop", json!(["a", ""]), "stop"),
            ("stop", json!(vec!["a"; 17]), "stop"),
            ("stop", json!([" ".repeat(4000), "a".repeat(97)]), "stop"),
            ("stop_token_ids", json!(vec![1; 257]), "stop_token_ids"),
            ("logit_bias", many_biases, "logit_bias"),
            ("seed", json!(0.5), "seed"),
            ("logprobs", json!(3), "logprobs"),
            ("top_logprobs", json!(3), "top_logprobs"),
            ("logit_bias", json!({"a": 1}), "logit_bias"),
            ("logit_bias", json!({"7": 101}), "logit_bias[7]"),
            ("stream", json!("yes"), "stream"),
            (
                "stream_options",
                json!({"include_usage": true}),
                "stream_options",
            ),
            ("messages", json!([]), "messages"),
            ("messages", json!([7]), "messages[0]"),
            (
                "messages",
                json!([{"role": "pirate", "content": "x"}]),
                "messages[0].role",
            ),
            (
                "messages",
                json!([{"role": "user", "content": null}]),
                "messages[0].content",
            ),
            (
                "messages",
                json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]),
                "messages[0].content[1].type",
            ),
            (
                "response_format",
                json!({"type": "json_object"}),
                "response_format",
            ),
            ("tools", json!([{"type": "function"}]), "tools[0]"),
            ("tool_choice", json!("required"), "tool_choice"),
            ("functions", json!([{}]), "functions"),
            ("modalities", json!(["text", "audio"]), "modalities"),
            ("stop_token_ids", json!([1, -2]), "stop_token_ids[1]"),
        ] {
            let error = with(field, value.clone()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named), "{field}: {value}");
            assert!(error.message.contains(named), "{}", error.message);
        }
    }

    #[test]
    fn the_newer_limit_wins_over_the_older() {
        let body = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 9, "max_completion_tokens": 5.0});
        assert_eq!(read(body).unwrap().input.limits.max_tokens, Some(5));
    }

    #[test]
    fn parts_and_tool_calls_reach_the_template() {
        let body = json!({"tools": [{"type": "function", "function": {"name": "f"}}], "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "b"},
        ]});
        let Prompt::Chat(chat) = read(body).unwrap().input.prompt else {
            panic!("not a chat");
        };
        assert_eq!(chat.tools.len(), 1);
        assert!(
            matches!(chat.messages[0].content, Content::Parts(ref p) if p[0].text.as_deref() == Some("a"))
        );
        assert_eq!(
            chat.messages[1].rest["tool_calls"][0]["function"]["arguments"],
            json!({"x": 1})
        );
        assert_eq!(chat.messages[2].rest["tool_call_id"], "1");
    }
}
