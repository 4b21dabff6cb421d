//! What the mock says besides the prompt's words: thoughts, tool calls, and JSON in a form that was asked for. Apart from
//! the pipeline because it is all decided when a request is prepared, and then only spoken.

use serde_json::{Map, Value, json};

use crate::error::RequestError;
use crate::event::{FinishReason, TextDelta, ToolCallDelta};
use crate::form::{Constraint, Reasoning, ToolChoice};
use crate::input::{Chat, Prompt, TextInput};

/// A prompt with this word among its words is thought about first.
pub const THINK: &str = "!think";
/// Each of these words in a prompt calls a tool, where there are tools.
pub const CALL: &str = "!call";
/// What it thinks, a piece a step.
const THOUGHTS: [&str; 3] = ["hm", " so", " well"];
/// How much of a scripted text comes in a step: small, so that names and numbers are cut.
const PIECE_CHARS: usize = 7;
/// How deep a schema is followed; recursive ones end here.
const DEPTH: usize = 8;

/// What is said before the prompt's words, or instead of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pieces: Vec<Piece>,
    /// How it ends, where no words of the prompt follow.
    end: Option<FinishReason>,
    thoughts: u32,
}

#[derive(Debug, Clone)]
enum Piece {
    Thought(String),
    /// A thought that nobody is given.
    Hidden,
    Text(String),
    Call(ToolCallDelta),
}

impl Script {
    /// Decides what to say.
    ///
    /// # Errors
    /// A form that the mock has no words for.
    pub(super) fn of(input: &TextInput, words: &[String]) -> Result<Self, RequestError> {
        let mut script = Self::default();
        if words.iter().any(|word| word == THINK) {
            script.think(match &input.prompt {
                Prompt::Chat(chat) => chat.reasoning,
                _ => Reasoning::Inline,
            });
        }
        let calls = match &input.prompt {
            Prompt::Chat(chat) => calls(chat, words),
            _ => Vec::new(),
        };
        if !calls.is_empty() {
            script.call(&calls);
        } else if let Some(constraint) = &input.constraint {
            script.say(&in_form(constraint)?);
        }
        Ok(script)
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn end(&self) -> Option<FinishReason> {
        self.end
    }

    /// How many of the first `said` pieces are thoughts.
    pub(super) fn thoughts(&self, said: usize) -> u32 {
        self.thoughts.min(said as u32)
    }

    /// The piece at a position, and the bytes of its token.
    pub(super) fn piece(&self, position: usize) -> Option<(TextDelta, Vec<u8>)> {
        let mut delta = TextDelta::default();
        let bytes = match self.pieces.get(position)? {
            Piece::Thought(text) => {
                delta.reasoning = text.clone();
                text.clone().into_bytes()
            }
            Piece::Hidden => Vec::new(),
            Piece::Text(text) => {
                delta.text = text.clone();
                text.clone().into_bytes()
            }
            Piece::Call(call) => {
                delta.tool_calls = vec![call.clone()];
                call.arguments.clone().into_bytes()
            }
        };
        Some((delta, bytes))
    }

    fn think(&mut self, reasoning: Reasoning) {
        self.thoughts = THOUGHTS.len() as u32;
        let thoughts = THOUGHTS.iter().map(|thought| (*thought).to_owned());
        match reasoning {
            Reasoning::Separated => self.pieces.extend(thoughts.map(Piece::Thought)),
            Reasoning::Stripped => self.pieces.extend(thoughts.map(|_| Piece::Hidden)),
            Reasoning::Inline => {
                let mut thoughts: Vec<String> = thoughts.collect();
                if let Some(first) = thoughts.first_mut() {
                    first.insert_str(0, "<think>");
                }
                if let Some(last) = thoughts.last_mut() {
                    last.push_str("</think>");
                }
                self.pieces.extend(thoughts.into_iter().map(Piece::Text));
            }
        }
    }

    fn call(&mut self, calls: &[(String, Value)]) {
        for (index, (name, arguments)) in (0..).zip(calls) {
            let first = ToolCallDelta {
                index,
                id: Some(format!("call_{index}")),
                name: Some(name.clone()),
                arguments: String::new(),
            };
            self.pieces.push(Piece::Call(first));
            for arguments in cut(&arguments.to_string()) {
                self.pieces.push(Piece::Call(ToolCallDelta {
                    index,
                    arguments,
                    ..ToolCallDelta::default()
                }));
            }
        }
        self.end = Some(FinishReason::ToolCalls);
    }

    fn say(&mut self, text: &str) {
        self.pieces.extend(cut(text).into_iter().map(Piece::Text));
        self.end = Some(FinishReason::Stop);
    }
}

fn cut(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(PIECE_CHARS)
        .map(|piece| piece.iter().collect())
        .collect()
}

/// The tools to call, with arguments that their parameters' schema accepts.
fn calls(chat: &Chat, words: &[String]) -> Vec<(String, Value)> {
    let wanted = words.iter().filter(|word| *word == CALL).count();
    let (named, wanted) = match &chat.tool_choice {
        ToolChoice::None => return Vec::new(),
        ToolChoice::Auto => (None, wanted),
        ToolChoice::Required => (None, wanted.max(1)),
        ToolChoice::Named(name) => (Some(name.as_str()), wanted.max(1)),
    };
    let most = if chat.one_tool_call { 1 } else { wanted };
    let tools = chat.tools.iter().filter_map(|tool| {
        let function = tool.get("function")?;
        let name = function.get("name")?.as_str()?;
        let parameters = function.get("parameters").cloned().unwrap_or(json!({}));
        named
            .is_none_or(|named| named == name)
            .then(|| (name.to_owned(), arguments(&parameters)))
    });
    let tools: Vec<(String, Value)> = tools.collect();
    let repeated = tools.iter().cycle().take(if tools.is_empty() {
        0
    } else {
        wanted.min(most)
    });
    repeated.cloned().collect()
}

fn arguments(parameters: &Value) -> Value {
    match sample(parameters, parameters, DEPTH) {
        object @ Value::Object(_) => object,
        _ => json!({}),
    }
}

/// Text of a form.
fn in_form(constraint: &Constraint) -> Result<String, RequestError> {
    match constraint {
        Constraint::JsonObject => Ok(json!({"wick": true}).to_string()),
        Constraint::JsonSchema(schema) => Ok(sample(schema, schema, DEPTH).to_string()),
        Constraint::Choice(texts) => texts.first().cloned().ok_or_else(|| {
            RequestError::field("constraint", "constraint has no text to choose from")
        }),
        Constraint::Regex(_) | Constraint::Grammar(_) => Err(RequestError::unsupported(
            "constraint",
            "the mock has no words for a constraint by expression or grammar",
        )),
    }
}

/// The simplest value that a schema accepts, as far as the mock knows schemas.
fn sample(root: &Value, schema: &Value, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else {
        return Value::Null;
    };
    let first = |key: &str| schema.get(key)?.as_array()?.first();
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = target.strip_prefix('#').and_then(|at| root.pointer(at));
        return target.map_or(Value::Null, |target| sample(root, target, depth));
    }
    if let Some(value) = schema.get("const").or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(choice) = ["anyOf", "oneOf", "allOf"].into_iter().find_map(first) {
        return sample(root, choice, depth);
    }
    let kind = schema.get("type").and_then(|kind| match kind {
        Value::Array(kinds) => kinds.first()?.as_str(),
        kind => kind.as_str(),
    });
    match kind {
        Some("string") => json!("wick"),
        Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(7)),
        Some("number") => schema.get("minimum").cloned().unwrap_or(json!(0.5)),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        Some("array") => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            json!([sample(root, items, depth)])
        }
        _ => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let object: Map<String, Value> = properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), sample(root, schema, depth)))
                .collect();
            Value::Object(object)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_follows_references_choices_and_types() {
        let schema = json!({
            "type": "object",
            "$defs": {"colour": {"enum": ["red", "blue"]}},
            "properties": {
                "colour": {"$ref": "#/$defs/colour"},
                "tags": {"type": "array", "items": {"type": ["string", "null"]}},
                "size": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]},
            },
        });
        assert_eq!(
            sample(&schema, &schema, DEPTH),
            json!({"colour": "red", "tags": ["wick"], "size": 3})
        );
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(sample(&schema, &schema, DEPTH).is_object());
    }
}
