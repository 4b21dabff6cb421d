//! `continue_final_message`: the text ends where the last message ends, so that the model goes on with it. As transformers does it
//! (`render_jinja_template`): a tag behind the message, and the cut at the tag.

use chandler_core::RequestError;
use serde_json::Value;

use super::conversation::Fields;
use super::methods::is_space;

/// What marks the place; the space at its end tells whether the template trimmed.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// A last message that has been marked.
pub(super) struct Continuation {
    message: String,
}

impl Continuation {
    /// Puts the tag behind the last message's text.
    pub(super) fn mark(messages: &mut [Fields], source: &str) -> Result<Self, RequestError> {
        let refuse = |message: &str| Err(RequestError::field("continue_final_message", message));
        if !source.contains("content") {
            return refuse(
                "this model's chat template does not write a message's content, so none can be continued",
            );
        }
        let content = messages
            .last_mut()
            .and_then(|message| message.get_mut("content"));
        let text = match content {
            None => {
                return refuse(
                    "continue_final_message is set, and the last message has no content to continue",
                );
            }
            Some(Value::Array(parts)) => {
                parts.iter_mut().rev().find_map(|part| part.get_mut("text"))
            }
            Some(text) => Some(text),
        };
        let Some(Value::String(text)) = text else {
            return refuse(
                "continue_final_message is set, and the last message has no text to continue",
            );
        };
        let message = text.clone();
        text.push_str(TAG);
        Ok(Self { message })
    }

    /// The text up to the tag.
    pub(super) fn cut(self, mut text: String) -> Result<String, RequestError> {
        let found = if text.contains(self.message.trim_matches(is_space)) {
            text.rfind(TAG.trim_end())
        } else {
            None
        };
        let Some(at) = found else {
            return Err(RequestError::field(
                "continue_final_message",
                "continue_final_message is set, and this model's chat template does not write the last message as it is, so it \
                 cannot be continued",
            ));
        };
        let kept = text.get(at..).is_some_and(|from| from.starts_with(TAG));
        text.truncate(at);
        if !kept {
            // The template trimmed the message, so what is before the tag goes too.
            let end = text.trim_end_matches(is_space).len();
            text.truncate(end);
        }
        Ok(text)
    }
}
