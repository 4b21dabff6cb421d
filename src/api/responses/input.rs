//! The input of a request for a response: a text, or items (messages, calls, their outputs, thoughts), as the turns that a
//! chat template knows.

use chandler_core::{Message, RequestError};
use serde_json::{Map, Value};

use crate::api::dialogue::turns::{Assistant, opened, spoken, tool_result};
use crate::api::json::{Fields, wrong};

const INPUT: &str = "a string or an array of items";
const ROLES: &str = "one of developer, system, user, assistant";

/// The conversation: instructions first, then the input.
pub(super) fn messages(fields: &Fields<'_>) -> Result<Vec<Message>, RequestError> {
    let mut turns = Turns::default();
    if let Some(instructions) = fields.string("instructions")? {
        turns.done.push(Message::text("system", instructions));
    }
    let found = fields.find("input");
    let found = found.ok_or_else(|| fields.missing("input", INPUT))?;
    match found.value {
        Value::String(text) => turns.done.push(Message::text("user", text)),
        Value::Array(items) if items.is_empty() => {
            let message = format!("{} is empty; it must have at least one item", found.name);
            return Err(RequestError::field(found.name, message));
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let path = format!("{}[{i}]", found.name);
                let Some(map) = item.as_object() else {
                    return Err(wrong(&path, item, "an object"));
                };
                turns.item(&Fields::within(path, map))?;
            }
        }
        other => return Err(wrong(&found.name, other, INPUT)),
    }
    turns.close();
    Ok(turns.done)
}

/// Turns so far. Thoughts, text and calls that follow each other are one turn of the assistant's.
#[derive(Debug, Default)]
struct Turns {
    done: Vec<Message>,
    assistant: Assistant,
}

impl Turns {
    fn close(&mut self) {
        let turn = std::mem::take(&mut self.assistant);
        // Thoughts alone are left out: they belong to an answer that is not here.
        if !turn.is_empty() {
            self.done.push(turn.message());
        }
    }

    fn item(&mut self, item: &Fields<'_>) -> Result<(), RequestError> {
        let kind = match item.string("type")? {
            Some(kind) => kind,
            None if item.has("role") => "message",
            None => return Err(item.missing("type", "an item's type, such as \"message\"")),
        };
        match kind {
            "message" => self.message(item),
            "function_call" => self.call(item),
            "function_call_output" => {
                let call_id = required(item, "call_id")?;
                let found = item.find("output");
                let found = found
                    .ok_or_else(|| item.missing("output", "a string or an array of text parts"))?;
                let texts = texts(&found.name, found.value)?;
                self.close();
                self.done.push(tool_result(call_id, spoken(texts)));
                Ok(())
            }
            "reasoning" => self.thoughts(item),
            other => {
                let name = item.name("type");
                let message = format!(
                    "{name} is {other:?}; this worker takes message, function_call, function_call_output and reasoning"
                );
                Err(RequestError::unsupported(name, message))
            }
        }
    }

    fn message(&mut self, item: &Fields<'_>) -> Result<(), RequestError> {
        let role = required(item, "role")?;
        if !matches!(role, "developer" | "system" | "user" | "assistant") {
            return Err(wrong(&item.name("role"), &role.into(), ROLES));
        }
        let found = item.find("content");
        let found =
            found.ok_or_else(|| item.missing("content", "a string or an array of text parts"))?;
        let texts = texts(&found.name, found.value)?;
        if role == "assistant" {
            // Why: text after a call is an answer of its own.
            if self.assistant.has_calls() {
                self.close();
            }
            self.assistant.texts.extend(texts);
            return Ok(());
        }
        self.close();
        self.done.push(Message {
            role: role.to_owned(),
            content: spoken(texts),
            rest: Map::new(),
        });
        Ok(())
    }

    fn call(&mut self, item: &Fields<'_>) -> Result<(), RequestError> {
        let call_id = required(item, "call_id")?;
        let (name, arguments) = (required(item, "name")?, required(item, "arguments")?);
        self.assistant.call(call_id, name, opened(arguments));
        Ok(())
    }

    /// What the model thought, where it is in the clear; summaries and what is encrypted are not its words.
    fn thoughts(&mut self, item: &Fields<'_>) -> Result<(), RequestError> {
        if !self.assistant.is_empty() {
            self.close();
        }
        for (j, part) in item.array("content")?.into_iter().flatten().enumerate() {
            let path = format!("{}[{j}]", item.name("content"));
            let Some(map) = part.as_object() else {
                return Err(wrong(&path, part, "an object with type and text"));
            };
            let text = Fields::within(path, map).string("text")?;
            self.assistant.thoughts.push_str(text.unwrap_or_default());
        }
        Ok(())
    }
}

fn required<'a>(fields: &Fields<'a>, key: &str) -> Result<&'a str, RequestError> {
    let found = fields.string(key)?;
    found.ok_or_else(|| fields.missing(key, "a string"))
}

/// The texts of a content: itself, or its parts.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, RequestError> {
    let parts = match value {
        Value::String(text) => return Ok(vec![text.clone()]),
        Value::Array(parts) => parts,
        other => return Err(wrong(name, other, "a string or an array of text parts")),
    };
    let text = |(j, part): (usize, &Value)| {
        let path = format!("{name}[{j}]");
        let Some(map) = part.as_object() else {
            return Err(wrong(&path, part, "an object with type and text"));
        };
        let fields = Fields::within(path, map);
        let key = match fields.string("type")? {
            Some("input_text" | "output_text" | "text") => "text",
            Some("refusal") => "refusal",
            Some(kind) => {
                let name = fields.name("type");
                let message = format!("{name} is {kind:?}; this model takes text parts only");
                return Err(RequestError::unsupported(name, message));
            }
            None => return Err(fields.missing("type", "\"input_text\" or \"output_text\"")),
        };
        required(&fields, key).map(str::to_owned)
    };
    parts.iter().enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Value, RequestError> {
        messages(&Fields::new(body.as_object().unwrap())).map(|turns| json!(turns))
    }

    #[test]
    fn items_become_the_turns_that_a_template_knows() {
        let turns = read(json!({"instructions": "Be brief.", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{\"city\": \"Rome\"}"},
            {"type": "function_call", "call_id": "c2", "name": "w", "arguments": "broken"},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "error"}]},
            {"role": "user", "content": "So?"},
        ]}));
        let call = |id: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": "w", "arguments": arguments}});
        assert_eq!(
            turns.unwrap(),
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "Let me see.", "reasoning_content": "hm",
                 "tool_calls": [call("c1", json!({"city": "Rome"})), call("c2", json!("broken"))]},
                {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
                {"role": "tool", "content": "error", "tool_call_id": "c2"},
                {"role": "user", "content": "So?"},
            ])
        );
        assert_eq!(
            read(json!({"input": "hi"})).unwrap(),
            json!([{"role": "user", "content": "hi"}])
        );
    }

    #[test]
    fn an_item_that_will_not_do_is_named() {
        for (input, field) in [
            (json!(7), "input"),
            (json!([]), "input"),
            (json!(["a"]), "input[0]"),
            (json!([{}]), "input[0].type"),
            (json!([{"role": "tool", "content": "a"}]), "input[0].role"),
            (json!([{"role": "user"}]), "input[0].content"),
            (
                json!([{"role": "user", "content": [{"type": "input_image"}]}]),
                "input[0].content[0].type",
            ),
            (
                json!([{"type": "item_reference", "id": "a"}]),
                "input[0].type",
            ),
            (
                json!([{"type": "function_call", "name": "a", "arguments": "{}"}]),
                "input[0].call_id",
            ),
            (
                json!([{"type": "function_call_output", "call_id": "a"}]),
                "input[0].output",
            ),
        ] {
            let error = read(json!({"input": input})).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(field), "{}", error.message);
            assert!(error.message.contains(field), "{}", error.message);
        }
    }
}
