//! Turns of a conversation as chat templates know them, for dialects that write theirs otherwise.

use chandler_core::{Content, Message, Part};
use serde_json::{Map, Value, json};

/// A text part.
pub(in crate::api) fn text_part(text: &str) -> Part {
    Part {
        kind: "text".into(),
        text: Some(text.to_owned()),
        rest: Map::new(),
    }
}

/// Texts as a turn's content: one of them as it is, several as parts, none as an empty text.
pub(in crate::api) fn spoken(mut texts: Vec<String>) -> Content {
    match (texts.len(), texts.pop()) {
        (_, None) => Content::Text(String::new()),
        (1, Some(text)) => Content::Text(text),
        (_, Some(last)) => {
            let parts = texts.iter().chain([&last]).map(|text| text_part(text));
            Content::Parts(parts.collect())
        }
    }
}

/// An assistant's turn, put together from what a dialect has in pieces.
#[derive(Debug, Default)]
pub(in crate::api) struct Assistant {
    pub(in crate::api) texts: Vec<String>,
    pub(in crate::api) thoughts: String,
    calls: Vec<Value>,
}

impl Assistant {
    pub(in crate::api) fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.calls.is_empty()
    }

    pub(in crate::api) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Adds a call; templates want its arguments as an object.
    pub(in crate::api) fn call(&mut self, id: &str, name: &str, arguments: Value) {
        let function = json!({"name": name, "arguments": arguments});
        self.calls
            .push(json!({"id": id, "type": "function", "function": function}));
    }

    /// The turn. Thoughts go where Qwen's templates look for them.
    pub(in crate::api) fn message(self) -> Message {
        let mut rest = Map::new();
        if !self.thoughts.is_empty() {
            rest.insert("reasoning_content".into(), self.thoughts.into());
        }
        if !self.calls.is_empty() {
            rest.insert("tool_calls".into(), self.calls.into());
        }
        Message {
            role: "assistant".into(),
            // Why never null: simple templates write a null out as a word.
            content: spoken(self.texts),
            rest,
        }
    }
}

/// What a tool gave back.
pub(in crate::api) fn tool_result(call_id: &str, content: Content) -> Message {
    let mut rest = Map::new();
    rest.insert("tool_call_id".into(), call_id.into());
    Message {
        role: "tool".into(),
        content,
        rest,
    }
}

/// The arguments of a call, which OpenAI sends as a text of JSON: the object where it is one, else the text.
pub(in crate::api) fn opened(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(object @ Value::Object(_)) => object,
        _ => arguments.into(),
    }
}
