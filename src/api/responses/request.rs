//! The fields of a request for a response, and those of them that its answer repeats.

use chandler_core::{Chat, Prompt, Reasoning, RequestError, TextInput};
use serde_json::{Map, Value, json};

use super::input;
use crate::api::dialogue::format::{self, Form, Schema};
use crate::api::dialogue::think;
use crate::api::dialogue::tools::{self, Shape, Tools};
use crate::api::json::{Fields, wrong};
use crate::api::openai::sampling::{limits, refuse, sampling};

const MOST_TOP: u32 = 20;

/// What a request asks for.
#[derive(Debug)]
pub(in crate::api) struct ResponsesRequest {
    pub(in crate::api) input: TextInput,
    pub(super) form: Option<Form>,
    pub(super) stream: bool,
    /// What the answer repeats of the request.
    pub(super) echoed: Map<String, Value>,
}

/// Reads the fields; the model's name is looked at elsewhere.
pub(in crate::api) fn parse(fields: &Fields<'_>) -> Result<ResponsesRequest, RequestError> {
    refuse_unbuilt(fields)?;
    let tools = tools::openai(fields, Shape::Flat)?;
    let form = form(fields)?;
    let mut template_arguments = fields
        .object("chat_template_kwargs")?
        .cloned()
        .unwrap_or_default();
    if let Some(map) = fields.object("reasoning")? {
        let reasoning = Fields::within(fields.name("reasoning"), map);
        if let Some(effort) = reasoning.string("effort")? {
            think(effort, &mut template_arguments);
        }
    }
    let echoed = echoed(fields, &tools)?;
    let chat = Chat {
        messages: input::messages(fields)?,
        tools: tools.definitions,
        tool_choice: tools.choice,
        one_tool_call: fields.boolean("parallel_tool_calls")? == Some(false),
        reasoning: Reasoning::Separated,
        continue_final_message: false,
        template_arguments,
    };
    let input = TextInput {
        prompt: Prompt::Chat(chat),
        sampling: sampling(fields)?,
        limits: limits(fields, &["max_output_tokens"], 1)?,
        n: 1,
        logprobs: logprobs(fields)?,
        constraint: form.as_ref().map(|form| form.constraint.clone()),
        ..TextInput::default()
    };
    Ok(ResponsesRequest {
        input,
        form,
        stream: fields.boolean("stream")?.unwrap_or(false),
        echoed,
    })
}

/// What needs something kept between requests, or something run elsewhere.
fn refuse_unbuilt(fields: &Fields<'_>) -> Result<(), RequestError> {
    let never = |_: &Value| false;
    let kept = "this worker keeps nothing between requests; send the whole conversation as input";
    refuse(fields, "previous_response_id", never, kept)?;
    refuse(fields, "conversation", never, kept)?;
    refuse(fields, "prompt", never, "this worker keeps no prompts")?;
    refuse(
        fields,
        "background",
        |v| v == false,
        "this worker answers at once or as a stream",
    )?;
    refuse(
        fields,
        "truncation",
        |v| v == "disabled",
        "nothing is cut out of a conversation here; use \"disabled\"",
    )?;
    refuse(
        fields,
        "context_management",
        |v| v.as_array().is_some_and(Vec::is_empty),
        "this worker compacts nothing",
    )
}

/// `text.format`, or one of vLLM's spellings beside it.
fn form(fields: &Fields<'_>) -> Result<Option<Form>, RequestError> {
    let guided = format::requested(fields)?;
    let Some(text) = fields.object("text")? else {
        return Ok(guided);
    };
    let text = Fields::within(fields.name("text"), text);
    let Some(map) = text.object("format")? else {
        return Ok(guided);
    };
    let field = text.name("format");
    let constraint = format::of_format(&Fields::within(field.clone(), map), Schema::Flat)?;
    match (constraint, guided) {
        (Some(_), Some(guided)) => {
            let message = format!(
                "{} and {field} are both given; one excludes the other",
                guided.field
            );
            Err(RequestError::field(field, message))
        }
        (Some(constraint), None) => Ok(Some(Form { constraint, field })),
        (None, guided) => Ok(guided),
    }
}

/// Asked for by `top_logprobs`, or by naming them in `include`.
fn logprobs(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    let top = fields.whole("top_logprobs", 0..=MOST_TOP)?;
    let included = fields.array("include")?.is_some_and(|list| {
        list.iter()
            .any(|what| what == "message.output_text.logprobs")
    });
    Ok(match (included, top) {
        (true, top) => Some(top.unwrap_or(0)),
        (false, top) => top.filter(|top| *top > 0),
    })
}

/// What the client's type of an answer has of its request. Absent is what was used instead, where that is known here.
fn echoed(fields: &Fields<'_>, tools: &Tools) -> Result<Map<String, Value>, RequestError> {
    let given = |key: &str| fields.find(key).map(|found| found.value.clone());
    let or_null = |key: &str| given(key).unwrap_or(Value::Null);
    fields.boolean("store")?;
    fields.string("instructions")?;
    fields.whole("max_tool_calls", 1..=u32::MAX)?;
    let metadata = metadata(fields)?;
    let text = match fields.object("text")? {
        Some(text) if text.contains_key("format") => json!(text),
        Some(text) => {
            let mut text = text.clone();
            text.insert("format".into(), json!({"type": "text"}));
            json!(text)
        }
        None => json!({"format": {"type": "text"}}),
    };
    let reasoning = fields.object("reasoning")?;
    let of_reasoning = |key: &str| reasoning.and_then(|map| map.get(key)).cloned();
    let list = tools.definitions.iter().map(|tool| {
        let mut flat = tool["function"].as_object().cloned().unwrap_or_default();
        for key in ["parameters", "strict"] {
            flat.entry(key).or_insert(Value::Null);
        }
        flat.insert("type".into(), "function".into());
        Value::Object(flat)
    });
    let echoed = json!({
        "instructions": or_null("instructions"),
        "max_output_tokens": or_null("max_output_tokens"),
        "max_tool_calls": or_null("max_tool_calls"),
        "metadata": metadata,
        "parallel_tool_calls": fields.boolean("parallel_tool_calls")?.unwrap_or(true),
        "temperature": or_null("temperature"),
        "top_p": or_null("top_p"),
        "top_logprobs": fields.whole("top_logprobs", 0..=MOST_TOP)?.unwrap_or(0),
        "tool_choice": given("tool_choice").unwrap_or(json!("auto")),
        "tools": list.collect::<Vec<_>>(),
        "text": text,
        "reasoning": {"effort": of_reasoning("effort"), "summary": of_reasoning("summary")},
        "user": or_null("user"),
        "store": false,
        "background": false,
        "previous_response_id": null,
        "truncation": "disabled",
        "service_tier": "default",
    });
    Ok(match echoed {
        Value::Object(map) => map,
        _ => Map::new(),
    })
}

fn metadata(fields: &Fields<'_>) -> Result<Map<String, Value>, RequestError> {
    let map = fields.object("metadata")?.cloned().unwrap_or_default();
    for (key, value) in &map {
        if !value.is_string() {
            let name = format!("{}.{key}", fields.name("metadata"));
            return Err(wrong(&name, value, "a string"));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::{Constraint, ToolChoice};

    fn read(body: Value) -> Result<ResponsesRequest, RequestError> {
        parse(&Fields::new(body.as_object().unwrap()))
    }

    #[test]
    fn the_dialects_own_places_are_read() {
        let request = read(json!({
            "input": "hi", "max_output_tokens": 5.0, "reasoning": {"effort": "none"}, "parallel_tool_calls": false,
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
            "include": ["message.output_text.logprobs"],
        }))
        .unwrap();
        let input = request.input;
        assert_eq!(input.limits.max_tokens, Some(5));
        assert_eq!(input.logprobs, Some(0));
        assert!(matches!(input.constraint, Some(Constraint::JsonSchema(_))));
        let Prompt::Chat(chat) = input.prompt else {
            panic!("not a chat");
        };
        assert_eq!(chat.tool_choice, ToolChoice::Named("f".into()));
        assert!(chat.one_tool_call);
        assert_eq!(chat.template_arguments["enable_thinking"], false);
        assert_eq!(request.echoed["tools"][0]["name"], "f");
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (field, value, named) in [
            (
                "previous_response_id",
                json!("resp_1"),
                "previous_response_id",
            ),
            ("conversation", json!("conv_1"), "conversation"),
            ("background", json!(true), "background"),
            ("prompt", json!({"id": "p"}), "prompt"),
            ("truncation", json!("auto"), "truncation"),
            ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
            (
                "tool_choice",
                json!({"type": "file_search"}),
                "tool_choice.type",
            ),
            (
                "text",
                json!({"format": {"type": "json_schema"}}),
                "text.format.name",
            ),
            ("metadata", json!({"a": 1}), "metadata.a"),
            ("max_output_tokens", json!(0), "max_output_tokens"),
            ("top_logprobs", json!(21), "top_logprobs"),
            ("store", json!("no"), "store"),
            ("reasoning", json!({"effort": 3}), "reasoning.effort"),
        ] {
            let mut body = json!({"input": "a"});
            body[field] = value;
            let error = read(body).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named), "{}", error.message);
            assert!(error.message.contains(named), "{}", error.message);
        }
    }
}
