//! What a loaded model's template and tokenizer say about thoughts and tools, found once, and what follows from it for
//! a request: how its answers are read, and the grammar that a call must follow when one must come.

use std::sync::Arc;

use chandler_core::RequestError;
use chandler_core::form::{Constraint, Reasoning, ToolChoice};
use chandler_core::input::Chat;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::json;

use super::marks::{Marks, Phase};
use super::tools::format::{PLAIN, ToolFormat};
use super::tools::reader::ToolReading;
use super::tools::{Tool, definitions, grammar, types};
use super::{Reading, ThoughtReading};
use crate::chat::ChatTemplate;
use crate::constraint::{self, FIELD, Language};
use crate::tokenizer::Tokenizer;

/// What a model's answers may hold besides text.
#[derive(Debug, Default)]
pub(crate) struct Dialect {
    marks: Option<&'static Marks>,
    format: Option<&'static ToolFormat>,
    /// The template shows tools to the model.
    shows_tools: bool,
}

/// The name of an answer's own grammar beside that of tool calls.
const ANSWER: &str = "answer";

impl Dialect {
    /// What a template's text says. Where it has one form for tools and one without, both count.
    pub(crate) fn of(template: &ChatTemplate) -> Self {
        let sources = || template.sources();
        let probe = json!({"type": "function", "function": {
            "name": "needle_in_a_haystack",
            "description": "",
            "parameters": {"type": "object", "properties": {}},
        }});
        Self {
            marks: sources().find_map(Marks::of_template),
            format: sources().find_map(ToolFormat::of_template),
            shows_tools: template.shows(probe, "needle_in_a_haystack"),
        }
    }

    /// Refuses what cannot be done with these tools, and drops those that the model is not to see.
    ///
    /// # Errors
    /// Names `tools` or `tool_choice`.
    pub(crate) fn admit(&self, chat: &mut Chat) -> Result<(), RequestError> {
        let tools = definitions(&chat.tools)?;
        match &chat.tool_choice {
            ToolChoice::None => chat.tools.clear(),
            ToolChoice::Auto if !tools.is_empty() && !self.shows_tools => {
                let message = "this model's chat template does not show tools to the model, so it cannot choose one; \
                               leave tools out, or set tool_choice to \"required\" or to a tool";
                return Err(RequestError::unsupported("tools", message));
            }
            ToolChoice::Required if tools.is_empty() => {
                let message = "tool_choice is \"required\", and there are no tools";
                return Err(RequestError::field("tool_choice", message));
            }
            ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
                let message = format!("tool_choice is {name:?}, which is none of the tools");
                return Err(RequestError::field("tool_choice", message));
            }
            _ => {}
        }
        Ok(())
    }

    /// How answers to a conversation are read, whose prompt is this text.
    pub(crate) fn reading(
        &self,
        chat: &Chat,
        prompt: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Reading, RequestError> {
        let mut shown = Vec::new();
        let thoughts = self.marks.map(|marks| {
            shown.extend([marks.open, marks.close]);
            ThoughtReading {
                marks,
                phase: marks.phase(prompt, chat),
                place: chat.reasoning,
                open: tokenizer.token_id(marks.open),
            }
        });
        // Where thoughts are in the text anyway and cannot come, there is nothing to read.
        let thoughts = thoughts.filter(|t| t.phase != Phase::Over || t.place != Reasoning::Inline);
        let mut tools = None;
        if let Some(format) = self.format_for(chat) {
            shown.extend(format.marks());
            let defined = definitions(&chat.tools)?;
            tools = Some(Arc::new(ToolReading {
                format,
                names: defined.iter().map(|tool| tool.name.clone()).collect(),
                types: types(&defined),
                one: chat.one_tool_call,
                hidden: special(tokenizer, format.open).is_some(),
            }));
        }
        let shown = shown.iter().filter_map(|mark| special(tokenizer, mark));
        Ok(Reading {
            thoughts,
            tools,
            shown: shown.collect(),
        })
    }

    /// The format in which calls are to be looked for.
    fn format_for(&self, chat: &Chat) -> Option<&'static ToolFormat> {
        if chat.tools.is_empty() {
            return None;
        }
        match chat.tool_choice {
            ToolChoice::None => None,
            ToolChoice::Auto => self.format,
            ToolChoice::Required | ToolChoice::Named(_) => Some(self.format.unwrap_or(&PLAIN)),
        }
    }

    /// The grammar of an answer, if it has one. Where a call must come, it is the call's, and a constraint has nothing
    /// to say; where one may come, the answer is one or the other.
    ///
    /// # Errors
    /// Names the constraint's or the tools' field.
    pub(crate) fn language(
        &self,
        chat: Option<&Chat>,
        constraint: Option<&Constraint>,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Language>, RequestError> {
        let calls = match chat.and_then(|chat| Some((chat, self.format_for(chat)?))) {
            Some((chat, format)) => {
                let tools = definitions(&chat.tools)?;
                let forced = !matches!(chat.tool_choice, ToolChoice::Auto);
                let wanted: Vec<&Tool> = tools
                    .iter()
                    .filter(|tool| match &chat.tool_choice {
                        ToolChoice::Named(name) => *name == tool.name,
                        _ => true,
                    })
                    .collect();
                let one = chat.one_tool_call || matches!(chat.tool_choice, ToolChoice::Named(_));
                match forced || constraint.is_some() {
                    true => Some((forced, grammar::calls(format, &wanted, one, tokenizer)?)),
                    false => None,
                }
            }
            None => None,
        };
        let answer = constraint.map(constraint::constraint).transpose()?;
        Ok(match (calls, answer) {
            (Some((true, calls)), _) => Some(Language {
                field: "tools".into(),
                grammar: single(constraint::grammar_text(&format!("start: calls\n{calls}"))),
            }),
            (Some((false, calls)), Some(answer)) => {
                let either = format!("start: @{ANSWER} | calls\n{calls}");
                Some(Language {
                    field: FIELD.into(),
                    grammar: TopLevelGrammar {
                        grammars: vec![
                            constraint::grammar_text(&either),
                            GrammarWithLexer {
                                name: Some(ANSWER.into()),
                                ..answer
                            },
                        ],
                        max_tokens: None,
                    },
                })
            }
            (_, Some(answer)) => Some(Language {
                field: FIELD.into(),
                grammar: single(answer),
            }),
            (_, None) => None,
        })
    }
}

fn single(grammar: GrammarWithLexer) -> TopLevelGrammar {
    TopLevelGrammar::from_grammar(grammar)
}

/// The id of a special token by its text.
fn special(tokenizer: &Tokenizer, text: &str) -> Option<u32> {
    tokenizer
        .token_id(text)
        .filter(|id| tokenizer.is_special(*id))
}
