//! The embedded language model: greedy answers, each alone and then all of them together.

use std::time::Duration;

use anyhow::Context;
use chandler_core::{Chat, Input, Limits, Message, Prompt, Sampling, TextInput};
use serde::{Deserialize, Serialize};

use super::company::{self, Question, median};
use crate::cli::ask::Answer;
use crate::cli::version;
use crate::engine::Engine;

#[cfg(feature = "text")]
const RECORDED: &str = include_str!("../../../pipelines/demo/answers.json");
#[cfg(not(feature = "text"))]
const RECORDED: &str = "[]";

/// What was recorded; nothing in a build without language models.
pub(super) fn recorded() -> anyhow::Result<Vec<Recorded>> {
    serde_json::from_str(RECORDED).context("the recorded answers are not right")
}

/// A question with the answer that the reference implementation gave.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Recorded {
    messages: Vec<Message>,
    max_tokens: u32,
    answer: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
}

impl Question for Recorded {
    fn input(&self) -> Input {
        Input::Text(TextInput {
            prompt: Prompt::Chat(Chat {
                messages: self.messages.clone(),
                ..Chat::default()
            }),
            sampling: Sampling {
                temperature: Some(0.0),
                ..Sampling::default()
            },
            limits: Limits {
                max_tokens: Some(self.max_tokens),
                ..Limits::default()
            },
            n: 1,
            ..TextInput::default()
        })
    }

    fn name(&self) -> String {
        let last = self.messages.last();
        last.map(|message| format!("{:?}", message.content))
            .unwrap_or_default()
    }

    fn difference(&self, answer: &Answer) -> Option<String> {
        if answer.text() != self.answer {
            return Some(format!(
                "answered {:?}, recorded {:?}",
                answer.text(),
                self.answer
            ));
        }
        let (read, recorded) = (
            answer.collected.usage.prompt_tokens as usize,
            self.prompt_tokens.len(),
        );
        if read != recorded {
            return Some(format!("read {read} tokens, recorded {recorded}"));
        }
        let tokens: Vec<u32> = answer
            .collected
            .rows
            .iter()
            .flat_map(|row| &row.tokens)
            .map(|token| token.id)
            .collect();
        // The end-of-text token is not always part of what is given out.
        let same = tokens.starts_with(&self.tokens) || self.tokens.starts_with(&tokens);
        (!same).then(|| format!("the tokens are {tokens:?}, recorded {:?}", self.tokens))
    }
}

/// How the model did.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    model: String,
    device: String,
    dtype: String,
    load_ms: f64,
    first_token_ms: f64,
    tokens_per_second: f64,
    tokens_per_second_together: f64,
    passed: usize,
    pub(super) failed: Vec<String>,
}

/// Asks everything.
pub(super) async fn examine(
    engine: &Engine,
    model: String,
    load: Duration,
    recorded: &[Recorded],
) -> Report {
    let found = company::examine(engine, recorded).await;
    let told = found.together.iter();
    let tokens: u32 = told
        .map(|answer| answer.collected.usage.completion_tokens)
        .sum();
    let alone = &found.alone;
    let info = engine.info();
    Report {
        version: version::SHORT,
        model,
        device: info
            .as_ref()
            .map(|info| info.device.clone())
            .unwrap_or_default(),
        dtype: info.map(|info| info.dtype).unwrap_or_default(),
        load_ms: load.as_secs_f64() * 1000.0,
        first_token_ms: median(
            alone
                .iter()
                .map(|answer| answer.first_token.as_secs_f64() * 1000.0),
        ),
        tokens_per_second: median(alone.iter().filter_map(Answer::tokens_per_second)),
        tokens_per_second_together: found.a_second_together(tokens.into()),
        passed: found.passed,
        failed: found.failed,
    }
}

impl Report {
    pub(super) fn as_text(&self) -> String {
        let failures: String = self
            .failed
            .iter()
            .map(|failure| format!("  {failure}\n"))
            .collect();
        format!(
            "model                     {}\n\
             device                    {}\n\
             dtype                     {}\n\
             load time                 {:.1} ms\n\
             time to first token       {:.1} ms (median)\n\
             tokens per second         {:.0} alone (median), {:.0} together\n\
             answers                   {} as recorded, {} not\n{failures}",
            self.model,
            self.device,
            self.dtype,
            self.load_ms,
            self.first_token_ms,
            self.tokens_per_second,
            self.tokens_per_second_together,
            self.passed,
            self.failed.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use chandler_core::{Collected, RowOutput, Token, Usage};

    use super::*;

    fn recorded() -> Recorded {
        serde_json::from_str(
            r#"{"messages":[{"role":"user","content":"2+2?"}],"max_tokens":4,"answer":"4","prompt_tokens":[1,2],"tokens":[7,0]}"#,
        )
        .unwrap()
    }

    fn answer(text: &str, ids: &[u32]) -> Answer {
        let tokens = ids
            .iter()
            .map(|id| Token {
                id: *id,
                ..Token::default()
            })
            .collect();
        let row = RowOutput {
            text: text.to_owned(),
            tokens,
            ..RowOutput::default()
        };
        let usage = Usage {
            prompt_tokens: 2,
            completion_tokens: 1,
            ..Usage::default()
        };
        let collected = Collected {
            rows: vec![row],
            usage,
            ..Collected::default()
        };
        Answer {
            collected,
            first_token: Duration::ZERO,
            total: Duration::ZERO,
        }
    }

    #[test]
    fn an_answer_passes_only_when_text_and_tokens_are_as_recorded() {
        assert_eq!(recorded().difference(&answer("4", &[7])), None);
        assert_eq!(recorded().difference(&answer("4", &[7, 0])), None);
        assert!(recorded().difference(&answer("5", &[7])).is_some());
        assert!(recorded().difference(&answer("4", &[8])).is_some());
    }
}
