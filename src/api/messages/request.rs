//! The fields of a request for a message.

use chandler_core::{Chat, Prompt, Reasoning, RequestError, TextInput};
use serde_json::{Map, Value};

use super::turns;
use crate::api::dialogue::format::{self, Form, Schema};
use crate::api::dialogue::think;
use crate::api::dialogue::tools::{self, Tools, Wish};
use crate::api::json::{Fields, wrong};
use crate::api::openai::sampling::{limits, refuse, sampling};

/// What a request asks for.
#[derive(Debug)]
pub(in crate::api) struct MessagesRequest {
    pub(in crate::api) input: TextInput,
    pub(super) form: Option<Form>,
    pub(super) stream: bool,
}

/// Reads the fields; the model's name is looked at elsewhere.
pub(in crate::api) fn parse(fields: &Fields<'_>) -> Result<MessagesRequest, RequestError> {
    let mut request = conversation(fields)?;
    let limits = limits(fields, &["max_tokens"], 1)?;
    if limits.max_tokens.is_none() {
        return Err(fields.missing("max_tokens", "how many tokens the answer may have"));
    }
    request.input.limits = limits;
    Ok(request)
}

/// The same without the limit, which a count of tokens has not.
pub(in crate::api) fn conversation(fields: &Fields<'_>) -> Result<MessagesRequest, RequestError> {
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    refuse(
        fields,
        "mcp_servers",
        empty,
        "this worker calls nothing by itself",
    )?;
    refuse(
        fields,
        "container",
        |_| false,
        "this worker runs no containers",
    )?;
    let (tools, one_tool_call) = tools(fields)?;
    let mut template_arguments = Map::new();
    let reasoning = thinking(fields, &mut template_arguments)?;
    let form = form(fields, &mut template_arguments)?;
    let (messages, continue_final_message) = turns::messages(fields)?;
    let chat = Chat {
        messages,
        tools: tools.definitions,
        tool_choice: tools.choice,
        one_tool_call,
        reasoning,
        continue_final_message,
        template_arguments,
    };
    let input = TextInput {
        prompt: Prompt::Chat(chat),
        sampling: sampling(fields)?,
        n: 1,
        constraint: form.as_ref().map(|form| form.constraint.clone()),
        ..TextInput::default()
    };
    Ok(MessagesRequest {
        input,
        form,
        stream: fields.boolean("stream")?.unwrap_or(false),
    })
}

/// The tools and the choice among them; and whether only one may be called.
fn tools(fields: &Fields<'_>) -> Result<(Tools, bool), RequestError> {
    let definitions = tools::definitions(fields, |tool| {
        if let Some(kind) = tool.string("type")?
            && kind != "custom"
        {
            let name = tool.name("type");
            let message = format!(
                "{name} is {kind:?}; this worker runs no tools of its own and takes \"custom\" only"
            );
            return Err(RequestError::unsupported(name, message));
        }
        if !tool.has("input_schema") {
            return Err(tool.missing("input_schema", "a JSON schema"));
        }
        tools::function(tool, "input_schema")
    })?;
    let Some(map) = fields.object("tool_choice")? else {
        return Ok((
            tools::resolve(definitions, Wish::Auto, "tool_choice")?,
            false,
        ));
    };
    let choice = Fields::within(fields.name("tool_choice"), map);
    let wish = match choice.string("type")? {
        Some("auto") => Wish::Auto,
        Some("any") => Wish::Required,
        Some("none") => Wish::None,
        Some("tool") => match choice.string("name")? {
            Some(name) => Wish::Named(name.to_owned(), choice.name("name")),
            None => return Err(choice.missing("name", "a tool's name")),
        },
        other => {
            let (name, kinds) = (
                choice.name("type"),
                "\"auto\", \"any\", \"tool\" or \"none\"",
            );
            return Err(match other {
                Some(other) => wrong(&name, &other.into(), kinds),
                None => choice.missing("type", kinds),
            });
        }
    };
    let alone = choice
        .boolean("disable_parallel_tool_use")?
        .unwrap_or(false);
    Ok((tools::resolve(definitions, wish, "tool_choice")?, alone))
}

/// Whether the model is to think, and whether its thoughts are shown. In this dialect it does not unless it is asked; a
/// model that thinks all the same keeps it to itself. The budget is read and not enforced: `max_tokens` is the limit.
fn thinking(
    fields: &Fields<'_>,
    template_arguments: &mut Map<String, Value>,
) -> Result<Reasoning, RequestError> {
    let thinking = match fields.object("thinking")? {
        Some(map) => Fields::within(fields.name("thinking"), map),
        None => {
            template_arguments.insert("enable_thinking".into(), false.into());
            return Ok(Reasoning::Stripped);
        }
    };
    let enabled = match thinking.string("type")? {
        Some("enabled") => {
            let budget = thinking.whole("budget_tokens", 1..=u32::MAX)?;
            if budget.is_none() {
                return Err(thinking.missing("budget_tokens", "a number of tokens"));
            }
            true
        }
        Some("adaptive" | "between_tools") => true,
        Some("disabled") => false,
        other => {
            let kinds = "\"enabled\", \"adaptive\" or \"disabled\"";
            return Err(match other {
                Some(other) => wrong(&thinking.name("type"), &other.into(), kinds),
                None => thinking.missing("type", kinds),
            });
        }
    };
    template_arguments.insert("enable_thinking".into(), enabled.into());
    let shown = match thinking.string("display")? {
        None | Some("summarized") => enabled,
        Some("omitted") => false,
        Some(other) => {
            let name = thinking.name("display");
            return Err(wrong(&name, &other.into(), "\"summarized\" or \"omitted\""));
        }
    };
    Ok(match shown {
        true => Reasoning::Separated,
        false => Reasoning::Stripped,
    })
}

/// `output_config`: a schema for the answer, and how hard to think. `output_format` is the schema's older place.
fn form(
    fields: &Fields<'_>,
    template_arguments: &mut Map<String, Value>,
) -> Result<Option<Form>, RequestError> {
    let mut formats = Vec::new();
    if let Some(map) = fields.object("output_config")? {
        let config = Fields::within(fields.name("output_config"), map);
        if let Some(effort) = config.string("effort")? {
            think(effort, template_arguments);
        }
        formats.extend(
            config
                .object("format")?
                .map(|map| (config.name("format"), map)),
        );
    }
    let older = fields.object("output_format")?;
    formats.extend(older.map(|map| (fields.name("output_format"), map)));
    let mut forms = Vec::new();
    for (field, map) in formats {
        let within = Fields::within(field.clone(), map);
        let constraint = format::of_format(&within, Schema::Nameless)?;
        forms.extend(constraint.map(|constraint| Form { constraint, field }));
    }
    if let [first, second, ..] = forms.as_slice() {
        let message = format!(
            "{} and {} are both given; one excludes the other",
            first.field, second.field
        );
        return Err(RequestError::field(&second.field, message));
    }
    Ok(forms.pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::ToolChoice;
    use serde_json::json;

    fn with(more: Value) -> Result<MessagesRequest, RequestError> {
        let mut body = json!({"max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let map = body.as_object_mut().unwrap();
        map.extend(more.as_object().unwrap().clone());
        parse(&Fields::new(map).with_spellings())
    }

    fn chat(more: Value) -> Chat {
        match with(more).unwrap().input.prompt {
            Prompt::Chat(chat) => chat,
            _ => panic!("not a chat"),
        }
    }

    #[test]
    fn tools_and_choices_are_read() {
        let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
        let choice = |choice: Value| chat(json!({"tools": tools, "tool_choice": choice}));
        let forced = choice(json!({"type": "any", "disable_parallel_tool_use": true}));
        assert_eq!(
            (forced.tool_choice, forced.one_tool_call),
            (ToolChoice::Required, true)
        );
        let named = choice(json!({"type": "tool", "name": "f"}));
        assert_eq!(named.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(
            named.tools,
            [
                json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}})
            ]
        );
        assert!(choice(json!({"type": "none"})).tools.is_empty());
    }

    #[test]
    fn it_thinks_only_when_asked() {
        let silent = chat(json!({}));
        assert_eq!(silent.reasoning, Reasoning::Stripped);
        assert_eq!(silent.template_arguments["enable_thinking"], false);
        let asked = chat(json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
        assert_eq!(asked.reasoning, Reasoning::Separated);
        assert_eq!(asked.template_arguments["enable_thinking"], true);
        let hidden = chat(json!({"thinking": {"type": "adaptive", "display": "omitted"}}));
        assert_eq!(hidden.reasoning, Reasoning::Stripped);
    }

    #[test]
    fn what_will_not_do_is_named() {
        for (more, named) in [
            (json!({"max_tokens": null}), "max_tokens"),
            (json!({"stop_sequences": [""]}), "stop_sequences"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"tools": [{"name": "f"}]}), "tools[0].input_schema"),
            (
                json!({"tools": [{"type": "web_search_20250305", "name": "f"}]}),
                "tools[0].type",
            ),
            (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "tool", "name": "f"}}),
                "tool_choice.name",
            ),
            (
                json!({"tool_choice": {"type": "function"}}),
                "tool_choice.type",
            ),
            (
                json!({"thinking": {"type": "enabled"}}),
                "thinking.budget_tokens",
            ),
            (json!({"thinking": {"type": "deep"}}), "thinking.type"),
            (
                json!({"output_config": {"format": {"type": "json_schema"}}}),
                "output_config.format.schema",
            ),
            (json!({"mcp_servers": [{}]}), "mcp_servers"),
            (json!({"system": 7}), "system"),
        ] {
            let error = with(more).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named), "{}", error.message);
            assert!(error.message.contains(named), "{}", error.message);
        }
    }
}
