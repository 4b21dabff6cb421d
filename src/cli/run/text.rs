//! A prompt and its answer.

use anyhow::Context;
use chandler_core::{Chat, Event, Input, Limits, Message, Prompt, Sampling, TextInput};
use serde_json::json;

use super::{Given, Loaded, Run};
use crate::cli::ask::{Answer, ask};
use crate::cli::output;

const HEADING: &str = "Text";

/// What may be said of a prompt and of nothing else.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// A system message that goes before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw", help_heading = HEADING)]
    system: Option<String>,
    /// Tokens of the answer at most [default: up to the context window]
    #[arg(long, value_name = "TOKENS", help_heading = HEADING)]
    max_tokens: Option<u32>,
    /// The adapter (--lora) to answer with [default: the model itself]
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    adapter: Option<String>,
    /// Continue the prompt as it stands, without the model's chat template
    #[arg(long, help_heading = HEADING)]
    raw: bool,
}

impl Flags {
    /// One that was typed.
    pub(super) fn typed(&self) -> Option<&'static str> {
        let typed = [
            (self.system.is_some(), "--system"),
            (self.max_tokens.is_some(), "--max-tokens"),
            (self.adapter.is_some(), "--adapter"),
            (self.raw, "--raw"),
        ];
        typed
            .into_iter()
            .find_map(|(typed, flag)| typed.then_some(flag))
    }
}

/// Asks, prints the answer as it is made, and then what was asked to be said about it.
pub(super) async fn answer(run: &Run, loaded: &Loaded<'_>, given: Given) -> anyhow::Result<()> {
    let input = input(run, given)?;
    let stream = !run.json;
    let mut failure = None;
    let answer = ask(&loaded.worker.engine, input, |event| match event {
        Event::Text(delta) if stream && !delta.text.is_empty() => output::print(&delta.text)
            .unwrap_or_else(|error| {
                failure = Some(error);
                false
            }),
        _ => true,
    })
    .await?;
    if let Some(error) = failure {
        return Err(error).context("cannot write the answer");
    }
    finish(run, loaded, &answer)
}

fn input(run: &Run, given: Given) -> anyhow::Result<Input> {
    let text = given.text()?;
    let prompt = if run.text.raw {
        Prompt::Text(text)
    } else {
        let system = run.text.system.iter();
        let system = system.map(|system| Message::text("system", system.as_str()));
        let messages = system.chain([Message::text("user", text)]).collect();
        Prompt::Chat(Chat {
            messages,
            ..Chat::default()
        })
    };
    Ok(Input::Text(TextInput {
        prompt,
        sampling: Sampling {
            temperature: run.temperature,
            seed: run.seed,
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: run.text.max_tokens,
            ..Limits::default()
        },
        n: 1,
        adapter: run.text.adapter.clone(),
        ..TextInput::default()
    }))
}

fn finish(run: &Run, loaded: &Loaded<'_>, answer: &Answer) -> anyhow::Result<()> {
    let (usage, load) = (answer.collected.usage, loaded.load);
    if run.json {
        let finish = answer.collected.rows.first().and_then(|row| row.finish);
        let report = json!({
            "model": run.text.adapter.as_deref().unwrap_or(&loaded.worker.id),
            "text": answer.text(),
            "finish_reason": finish.map(|reason| reason.as_str()),
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "load_ms": load.as_millis() as u64,
            "first_token_ms": answer.first_token.as_secs_f64() * 1000.0,
            "total_ms": answer.total.as_secs_f64() * 1000.0,
            "tokens_per_second": answer.tokens_per_second(),
        });
        output::print(&format!("{report}\n"))?;
    } else if !answer.text().ends_with('\n') {
        output::print("\n")?;
    }
    if run.verbose {
        eprintln!(
            "loaded in {load:.2?}, first token after {:.2?}, {} tokens read, {} written{}",
            answer.first_token,
            usage.prompt_tokens,
            usage.completion_tokens,
            answer
                .tokens_per_second()
                .map_or_else(String::new, |speed| format!(", {speed:.0} tokens/s")),
        );
    }
    Ok(())
}
