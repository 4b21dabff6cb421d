//! The conversation of a chat request: roles, contents and parts, checked so that an error names message and part.

use chandler_core::{Chat, Content, Message, Part, Reasoning, RequestError};
use serde_json::{Map, Value};

use crate::api::dialogue::think;
use crate::api::dialogue::tools::{self, Shape};
use crate::api::dialogue::turns::{opened, text_part};
use crate::api::json::{Fields, wrong};
use crate::kinds::kind_of;

const ROLES: &str = "one of developer, system, user, assistant, tool, function";

/// The conversation, and what the chat template is told about it.
pub(in crate::api) fn chat(fields: &Fields<'_>) -> Result<Chat, RequestError> {
    let Some(list) = fields.array("messages")? else {
        return Err(fields.missing("messages", "an array of messages"));
    };
    let name = fields.name("messages");
    if list.is_empty() {
        let message = format!("{name} is empty; it must have at least one message");
        return Err(RequestError::field(name, message));
    }
    let messages = list
        .iter()
        .enumerate()
        .map(|(i, value)| message(&format!("{name}[{i}]"), value))
        .collect::<Result<_, _>>()?;
    let mut template_arguments = fields
        .object("chat_template_kwargs")?
        .cloned()
        .unwrap_or_default();
    let continue_final_message = fields.boolean("continue_final_message")?.unwrap_or(false);
    if let Some(add) = fields.boolean("add_generation_prompt")? {
        if add && continue_final_message {
            let name = fields.name("continue_final_message");
            let message =
                format!("{name} and add_generation_prompt are both true; one excludes the other");
            return Err(RequestError::field(name, message));
        }
        template_arguments.insert("add_generation_prompt".into(), add.into());
    }
    if let Some(effort) = fields.string("reasoning_effort")? {
        think(effort, &mut template_arguments);
    }
    let tools = tools::openai(fields, Shape::Nested)?;
    Ok(Chat {
        messages,
        tools: tools.definitions,
        tool_choice: tools.choice,
        one_tool_call: fields.boolean("parallel_tool_calls")? == Some(false),
        reasoning: reasoning(fields)?,
        continue_final_message,
        template_arguments,
    })
}

/// Where thoughts go: vLLM's and OpenRouter's `include_reasoning`, and SGLang's `separate_reasoning`.
fn reasoning(fields: &Fields<'_>) -> Result<Reasoning, RequestError> {
    let included = fields.boolean("include_reasoning")?.unwrap_or(true);
    let separated = fields.boolean("separate_reasoning")?.unwrap_or(true);
    Ok(match (included, separated) {
        (false, _) => Reasoning::Stripped,
        (true, true) => Reasoning::Separated,
        (true, false) => Reasoning::Inline,
    })
}

fn message(name: &str, value: &Value) -> Result<Message, RequestError> {
    let Some(map) = value.as_object() else {
        return Err(wrong(name, value, "an object with role and content"));
    };
    let fields = Fields::within(name.to_owned(), map);
    let Some(role) = fields.string("role")? else {
        return Err(fields.missing("role", ROLES));
    };
    // Who may say nothing: an assistant that only calls tools, and a tool that gave nothing back.
    let may_be_silent = match role {
        "assistant" | "tool" | "function" => true,
        "developer" | "system" | "user" => false,
        _ => return Err(wrong(&fields.name("role"), &role.into(), ROLES)),
    };
    let content = match fields.find("content") {
        None if may_be_silent => Content::Null,
        None => return Err(fields.missing("content", "a string or an array of text parts")),
        Some(found) => content(&found.name, found.value)?,
    };
    let mut rest: Map<String, Value> = map
        .iter()
        .filter(|(key, value)| !matches!(key.as_str(), "role" | "content") && !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if let Some(calls) = rest.get_mut("tool_calls") {
        open_arguments(&fields.name("tool_calls"), calls)?;
    }
    // Thoughts of earlier turns come back under either name; templates look for this one.
    if let Some(thoughts) = rest.remove("reasoning") {
        rest.entry("reasoning_content").or_insert(thoughts);
    }
    Ok(Message {
        role: role.to_owned(),
        content,
        rest,
    })
}

fn content(name: &str, value: &Value) -> Result<Content, RequestError> {
    match value {
        Value::String(text) => Ok(Content::Text(text.clone())),
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(j, value)| part(&format!("{name}[{j}]"), value))
            .collect::<Result<_, _>>()
            .map(Content::Parts),
        other => Err(wrong(name, other, "a string or an array of text parts")),
    }
}

/// A text part. `refusal`, which only assistants have, is text as well.
fn part(name: &str, value: &Value) -> Result<Part, RequestError> {
    let map = match value {
        Value::Object(map) => map,
        // Some clients send bare strings among the parts; templates do not take them.
        Value::String(text) => return Ok(text_part(text)),
        other => return Err(wrong(name, other, "an object with type and text")),
    };
    let fields = Fields::within(name.to_owned(), map);
    let Some(kind) = fields.string("type")? else {
        return Err(fields.missing("type", "\"text\""));
    };
    if !matches!(kind, "text" | "refusal") {
        let name = fields.name("type");
        let message = format!("{name} is {kind:?}; this model takes text parts only");
        return Err(RequestError::unsupported(name, message));
    }
    match fields.string(kind)? {
        Some(text) => Ok(text_part(text)),
        None => Err(fields.missing(kind, "a string")),
    }
}

/// Tool calls of earlier turns: OpenAI sends their arguments as a string of JSON, templates want the object.
fn open_arguments(name: &str, calls: &mut Value) -> Result<(), RequestError> {
    let kind = kind_of(calls);
    let Some(calls) = calls.as_array_mut() else {
        let message = format!("{name} is {kind}; it must be an array");
        return Err(RequestError::field(name, message));
    };
    for call in calls {
        let arguments = call.pointer_mut("/function/arguments");
        if let Some(arguments) = arguments
            && let Some(text) = arguments.as_str()
        {
            *arguments = opened(text);
        }
    }
    Ok(())
}
