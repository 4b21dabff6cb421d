//! From the text of an answer to its parts: thoughts, text and tool calls. Reading comes after stop strings, which are
//! looked for in all that the model writes, thoughts and calls included, as vLLM and SGLang do: what they cut off is in
//! no part.

pub(crate) mod dialect;
pub(crate) mod marks;
mod reasoning;
pub(crate) mod thinking;
pub(crate) mod tools;

use std::sync::Arc;

use chandler_core::event::ToolCallDelta;
use chandler_core::form::Reasoning;

use marks::{Marks, Phase};
use reasoning::{ReasoningReader, Sorted};
use tools::ids::IdSource;
use tools::reader::{ToolReader, ToolReading};

/// How the answers of one request are read; the same for all its rows.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) thoughts: Option<ThoughtReading>,
    pub(crate) tools: Option<Arc<ToolReading>>,
    /// Special tokens whose text is looked for.
    pub(crate) shown: Arc<[u32]>,
}

/// How thoughts are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThoughtReading {
    pub(crate) marks: &'static Marks,
    pub(crate) phase: Phase,
    pub(crate) place: Reasoning,
    /// The opening mark's token, where it is one.
    pub(crate) open: Option<u32>,
}

/// What more of an answer there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) tool_calls: Vec<ToolCallDelta>,
}

/// The reader of one row's text.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    thoughts: Option<ReasoningReader>,
    tools: Option<ToolReader>,
}

impl Answer {
    pub(crate) fn new(reading: &Reading, ids: IdSource) -> Self {
        let thoughts = reading
            .thoughts
            .map(|thoughts| ReasoningReader::new(thoughts.marks, thoughts.phase, thoughts.place));
        let tools = reading
            .tools
            .as_ref()
            .map(|tools| ToolReader::new(Arc::clone(tools), ids));
        Self { thoughts, tools }
    }

    /// Takes more text; gives what of it is final.
    pub(crate) fn push(&mut self, text: String) -> Parts {
        let sorted = match &mut self.thoughts {
            Some(reader) => reader.push(&text),
            None => Sorted {
                answer: text,
                ..Sorted::default()
            },
        };
        self.parts(sorted)
    }

    /// The row has ended.
    pub(crate) fn finish(&mut self) -> Parts {
        let sorted = self.thoughts.as_mut().map(ReasoningReader::finish);
        let mut parts = self.parts(sorted.unwrap_or_default());
        if let Some(reader) = &mut self.tools {
            let (text, calls) = reader.finish();
            parts.text.push_str(&text);
            parts.tool_calls.extend(calls);
        }
        parts
    }

    fn parts(&mut self, sorted: Sorted) -> Parts {
        let mut text = sorted.inline;
        let mut tool_calls = Vec::new();
        match &mut self.tools {
            Some(reader) => {
                let (more, calls) = reader.push(&sorted.answer);
                text.push_str(&more);
                tool_calls = calls;
            }
            None => text.push_str(&sorted.answer),
        }
        Parts {
            text,
            reasoning: sorted.thoughts,
            tool_calls,
        }
    }

    /// Whether it calls a tool.
    pub(crate) fn has_calls(&self) -> bool {
        self.tools.as_ref().is_some_and(|reader| reader.calls > 0)
    }

    /// Whether the one call that is allowed has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.tools.as_ref().is_some_and(|reader| reader.over)
    }
}

impl Parts {
    /// Adds what came after.
    pub(crate) fn extend(&mut self, more: Parts) {
        self.text.push_str(&more.text);
        self.reasoning.push_str(&more.reasoning);
        self.tool_calls.extend(more.tool_calls);
    }
}
