//! One instance of a prediction request: a text, or an object in any of the spellings that Vertex's and Hugging Face's
//! clients use, with the request's `parameters` behind it.

use chandler_core::{Prompt, RequestError, Task, TextInput};
use serde_json::{Map, Value};

use super::task;
use crate::api::dialogue::format;
use crate::api::json::{Fields, wrong};
use crate::api::openai::sampling::{best_of, limits, or_tokens, refuse, rows, sampling};
use crate::api::openai::{chat, completions};

/// Tokens of an answer to a plain prompt when nothing is said: a base model may have no end of its own.
const DEFAULT_TOKENS: u32 = 256;
const INSTANCE: &str =
    "a string, or an object with prompt (or inputs, text or sentence) or messages";

/// An instance, read; and what its prediction is to look like.
pub(in crate::api) struct Instance {
    pub(in crate::api) input: TextInput,
    /// The model or adapter that it names.
    pub(super) model: Option<String>,
    pub(super) is_chat: bool,
}

/// Reads one instance; `does` is what the loaded model does, where that is known.
pub(in crate::api) fn instance(
    number: usize,
    value: &Value,
    parameters: Option<&Map<String, Value>>,
    does: Option<Task>,
) -> Result<Instance, RequestError> {
    let name = format!("instances[{number}]");
    let empty = Map::new();
    let (own, text) = match value {
        Value::String(text) => (&empty, Some(text.as_str())),
        Value::Object(map) => (map, None),
        other => return Err(wrong(&name, other, INSTANCE)),
    };
    let nested = own.get("parameters").and_then(Value::as_object);
    let fields = Fields::within(name.clone(), own)
        .or(&format!("{name}.parameters"), nested)
        .or("parameters", parameters)
        .with_spellings();
    if let Some(does) = does {
        task::check(&fields, does)?;
    }
    let whole_only = "predictions come whole; to stream, send an OpenAI body to this path";
    refuse(&fields, "stream", |v| v == false, whole_only)?;
    let is_chat = fields.has("messages");
    let prompt = match text {
        Some(text) => Some(text),
        None => fields.string("prompt")?,
    };
    let input = match (is_chat, prompt) {
        (true, None) => chat::parse(&fields)?.input,
        (false, Some(prompt)) => plain(&fields, Prompt::Text(prompt.to_owned()), false)?,
        (true, Some(_)) => {
            let message =
                format!("{name} has both messages and a prompt; it must have one of them");
            return Err(RequestError::field(name, message));
        }
        (false, None) => {
            let message = format!("{name} has no prompt; it must be {INSTANCE}");
            return Err(RequestError::field(name, message));
        }
    };
    Ok(Instance {
        input,
        model: fields.string("model")?.map(str::to_owned),
        is_chat,
    })
}

/// A request for text after a plain prompt, as `/predict` and `/generate` take it.
pub(in crate::api) fn plain(
    fields: &Fields<'_>,
    prompt: Prompt,
    stream: bool,
) -> Result<TextInput, RequestError> {
    let limits = limits(fields, &["max_tokens"], 1)?;
    let n = rows(fields)?;
    Ok(TextInput {
        prompt,
        sampling: sampling(fields)?,
        limits: or_tokens(limits, DEFAULT_TOKENS),
        n,
        logprobs: completions::logprobs_of(fields)?,
        echo: fields.boolean("echo")?.unwrap_or(false),
        best_of: best_of(fields, n, stream)?,
        constraint: format::requested(fields)?.map(|form| form.constraint),
        adapter: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value, parameters: Value) -> Result<TextInput, RequestError> {
        instance(
            3,
            &value,
            parameters.as_object(),
            Some(Task::TextGeneration),
        )
        .map(|one| one.input)
    }

    #[test]
    fn an_instance_takes_what_it_lacks_from_the_parameters() {
        let defaults = json!({"maxOutputTokens": 8.0, "topP": 0.5});
        let input = read(
            json!({"inputs": "a", "parameters": {"max_new_tokens": 4.0}}),
            defaults.clone(),
        );
        let input = input.unwrap();
        assert_eq!(input.prompt, Prompt::Text("a".into()));
        assert_eq!(input.limits.max_tokens, Some(4));
        assert_eq!(input.sampling.top_p, Some(0.5));
        assert_eq!(
            read(json!("b"), defaults).unwrap().limits.max_tokens,
            Some(8)
        );
    }

    #[test]
    fn an_error_names_the_instance_or_the_parameters() {
        let field = |value, parameters| read(value, parameters).unwrap_err().field.unwrap();
        assert_eq!(field(json!(7), json!({})), "instances[3]");
        assert_eq!(field(json!({}), json!({})), "instances[3]");
        assert_eq!(
            field(json!({"prompt": 7}), json!({})),
            "instances[3].prompt"
        );
        assert_eq!(
            field(json!({"prompt": "a", "n": 0}), json!({})),
            "instances[3].n"
        );
        assert_eq!(
            field(json!("a"), json!({"temperature": -1.0})),
            "parameters.temperature"
        );
        assert_eq!(
            field(json!({"prompt": "a", "task": "text-to-image"}), json!({})),
            "instances[3].task"
        );
        assert_eq!(
            field(
                json!({"messages": [{"role": "x", "content": ""}]}),
                json!({})
            ),
            "instances[3].messages[0].role"
        );
    }
}
