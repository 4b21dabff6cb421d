//! The grammar of an answer that must call a tool, in the format that the model knows: what stands around a call is
//! fixed, its name is one of the tools', and its arguments are what that tool's schema accepts.

use chandler_core::RequestError;
use serde_json::{Value, json};

use super::Tool;
use super::format::{Body, ToolFormat};
use crate::constraint::{checked_schema, lark_literal, with_space};
use crate::tokenizer::Tokenizer;

/// Rules for `calls` over some tools: one call or, where `one` is not set, several.
///
/// # Errors
/// Names a tool whose parameters are no schema.
pub(crate) fn calls(
    format: &ToolFormat,
    tools: &[&Tool],
    one: bool,
    tokenizer: &Tokenizer,
) -> Result<String, RequestError> {
    let write = |text: &str| literal(format, text, tokenizer);
    let written = &format.written;
    let mut rules = Vec::new();
    let mut names = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let schema = schema(tool)?;
        let body = match format.body {
            Body::Tags => {
                let open = write(&format!("{}{}{}", written.open, tool.name, written.middle));
                let fields = tags(index, &schema, &mut rules);
                format!("{open} {fields} {}", write(written.close))
            }
            _ => {
                // Within a JSON string a name is written as JSON writes it.
                let quoted = Value::from(tool.name.as_str()).to_string();
                let name = match written.open.ends_with('"') {
                    true => quoted.trim_matches('"').to_owned(),
                    false => tool.name.clone(),
                };
                let open = write(&format!("{}{name}{}", written.open, written.middle));
                format!("{open} %json {schema} {}", write(written.close))
            }
        };
        rules.push(format!("call_{index}: {body}"));
        names.push(format!("call_{index}"));
    }
    rules.push(format!("call: {}", names.join(" | ")));
    let start = write(written.start);
    let end = write(written.end);
    rules.push(match one {
        true => format!("calls: {start} call {end}"),
        false => {
            let between = write(written.between);
            format!("calls: {start} call ({between} call)* {end}")
        }
    });
    Ok(rules.join("\n"))
}

/// A tool's parameters as a schema for an object. What llguidance does not know in it is left aside, unless the tool
/// says `strict`.
fn schema(tool: &Tool) -> Result<Value, RequestError> {
    let field = || format!("tools[{}].function.parameters", tool.index);
    let mut schema = match &tool.parameters {
        Value::Null => json!({}),
        given => given.clone(),
    };
    checked_schema(&field(), &schema)?;
    match schema.as_object_mut() {
        Some(fields) => {
            fields.entry("type").or_insert_with(|| "object".into());
        }
        None => schema = json!({"type": "object"}),
    }
    Ok(with_space(schema, !tool.strict))
}

/// The tags of a tool's parameters, in their order; those that are not required may be left out.
fn tags(tool: usize, schema: &Value, rules: &mut Vec<String>) -> String {
    let required = |name: &str| {
        let list = schema.get("required").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|other| other == name))
    };
    let mut all = Vec::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    for (index, (name, kind)) in properties.into_iter().flatten().enumerate() {
        let open = lark_literal(&format!("<parameter={name}>\n"));
        let rule = format!("value_{tool}_{index}");
        let text = kind.get("type").is_none_or(|kind| kind == "string");
        rules.push(match (text, kind.get("enum").and_then(Value::as_array)) {
            (true, Some(choices)) => {
                let choice = |choice: &Value| choice.as_str().map(lark_literal);
                let choices: Vec<String> = choices.iter().filter_map(choice).collect();
                let close = lark_literal("\n</parameter>\n");
                format!("{rule}: ({}) {close}", choices.join(" | "))
            }
            // As short as it can be: the value ends where the closing tag first comes.
            (true, None) => format!("{rule}[lazy]: /(?s:.*)\\n<\\/parameter>\\n/"),
            (false, _) => {
                // References lead to the root of the schema, so its definitions go along.
                let mut kind = kind.clone();
                for key in ["$defs", "definitions", "x-guidance"] {
                    if let (Some(fields), Some(definitions)) =
                        (kind.as_object_mut(), schema.get(key))
                    {
                        fields.entry(key).or_insert(definitions.clone());
                    }
                }
                format!("{rule}: %json {kind} {}", lark_literal("\n</parameter>\n"))
            }
        });
        let optional = if required(name) { "" } else { "?" };
        all.push(format!("({open} {rule}){optional}"));
    }
    all.join(" ")
}

/// A text with its marks: a special token is written as the token that it is.
fn literal(format: &ToolFormat, text: &str, tokenizer: &Tokenizer) -> String {
    for mark in format.marks().filter(|mark| !mark.is_empty()) {
        let id = tokenizer
            .token_id(mark)
            .filter(|id| tokenizer.is_special(*id));
        if let (Some(id), Some((before, after))) = (id, text.split_once(mark)) {
            let before = literal(format, before, tokenizer);
            let after = literal(format, after, tokenizer);
            return format!("{before} <[{id}]> {after}");
        }
    }
    match text {
        "" => String::new(),
        text => lark_literal(text),
    }
}
