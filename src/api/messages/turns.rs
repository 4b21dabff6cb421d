//! A conversation of content blocks as the turns that a chat template knows: a user's tool results are turns of their own,
//! an assistant's blocks are one turn, and a conversation that ends with the assistant is to be continued.

use chandler_core::{Message, RequestError};
use serde_json::{Map, Value};

use crate::api::dialogue::turns::{Assistant, spoken, tool_result};
use crate::api::json::{Fields, wrong};

const CONTENT: &str = "a string or an array of content blocks";

/// The conversation with its system prompt, and whether its last turn is to be continued.
pub(super) fn messages(fields: &Fields<'_>) -> Result<(Vec<Message>, bool), RequestError> {
    let mut turns = Vec::new();
    if let Some(found) = fields.find("system") {
        turns.push(plain("system", texts(&found.name, found.value)?));
    }
    let Some(list) = fields.array("messages")? else {
        return Err(fields.missing("messages", "an array of messages"));
    };
    let name = fields.name("messages");
    if list.is_empty() {
        let message = format!("{name} is empty; it must have at least one message");
        return Err(RequestError::field(name, message));
    }
    let mut continued = false;
    for (i, value) in list.iter().enumerate() {
        let path = format!("{name}[{i}]");
        let Some(map) = value.as_object() else {
            return Err(wrong(&path, value, "an object with role and content"));
        };
        continued = turn(&Fields::within(path, map), &mut turns)?;
    }
    Ok((turns, continued))
}

/// Adds one message's turns; whether the last of them could be continued.
fn turn(fields: &Fields<'_>, turns: &mut Vec<Message>) -> Result<bool, RequestError> {
    let roles = "\"user\", \"assistant\" or \"system\"";
    let Some(role) = fields.string("role")? else {
        return Err(fields.missing("role", roles));
    };
    let Some(found) = fields.find("content") else {
        return Err(fields.missing("content", CONTENT));
    };
    match role {
        "user" => user(&found.name, found.value, turns).map(|()| false),
        "system" => {
            turns.push(plain(role, texts(&found.name, found.value)?));
            Ok(false)
        }
        "assistant" => {
            let assistant = assistant(&found.name, found.value)?;
            let open = !assistant.has_calls() && !assistant.texts.is_empty();
            turns.push(assistant.message());
            Ok(open)
        }
        other => Err(wrong(&fields.name("role"), &other.into(), roles)),
    }
}

fn plain(role: &str, texts: Vec<String>) -> Message {
    Message {
        role: role.to_owned(),
        content: spoken(texts),
        rest: Map::new(),
    }
}

/// A user's blocks, in order: text that follows text is one turn, each tool result is one.
fn user(name: &str, value: &Value, turns: &mut Vec<Message>) -> Result<(), RequestError> {
    let mut said = Vec::new();
    for block in blocks(name, value)? {
        match block {
            Block::Text(text) => said.push(text),
            Block::Other("tool_result", block) => {
                if !said.is_empty() {
                    turns.push(plain("user", std::mem::take(&mut said)));
                }
                turns.push(result(&block)?);
            }
            Block::Other(kind, block) => {
                return Err(not_taken(&block, kind, "text and tool_result blocks"));
            }
        }
    }
    // A user who says nothing at all still has a turn.
    if !said.is_empty() || turns.last().is_none_or(|turn| turn.role != "tool") {
        turns.push(plain("user", said));
    }
    Ok(())
}

fn result(block: &Fields<'_>) -> Result<Message, RequestError> {
    let Some(id) = block.string("tool_use_id")? else {
        return Err(block.missing("tool_use_id", "a tool call's id"));
    };
    let texts = match block.find("content") {
        Some(found) => texts(&found.name, found.value)?,
        None => Vec::new(),
    };
    let mut message = tool_result(id, spoken(texts));
    if block.boolean("is_error")? == Some(true) {
        message.rest.insert("is_error".into(), true.into());
    }
    Ok(message)
}

fn assistant(name: &str, value: &Value) -> Result<Assistant, RequestError> {
    let mut assistant = Assistant::default();
    for block in blocks(name, value)? {
        match block {
            Block::Text(text) => assistant.texts.push(text),
            Block::Other("tool_use", block) => {
                let required = |key: &str| {
                    let found = block.string(key)?;
                    found.ok_or_else(|| block.missing(key, "a string"))
                };
                let (id, name) = (required("id")?, required("name")?);
                let Some(input) = block.object("input")? else {
                    return Err(block.missing("input", "an object"));
                };
                assistant.call(id, name, Value::Object(input.clone()));
            }
            Block::Other("thinking", block) => {
                let thought = block.string("thinking")?;
                assistant.thoughts.push_str(thought.unwrap_or_default());
            }
            // What was hidden from the client is hidden from this model as well.
            Block::Other("redacted_thinking", _) => {}
            Block::Other(kind, block) => {
                return Err(not_taken(
                    &block,
                    kind,
                    "text, thinking and tool_use blocks",
                ));
            }
        }
    }
    Ok(assistant)
}

enum Block<'a> {
    Text(String),
    Other(&'a str, Fields<'a>),
}

fn blocks<'a>(name: &str, value: &'a Value) -> Result<Vec<Block<'a>>, RequestError> {
    let list = match value {
        Value::String(text) => return Ok(vec![Block::Text(text.clone())]),
        Value::Array(list) => list,
        other => return Err(wrong(name, other, CONTENT)),
    };
    let block = |(j, value): (usize, &'a Value)| {
        let path = format!("{name}[{j}]");
        let Some(map) = value.as_object() else {
            return Err(wrong(&path, value, "an object with a type"));
        };
        let fields = Fields::within(path, map);
        match fields.string("type")? {
            Some("text") => match fields.string("text")? {
                Some(text) => Ok(Block::Text(text.to_owned())),
                None => Err(fields.missing("text", "a string")),
            },
            Some(kind) => Ok(Block::Other(kind, fields)),
            None => Err(fields.missing("type", "a block's type, such as \"text\"")),
        }
    };
    list.iter().enumerate().map(block).collect()
}

/// A content that may have text only.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, RequestError> {
    let text = |block: Block<'_>| match block {
        Block::Text(text) => Ok(text),
        Block::Other(kind, block) => Err(not_taken(&block, kind, "text blocks only")),
    };
    blocks(name, value)?.into_iter().map(text).collect()
}

fn not_taken(block: &Fields<'_>, kind: &str, taken: &str) -> RequestError {
    let name = block.name("type");
    let message = format!("{name} is {kind:?}; this model takes {taken} here");
    RequestError::unsupported(name, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<(Value, bool), RequestError> {
        let read = messages(&Fields::new(body.as_object().unwrap()));
        read.map(|(turns, continued)| (json!(turns), continued))
    }

    #[test]
    fn blocks_become_the_turns_that_a_template_knows() {
        let (turns, continued) = read(json!({"system": [{"type": "text", "text": "Be brief."}], "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "w", "input": {"city": "Rome"}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]},
                {"type": "text", "text": "So?"}]},
            {"role": "assistant", "content": "It is"},
        ]})).unwrap();
        assert!(continued);
        assert_eq!(
            turns,
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": "Let me see.", "reasoning_content": "hm", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "w", "arguments": {"city": "Rome"}}}]},
                {"role": "tool", "content": "sunny", "tool_call_id": "t1"},
                {"role": "user", "content": "So?"},
                {"role": "assistant", "content": "It is"},
            ])
        );
    }

    #[test]
    fn a_block_that_will_not_do_is_named() {
        let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        let path = "messages[0].content[0]";
        for (body, field) in [
            (json!({}), "messages".to_owned()),
            (json!({"messages": []}), "messages".into()),
            (
                json!({"messages": [{"content": "a"}]}),
                "messages[0].role".into(),
            ),
            (
                json!({"messages": [{"role": "user"}]}),
                "messages[0].content".into(),
            ),
            (
                json!({"messages": [{"role": "tool", "content": "a"}]}),
                "messages[0].role".into(),
            ),
            (user(json!(7)), "messages[0].content".into()),
            (
                user(json!([{"type": "image", "source": {}}])),
                format!("{path}.type"),
            ),
            (user(json!([{"type": "tool_use"}])), format!("{path}.type")),
            (
                user(json!([{"type": "tool_result"}])),
                format!("{path}.tool_use_id"),
            ),
            (user(json!([{"type": "text"}])), format!("{path}.text")),
            (
                json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b"}]}]}),
                format!("{path}.input"),
            ),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.field, Some(field.clone()), "{}", error.message);
            assert!(error.message.contains(&field), "{}", error.message);
        }
    }
}
