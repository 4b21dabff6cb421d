//! Chat completions: the request, the whole answer, and the chunks of a streamed one.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{
    Collected, FinishReason, Input, Prompt, RequestError, RowOutput, TextDelta, TextInput, Usage,
};
use serde_json::Value;

use super::logprobs;
use super::sampling::{best_of, limits, refuse, rows, sampling};
use super::types::{ChatChoice, ChatChunkChoice, ChatMessage, Delta, Envelope, Reply};
use super::{RunningUsage, UsageWish, conversation, envelope, served, streaming, terms};
use crate::api::dialogue::format::{self, Form};
use crate::api::dialogue::renamed;
use crate::api::json::{self, Fields};
use crate::api::observe::RequestId;
use crate::api::sse::{self, Frames, Writer};
use crate::api::state::Api;

const MOST_TOP: u32 = 20;

/// What a chat request asks for.
#[derive(Debug)]
pub(in crate::api) struct ChatRequest {
    pub(in crate::api) input: TextInput,
    /// The form that was asked for, under the name that it was asked by.
    form: Option<Form>,
    stream: bool,
    usage: UsageWish,
}

/// Reads the fields of a chat request; the model's name is looked at elsewhere.
pub(in crate::api) fn parse(fields: &Fields<'_>) -> Result<ChatRequest, RequestError> {
    refuse_unbuilt(fields)?;
    let (stream, usage) = streaming(fields)?;
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
    let form = format::requested(fields)?;
    let n = rows(fields)?;
    let input = TextInput {
        prompt: Prompt::Chat(conversation::chat(fields)?),
        sampling: sampling(fields)?,
        limits: limits(fields, &["max_completion_tokens", "max_tokens"], 1)?,
        n,
        logprobs,
        best_of: best_of(fields, n, stream)?,
        constraint: form.as_ref().map(|form| form.constraint.clone()),
        ..TextInput::default()
    };
    Ok(ChatRequest {
        input,
        form,
        stream,
        usage,
    })
}

/// A field that we do not serve is refused by name: an answer without it would look right and be wrong.
fn refuse_unbuilt(fields: &Fields<'_>) -> Result<(), RequestError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let only_text = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(|modality| modality == "text"))
    };
    let never = |_: &Value| false;
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
    let served = served(api, &fields).await?;
    let mut request = parse(&fields)?;
    request.input.adapter = served.adapter;
    let top = request.input.logprobs.map(|top| top as usize);
    let rows = request.input.n;
    let submitted = api.engine.submit(Input::Text(request.input)).await;
    let subscription = submitted.map_err(|error| {
        let mut names = Form::names(request.form.as_ref());
        names.push(("prompt", "messages"));
        renamed(error, &names)
    })?;
    if !request.stream {
        let collected = subscription.collect().await?;
        let envelope = envelope(api, &id, served.id, ("chatcmpl", "chat.completion"));
        return Ok(whole(&envelope, collected, top));
    }
    let writer = Chunks {
        envelope: envelope(api, &id, served.id, ("chatcmpl", "chat.completion.chunk")),
        rows,
        top,
        usage: RunningUsage::new(request.usage),
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

/// One row of an answer as a choice. Its log-probabilities are those of all its tokens, in the order in which the model
/// wrote them: thoughts and calls with the marks around them as well as text.
pub(in crate::api) fn choice(row: RowOutput, index: u32, top: Option<usize>) -> ChatChoice {
    let only_calls = row.finish == Some(FinishReason::ToolCalls) && row.text.is_empty();
    ChatChoice {
        index,
        message: ChatMessage {
            role: "assistant",
            content: (!only_calls).then_some(row.text),
            reasoning_content: row.reasoning,
            refusal: None,
            tool_calls: row.tool_calls.into_iter().map(Into::into).collect(),
        },
        logprobs: top.map(|top| logprobs::chat(row.tokens, top)),
        finish_reason: row.finish.map_or("stop", |finish| finish.as_str()),
    }
}

struct Chunks {
    envelope: Envelope,
    rows: u32,
    top: Option<usize>,
    usage: RunningUsage,
}

impl Chunks {
    fn push(&self, choice: ChatChunkChoice, frames: &mut Frames) {
        frames.push(&Reply {
            envelope: &self.envelope,
            choices: vec![choice],
            usage: self.usage.of_chunk(),
        });
    }
}

impl Writer for Chunks {
    fn open(&mut self, _: Usage, frames: &mut Frames) {
        for index in 0..self.rows {
            let delta = Delta {
                role: Some("assistant"),
                content: Some(String::new()),
                ..Delta::default()
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

    fn started(&mut self, prompt_tokens: u32, cached_tokens: u32) {
        self.usage.started(prompt_tokens, cached_tokens);
    }

    fn text(&mut self, _: usize, delta: TextDelta, frames: &mut Frames) {
        self.usage.wrote(&delta);
        let wants_tokens = self.top.is_some() && delta.tokens.iter().any(logprobs::is_shown);
        let silent = delta.reasoning.is_empty() && delta.tool_calls.is_empty();
        if !delta.text.is_empty() || !silent || wants_tokens {
            let choice = ChatChunkChoice {
                index: delta.row,
                delta: Delta {
                    role: None,
                    content: (silent || !delta.text.is_empty()).then_some(delta.text),
                    reasoning_content: delta.reasoning,
                    tool_calls: delta.tool_calls.into_iter().map(Into::into).collect(),
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
        if self.usage.is_wanted() {
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
    use chandler_core::{Content, ToolCallDelta};
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
                json!({"type": "xml"}),
                "response_format.type",
            ),
            ("tools", json!([{"type": "function"}]), "tools[0].function"),
            ("best_of", json!(0), "best_of"),
            ("include_reasoning", json!("no"), "include_reasoning"),
            ("parallel_tool_calls", json!(1), "parallel_tool_calls"),
            ("guided_regex", json!(["a"]), "guided_regex"),
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
    fn each_piece_of_a_streamed_answer_is_a_chunk() {
        let piece = |id: Option<&str>, arguments: &str| ToolCallDelta {
            id: id.map(str::to_owned),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
            ..ToolCallDelta::default()
        };
        let deltas = [
            TextDelta {
                reasoning: "hm".into(),
                ..TextDelta::default()
            },
            TextDelta {
                text: "so".into(),
                tool_calls: vec![piece(Some("a"), "")],
                ..TextDelta::default()
            },
            TextDelta {
                tool_calls: vec![piece(None, "{}")],
                finish: Some(FinishReason::ToolCalls),
                ..TextDelta::default()
            },
        ];
        let mut chunks = Chunks {
            envelope: Envelope {
                id: "ID".into(),
                object: "chat.completion.chunk",
                created: 0,
                model: "m".into(),
                system_fingerprint: "FP".into(),
            },
            rows: 1,
            top: None,
            usage: RunningUsage::default(),
        };
        let mut frames = Frames::default();
        for delta in deltas {
            chunks.text(0, delta, &mut frames);
        }
        let seen: Vec<Value> = frames
            .as_str()
            .split_terminator("\n\n")
            .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
            .map(|mut chunk: Value| chunk["choices"][0].take())
            .map(|choice| json!([choice["delta"], choice["finish_reason"]]))
            .collect();
        assert_eq!(
            seen,
            [
                json!([{"reasoning_content": "hm"}, null]),
                json!([{"content": "so", "tool_calls": [
                    {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}, null]),
                json!([{"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, null]),
                json!([{}, "tool_calls"]),
            ]
        );
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
