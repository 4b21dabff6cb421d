//! The response object and its items, as they go over the wire, whole and in a stream's events.

use chandler_core::{FinishReason, RequestError, RowOutput, Usage};
use serde_json::{Map, Value, json};

use crate::api::dialogue::blocks::{self, Block};
use crate::api::error::openai_body;
use crate::api::observe::RequestId;
use crate::api::openai::logprobs;
use crate::api::state::unix_seconds;

/// What every version of one response object has in common.
#[derive(Debug)]
pub(super) struct Face {
    id: String,
    base: Map<String, Value>,
}

/// An item's or a response's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
}

impl Status {
    pub(super) fn of(finish: Option<FinishReason>) -> Self {
        match finish {
            Some(FinishReason::Length) => Self::Incomplete,
            _ => Self::Completed,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

impl Face {
    /// `echoed` is what the object repeats of the request.
    pub(super) fn new(id: &RequestId, model: String, echoed: Map<String, Value>) -> Self {
        let mut base = Map::new();
        base.insert("id".into(), format!("resp_{}", id.0).into());
        base.insert("object".into(), "response".into());
        base.insert("created_at".into(), unix_seconds().into());
        base.insert("model".into(), model.into());
        base.extend(echoed);
        Self {
            id: id.0.clone(),
            base,
        }
    }

    /// The object in a state, with the items that are whole and the usage where it is known.
    pub(super) fn object(&self, status: Status, output: &[Value], usage: Option<Usage>) -> Value {
        let mut object = self.base.clone();
        let incomplete = match status {
            Status::Incomplete => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        let completed_at = match status {
            Status::Completed => unix_seconds().into(),
            _ => Value::Null,
        };
        object.insert("status".into(), status.as_str().into());
        object.insert("completed_at".into(), completed_at);
        object.insert("error".into(), Value::Null);
        object.insert("incomplete_details".into(), incomplete);
        object.insert("output".into(), output.into());
        object.insert("usage".into(), usage.map_or(Value::Null, usage_body));
        Value::Object(object)
    }

    /// The object of an answer that failed after it had begun.
    pub(super) fn failed(&self, error: &RequestError, output: &[Value]) -> Value {
        let mut object = self.object(Status::InProgress, output, None);
        let message = &openai_body(error)["error"]["message"];
        object["status"] = "failed".into();
        object["error"] = json!({"code": "server_error", "message": message});
        object
    }

    /// The object of a whole answer.
    pub(super) fn whole(&self, row: RowOutput, usage: Usage, top: Option<usize>) -> Value {
        let status = Status::of(row.finish);
        let mut blocks = blocks::whole(&row);
        if !blocks.iter().any(|(block, _)| *block != Block::Thoughts) {
            blocks.push((Block::Text, String::new()));
        }
        let mut logprobs = top.map(|top| logprobs::content(row.tokens, top));
        let last = blocks.len();
        let items = blocks.into_iter().enumerate().map(|(i, (block, text))| {
            let logprobs = match block {
                Block::Text => logprobs.take(),
                _ => None,
            };
            let content = Item {
                text: &text,
                logprobs: logprobs.unwrap_or_else(|| json!([])),
                status: if i + 1 == last {
                    status
                } else {
                    Status::Completed
                },
            };
            content.of(&block, &self.item_id(&block, i))
        });
        let output: Vec<Value> = items.collect();
        self.object(status, &output, Some(usage))
    }

    /// An item's id.
    pub(super) fn item_id(&self, block: &Block, number: usize) -> String {
        let prefix = match block {
            Block::Thoughts => "rs",
            Block::Text => "msg",
            Block::Call { .. } => "fc",
        };
        format!("{prefix}_{}_{number}", self.id)
    }
}

/// What is in an item.
pub(super) struct Item<'a> {
    pub(super) text: &'a str,
    /// A list; of text only.
    pub(super) logprobs: Value,
    pub(super) status: Status,
}

impl Item<'_> {
    /// The item. One that is in progress has no part yet: parts have events of their own.
    pub(super) fn of(self, block: &Block, id: &str) -> Value {
        let status = self.status;
        let parts = match (status, part(block, self.text, self.logprobs)) {
            (Status::InProgress, _) | (_, None) => json!([]),
            (_, Some(part)) => json!([part]),
        };
        let status = status.as_str();
        match block {
            Block::Thoughts => {
                json!({"type": "reasoning", "id": id, "summary": [], "content": parts, "status": status})
            }
            Block::Text => {
                json!({"type": "message", "id": id, "role": "assistant", "content": parts, "status": status})
            }
            Block::Call { id: call_id, name } => json!({
                "type": "function_call", "id": id, "call_id": call_id, "name": name, "arguments": self.text, "status": status,
            }),
        }
    }
}

/// The part that an item's text is in; a call has none.
pub(super) fn part(block: &Block, text: &str, logprobs: Value) -> Option<Value> {
    match block {
        Block::Thoughts => Some(json!({"type": "reasoning_text", "text": text})),
        Block::Text => Some(
            json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}),
        ),
        Block::Call { .. } => None,
    }
}

fn usage_body(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens.saturating_add(usage.completion_tokens),
    })
}
