//! A message as it goes over the wire: its content blocks, why it ended, and what it cost.

use chandler_core::{FinishReason, RowOutput, Usage};
use serde_json::{Value, json};

use crate::api::dialogue::blocks::{self, Block};
use crate::api::observe::RequestId;

/// What every version of one message has in common.
#[derive(Debug)]
pub(super) struct Face {
    id: String,
    model: String,
}

impl Face {
    pub(super) fn new(id: &RequestId, model: String) -> Self {
        Self {
            id: format!("msg_{}", id.0),
            model,
        }
    }

    /// The message before it has any content.
    pub(super) fn begun(&self, read: Usage) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage_body(read),
        })
    }

    /// The whole message. A call that was cut off by the limit is left out: its input is no object.
    pub(super) fn whole(&self, row: &RowOutput, usage: Usage) -> Value {
        let blocks = blocks::whole(row).into_iter();
        let content = blocks.filter_map(|(block, text)| match block {
            Block::Call { id, name } => {
                let input: Value = serde_json::from_str(&text).ok()?;
                let input = input.is_object().then_some(input)?;
                Some(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
            }
            block => Some(begin(&block, &text)),
        });
        let mut message = self.begun(usage);
        message["content"] = content.collect();
        message["stop_reason"] = stop_reason(row.finish, row.stop.as_deref()).into();
        message["stop_sequence"] = json!(row.stop);
        message
    }
}

/// A block with this text in it; a call's input begins empty and comes in pieces.
pub(super) fn begin(block: &Block, text: &str) -> Value {
    match block {
        // The signature proves thoughts to Anthropic's own models; there is nothing to prove here.
        Block::Thoughts => json!({"type": "thinking", "thinking": text, "signature": ""}),
        Block::Text => json!({"type": "text", "text": text}),
        Block::Call { id, name } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": {}})
        }
    }
}

/// Why it ended, in this dialect's words.
pub(super) fn stop_reason(finish: Option<FinishReason>, stop: Option<&str>) -> &'static str {
    match (finish, stop) {
        (Some(FinishReason::Length), _) => "max_tokens",
        (Some(FinishReason::ToolCalls), _) => "tool_use",
        (_, Some(_)) => "stop_sequence",
        _ => "end_turn",
    }
}

/// In this dialect what was found in the cache is counted beside what was read, not within it.
pub(super) fn usage_body(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens.saturating_sub(usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::ToolCall;

    #[test]
    fn a_call_that_was_cut_off_is_left_out() {
        let call = |arguments: &str| ToolCall {
            id: "t".into(),
            name: "f".into(),
            arguments: arguments.into(),
        };
        let row = RowOutput {
            tool_calls: vec![call("{\"a\": 1}"), call("{\"a\"")],
            finish: Some(FinishReason::Length),
            ..RowOutput::default()
        };
        let face = Face::new(&RequestId("x".into()), "m".into());
        let message = face.whole(&row, Usage::default());
        assert_eq!(
            message["content"],
            json!([{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}])
        );
        assert_eq!(message["stop_reason"], "max_tokens");
    }
}
