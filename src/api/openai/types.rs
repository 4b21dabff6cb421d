//! The answers of OpenAI's routes, as they go over the wire.

use chandler_core::{ToolCall, ToolCallDelta, Usage};
use serde::Serialize;

use super::logprobs::{ChatLogprobs, TextLogprobs};

/// What every object and chunk of one answer has in common.
#[derive(Debug, Clone, Serialize)]
pub(in crate::api) struct Envelope {
    pub(in crate::api) id: String,
    pub(in crate::api) object: &'static str,
    pub(in crate::api) created: u64,
    pub(in crate::api) model: String,
    pub(in crate::api) system_fingerprint: String,
}

/// A whole answer, or a chunk of one.
#[derive(Debug, Serialize)]
pub(in crate::api) struct Reply<'a, C> {
    #[serde(flatten)]
    pub(in crate::api) envelope: &'a Envelope,
    pub(in crate::api) choices: Vec<C>,
    /// Absent where nobody asked for it; `Some(None)` is the null of a chunk before the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) usage: Option<Option<UsageBody>>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::api) struct UsageBody {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptTokens,
    completion_tokens_details: CompletionTokens,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PromptTokens {
    cached_tokens: u32,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct CompletionTokens {
    reasoning_tokens: u32,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptTokens {
                cached_tokens: usage.cached_tokens,
            },
            completion_tokens_details: CompletionTokens {
                reasoning_tokens: usage.reasoning_tokens,
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct ChatChoice {
    pub(in crate::api) index: u32,
    pub(in crate::api) message: ChatMessage,
    pub(in crate::api) logprobs: Option<ChatLogprobs>,
    pub(in crate::api) finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct ChatMessage {
    pub(in crate::api) role: &'static str,
    /// Null where the answer only calls tools.
    pub(in crate::api) content: Option<String>,
    /// What the model thought: the name that DeepSeek, SGLang and llama.cpp have for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::api) reasoning_content: String,
    /// The client's type has the field; null is what it expects of a model that cannot refuse.
    pub(in crate::api) refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) tool_calls: Vec<CallBody>,
}

/// A tool call of a whole answer.
#[derive(Debug, Serialize)]
pub(in crate::api) struct CallBody {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionBody,
}

#[derive(Debug, Serialize)]
struct FunctionBody {
    name: String,
    arguments: String,
}

impl From<ToolCall> for CallBody {
    fn from(call: ToolCall) -> Self {
        Self {
            id: call.id,
            kind: "function",
            function: FunctionBody {
                name: call.name,
                arguments: call.arguments,
            },
        }
    }
}

/// A piece of a tool call. The first of each call has id, type and name.
#[derive(Debug, Serialize)]
pub(in crate::api) struct CallPiece {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionPiece,
}

#[derive(Debug, Serialize)]
struct FunctionPiece {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

impl From<ToolCallDelta> for CallPiece {
    fn from(piece: ToolCallDelta) -> Self {
        Self {
            index: piece.index,
            kind: piece.id.is_some().then_some("function"),
            id: piece.id,
            function: FunctionPiece {
                name: piece.name,
                arguments: piece.arguments,
            },
        }
    }
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct ChatChunkChoice {
    pub(in crate::api) index: u32,
    pub(in crate::api) delta: Delta,
    pub(in crate::api) logprobs: Option<ChatLogprobs>,
    pub(in crate::api) finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
pub(in crate::api) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::api) content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(in crate::api) reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) tool_calls: Vec<CallPiece>,
}

/// A choice of `/v1/completions`, whole or in a chunk.
#[derive(Debug, Serialize)]
pub(in crate::api) struct TextChoice {
    pub(in crate::api) index: u32,
    pub(in crate::api) text: String,
    pub(in crate::api) logprobs: Option<TextLogprobs>,
    pub(in crate::api) finish_reason: Option<&'static str>,
}
