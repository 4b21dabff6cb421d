//! The embedded language model: greedy answers, each alone and then all of them together.

use std::time::{Duration, Instant};

use anyhow::Context;
use chandler_core::{Chat, Input, Limits, Message, Prompt, RequestError, Sampling, TextInput};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::cli::ask::{Answer, ask};
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

impl Recorded {
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

    /// What differs from the recorded answer.
    fn difference(&self, answer: &Result<Answer, RequestError>) -> Option<String> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Some(format!("failed: {error}")),
        };
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
    let mut failed = Vec::new();
    let mut alone = Vec::new();
    for question in recorded {
        let answer = ask(engine, question.input(), |_| true).await;
        note(question, &answer, "alone", &mut failed);
        alone.extend(answer);
    }
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, question) in recorded.iter().enumerate() {
        let (engine, input) = (engine.clone(), question.input());
        tasks.spawn(async move { (index, ask(&engine, input, |_| true).await) });
    }
    let mut tokens = 0;
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((index, answer)) => {
                if let Some(question) = recorded.get(index) {
                    note(question, &answer, "in company", &mut failed);
                }
                tokens += answer.map_or(0, |answer| answer.collected.usage.completion_tokens);
            }
            Err(error) => failed.push(format!("a request broke off: {error}")),
        }
    }
    let together = f64::from(tokens) / started.elapsed().as_secs_f64().max(1e-9);
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
        tokens_per_second_together: together,
        passed: recorded.len() * 2 - failed.len().min(recorded.len() * 2),
        failed,
    }
}

fn note(
    question: &Recorded,
    answer: &Result<Answer, RequestError>,
    how: &str,
    failed: &mut Vec<String>,
) {
    if let Some(difference) = question.difference(answer) {
        let asked = question
            .messages
            .last()
            .map(|message| format!("{:?}", message.content))
            .unwrap_or_default();
        failed.push(format!("{asked} {how}: {difference}"));
    }
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
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

    fn answer(text: &str, ids: &[u32]) -> Result<Answer, RequestError> {
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
        Ok(Answer {
            collected,
            first_token: Duration::ZERO,
            total: Duration::ZERO,
        })
    }

    #[test]
    fn an_answer_passes_only_when_text_and_tokens_are_as_recorded() {
        assert_eq!(recorded().difference(&answer("4", &[7])), None);
        assert_eq!(recorded().difference(&answer("4", &[7, 0])), None);
        assert!(recorded().difference(&answer("5", &[7])).is_some());
        assert!(recorded().difference(&answer("4", &[8])).is_some());
        assert!(
            recorded()
                .difference(&Err(RequestError::internal("no")))
                .is_some()
        );
    }
}
