//! A conversation as a template sees it: transformers' `apply_chat_template` up to the rendering (null keys dropped, reasoning under
//! all its names), and what becomes of content in parts.

use chandler_core::RequestError;
use chandler_core::input::{Content, Message, Part};
use serde_json::{Map, Value, json};

/// A message as the template gets it.
pub(super) type Fields = Map<String, Value>;

/// Names of a message's reasoning (`_REASONING_FIELDS`); the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// In what form a template takes the content of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Takes {
    /// Text, whole: parts are joined.
    #[default]
    Text,
    /// Text, or a list of parts that it goes through.
    Either,
    /// Only a list of parts: text alone would be left out.
    Parts,
}

/// In what form a template takes content, found out by trying (see [`ContentForms::of`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ContentForms {
    system: Takes,
    user: Takes,
    assistant: Takes,
    tool: Takes,
}

impl ContentForms {
    /// Renders small conversations with the content of each role as text and as parts, and looks at whether it shows up. vLLM looks
    /// for a loop over `message.content` in the syntax tree instead, and llama.cpp tries, as this does: a loop that is there and
    /// never entered misleads the former, and the roles of one template may differ.
    pub(super) fn of(render: impl Fn(Vec<Fields>) -> Option<String>) -> Self {
        const NEEDLE: &str = "needle-in-a-haystack";
        let question = || turn("user", json!("Question?"));
        let takes = |role: &str| {
            let shows = |content: Value| {
                let mut conversation = vec![turn(role, content)];
                match role {
                    "user" => {}
                    "system" => conversation.push(question()),
                    "tool" => {
                        let mut call = turn("assistant", json!(""));
                        call.insert("tool_calls".into(), json!([{"id": "call00000", "type": "function", "function": {"name": "f", "arguments": {}}}]));
                        if let Some(tool) = conversation.first_mut() {
                            tool.insert("tool_call_id".into(), json!("call00000"));
                            tool.insert("name".into(), json!("f"));
                        }
                        conversation.splice(0..0, [question(), call]);
                    }
                    _ => {
                        conversation.insert(0, question());
                        conversation.push(question());
                    }
                }
                render(conversation).is_some_and(|text| {
                    // A list that is printed whole shows the names of its keys.
                    text.contains(NEEDLE)
                        && !text.contains("'text': ")
                        && !text.contains("\"text\": ")
                })
            };
            let parts = shows(json!([{"type": "text", "text": NEEDLE}]));
            match (parts, parts && shows(json!(NEEDLE))) {
                (false, _) => Takes::Text,
                (true, true) => Takes::Either,
                (true, false) => Takes::Parts,
            }
        };
        Self {
            system: takes("system"),
            user: takes("user"),
            assistant: takes("assistant"),
            tool: takes("tool"),
        }
    }

    fn role(self, role: &str) -> Takes {
        match role {
            "system" | "developer" => self.system,
            "assistant" => self.assistant,
            "tool" | "function" | "ipython" => self.tool,
            _ => self.user,
        }
    }
}

fn turn(role: &str, content: Value) -> Fields {
    let mut fields = Fields::new();
    fields.insert("role".into(), role.into());
    fields.insert("content".into(), content);
    fields
}

/// Refuses content that is no text, naming where it stands.
pub(super) fn text_only(messages: &[Message]) -> Result<(), RequestError> {
    for (index, message) in messages.iter().enumerate() {
        let Content::Parts(parts) = &message.content else {
            continue;
        };
        if let Some(other) = parts.iter().position(|part| part.kind != "text") {
            return Err(not_text(index, other, parts));
        }
    }
    Ok(())
}

fn not_text(message: usize, part: usize, parts: &[Part]) -> RequestError {
    let field = format!("messages[{message}].content[{part}]");
    let kind = parts.get(part).map_or("", |part| part.kind.as_str());
    let text =
        format!("{field} is of type {kind:?}; this model takes parts of type \"text\" alone");
    RequestError::unsupported(field, text)
}

/// The messages as the template gets them.
pub(super) fn fields(
    messages: &[Message],
    forms: ContentForms,
) -> Result<Vec<Fields>, RequestError> {
    messages
        .iter()
        .enumerate()
        .map(|(index, message)| {
            let mut fields = Fields::new();
            fields.insert("role".into(), message.role.as_str().into());
            if let Some(content) = content(index, message, forms.role(&message.role))? {
                fields.insert("content".into(), content);
            }
            for (name, value) in &message.rest {
                if !value.is_null() {
                    fields.insert(name.clone(), value.clone());
                }
            }
            Ok(with_reasoning(fields))
        })
        .collect()
}

fn content(index: usize, message: &Message, takes: Takes) -> Result<Option<Value>, RequestError> {
    match &message.content {
        Content::Null => Ok(None),
        Content::Text(text) => Ok(Some(match takes {
            Takes::Text | Takes::Either => text.as_str().into(),
            Takes::Parts => json!([{"type": "text", "text": text}]),
        })),
        Content::Parts(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for (at, part) in parts.iter().enumerate() {
                match (&part.text, part.kind.as_str()) {
                    (Some(text), "text") => texts.push(text.as_str()),
                    (None, "text") => {
                        let field = format!("messages[{index}].content[{at}].text");
                        let text = format!("{field} is missing; a part of type \"text\" has one");
                        return Err(RequestError::field(field, text));
                    }
                    _ if takes == Takes::Text => return Err(not_text(index, at, parts)),
                    _ => {}
                }
            }
            if takes == Takes::Text {
                // As vLLM and the OpenAI-compatible servers do for such templates.
                return Ok(Some(texts.join("\n").into()));
            }
            serde_json::to_value(parts).map(Some).map_err(|error| {
                RequestError::internal(format!("messages[{index}].content: {error}"))
            })
        }
    }
}

/// `_alias_reasoning_fields`: `{"thinking": r, **message, "reasoning_content": r}`.
fn with_reasoning(message: Fields) -> Fields {
    let Some(reasoning) = REASONING
        .iter()
        .find_map(|name| message.get(*name))
        .cloned()
    else {
        return message;
    };
    let mut aliased = Fields::new();
    aliased.insert("thinking".into(), reasoning.clone());
    aliased.extend(message);
    aliased.insert("reasoning_content".into(), reasoning);
    aliased
}
