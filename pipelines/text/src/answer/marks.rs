//! How models mark their thoughts, and what a chat template and a rendered prompt tell about it. A way of marking is a
//! row of a table; no model is known by its name.

use chandler_core::input::{Chat, Content};

/// What stands around thoughts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
}

/// The marks that are known. A template that has thoughts writes at least the closing one.
const MARKS: [Marks; 2] = [
    // Qwen3, DeepSeek-R1 and its distillations, SmolLM3, OLMo 3, …
    Marks {
        open: "<think>",
        close: "</think>",
    },
    // Magistral.
    Marks {
        open: "[THINK]",
        close: "[/THINK]",
    },
];

/// Where an answer stands with its thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is said yet; the opening mark may come.
    Possible,
    /// In the middle of thoughts.
    Inside,
    /// The answer itself has begun, or is all there will be.
    Over,
}

impl Marks {
    /// The marks that a chat template's text has.
    pub(crate) fn of_template(source: &str) -> Option<&'static Self> {
        MARKS.iter().find(|marks| source.contains(marks.close))
    }

    /// Where an answer to this prompt begins. What a user wrote is not looked at: only the prompt's very end, which the
    /// template wrote, or the message that is to be continued.
    pub(crate) fn phase(&self, prompt: &str, chat: &Chat) -> Phase {
        let end = prompt.trim_end();
        if end.ends_with(self.open) {
            return Phase::Inside;
        }
        if end.ends_with(self.close) {
            return Phase::Over;
        }
        if !chat.continue_final_message {
            return Phase::Possible;
        }
        let begun = chat.messages.last().map(|message| match &message.content {
            Content::Text(text) => text.as_str(),
            Content::Parts(parts) => parts
                .iter()
                .rev()
                .find_map(|part| part.text.as_deref())
                .unwrap_or(""),
            Content::Null => "",
        });
        let begun = begun.unwrap_or("");
        match (begun.rfind(self.open), begun.rfind(self.close)) {
            (Some(open), close) if close.is_none_or(|close| close < open) => Phase::Inside,
            (None, None) if begun.trim().is_empty() => Phase::Possible,
            _ => Phase::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::input::Message;

    fn phase(prompt: &str, continued: Option<&str>) -> Phase {
        let marks = Marks::of_template("{{ x.split('</think>')[-1] }}").unwrap();
        let chat = Chat {
            messages: vec![Message::text(
                "assistant",
                continued.unwrap_or("hi <think>"),
            )],
            continue_final_message: continued.is_some(),
            ..Chat::default()
        };
        marks.phase(prompt, &chat)
    }

    #[test]
    fn the_end_of_the_prompt_decides() {
        assert_eq!(phase("a <think> b\nassistant:", None), Phase::Possible);
        assert_eq!(phase("assistant:<think>\n", None), Phase::Inside);
        let off = "assistant:<think>\n\n</think>\n\n";
        assert_eq!(phase(off, None), Phase::Over);
        assert_eq!(phase("assistant: Well", Some("Well")), Phase::Over);
        assert_eq!(phase("<think>I", Some("<think>I")), Phase::Inside);
        assert_eq!(phase("…", Some("<think>I</think> x")), Phase::Over);
        assert_eq!(phase("assistant:", Some(" ")), Phase::Possible);
        assert_eq!(Marks::of_template("{{ messages }}"), None);
    }
}
