//! What the chat dialects (OpenAI's two and Anthropic's) have in common: tools, the form of an answer, turns of a
//! conversation, and the blocks that a streamed answer falls into. Each dialect's own spelling stays in its folder.

pub(super) mod blocks;
pub(super) mod format;
pub(super) mod tools;
pub(super) mod turns;

use chandler_core::RequestError;
use serde_json::{Map, Value};

/// Tells the chat template how hard to think. `none` also switches thinking off in the way that Qwen's and SmolLM's
/// templates know, unless the request has said otherwise itself.
pub(super) fn think(effort: &str, template_arguments: &mut Map<String, Value>) {
    if effort == "none" {
        let switch = template_arguments.entry("enable_thinking");
        switch.or_insert(Value::Bool(false));
    }
    template_arguments.insert("reasoning_effort".into(), effort.into());
}

/// An error of preparing, in the dialect's own field names: whole ones, or the end of a path (`tools[0].…`). A message that
/// begins with the name is changed with it.
pub(super) fn renamed(mut error: RequestError, names: &[(&str, &str)]) -> RequestError {
    let Some(ours) = error.field.clone() else {
        return error;
    };
    let theirs = names.iter().find_map(|(from, to)| {
        let path = ours.strip_suffix(from)?;
        (path.is_empty() || path.ends_with('.')).then(|| format!("{path}{to}"))
    });
    let Some(theirs) = theirs else {
        return error;
    };
    if let Some(rest) = error.message.strip_prefix(&ours) {
        error.message = format!("{theirs}{rest}");
    }
    error.field = Some(theirs);
    error
}

/// Whether a text is a name as OpenAI and Anthropic have them for tools and schemas.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

const NAME: &str = "1 to 64 letters, digits, underscores and dashes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_takes_the_callers_name_for_its_field() {
        let names = [("prompt", "input"), ("function.parameters", "input_schema")];
        let of = |field: &str| {
            let error = RequestError::field(field, format!("{field} will not do"));
            renamed(error, &names).message
        };
        assert_eq!(of("prompt"), "input will not do");
        assert_eq!(
            of("tools[1].function.parameters"),
            "tools[1].input_schema will not do"
        );
        assert_eq!(of("my_prompt"), "my_prompt will not do");
    }

    #[test]
    fn no_effort_switches_thinking_off_unless_the_request_says_otherwise() {
        let mut arguments = Map::new();
        think("none", &mut arguments);
        assert_eq!(arguments["enable_thinking"], false);
        let mut arguments = Map::from_iter([("enable_thinking".to_owned(), Value::Bool(true))]);
        think("none", &mut arguments);
        assert_eq!(arguments["enable_thinking"], true);
        think("low", &mut arguments);
        assert_eq!(arguments["reasoning_effort"], "low");
    }
}
