//! `chandler run`: one answer, without a server.

use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use chandler_core::{Chat, Input, Limits, Message, Prompt, Sampling, TextInput};
use serde_json::json;

use super::ask::{Answer, ask};
use super::flags::{ModelOnly, SettingFlags};
use super::{output, progress, telemetry, threads, worker};

/// Answer one prompt without a server; the answer comes to standard output as it is made.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// What to answer; `-` reads it from standard input
    prompt: String,
    /// A system message that goes before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Tokens of the answer at most [default: up to the context window]
    #[arg(long, value_name = "TOKENS")]
    max_tokens: Option<u32>,
    /// 0 takes the most likely token every time; higher is more varied [default: the model's own]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// The same seed gives the same answer [default: a fresh one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The adapter (--lora) to answer with [default: the model itself]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Continue the prompt as it stands, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// Print one JSON object at the end instead of the text as it comes
    #[arg(long)]
    json: bool,
    /// Print load time, time to first token and speed to standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    settings: SettingFlags<ModelOnly>,
}

impl Run {
    pub(super) fn execute(mut self) -> anyhow::Result<ExitCode> {
        let resolution = std::mem::take(&mut self.settings).resolve()?;
        threads::settle(&resolution.settings);
        let bars = telemetry::start_quiet(&resolution.settings, &resolution.warnings);
        let input = self.input()?;
        let worker = worker::start(&resolution, Instant::now())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let load = progress::until_ready(&worker.engine, &worker.screen(&bars)).await?;
            let stream = !self.json;
            let mut failure = None;
            let answer = ask(&worker.engine, input, |text| {
                match output::print(if stream { text } else { "" }) {
                    Ok(open) => open,
                    Err(error) => {
                        failure = Some(error);
                        false
                    }
                }
            })
            .await?;
            if let Some(error) = failure {
                return Err(error).context("cannot write the answer");
            }
            self.finish(&worker.id, load, &answer)?;
            Ok(ExitCode::SUCCESS)
        })
    }

    fn input(&self) -> anyhow::Result<Input> {
        let mut text = self.prompt.clone();
        if text == "-" {
            text.clear();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read the prompt from standard input")?;
        }
        let prompt = if self.raw {
            Prompt::Text(text)
        } else {
            let system = self
                .system
                .iter()
                .map(|system| Message::text("system", system.as_str()));
            let messages = system.chain([Message::text("user", text)]).collect();
            Prompt::Chat(Chat {
                messages,
                ..Chat::default()
            })
        };
        Ok(Input::Text(TextInput {
            prompt,
            sampling: Sampling {
                temperature: self.temperature,
                seed: self.seed,
                ..Sampling::default()
            },
            limits: Limits {
                max_tokens: self.max_tokens,
                ..Limits::default()
            },
            n: 1,
            adapter: self.adapter.clone(),
            ..TextInput::default()
        }))
    }

    fn finish(&self, model: &str, load: Duration, answer: &Answer) -> anyhow::Result<()> {
        let usage = answer.collected.usage;
        if self.json {
            let finish = answer.collected.rows.first().and_then(|row| row.finish);
            let report = json!({
                "model": self.adapter.as_deref().unwrap_or(model),
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
        if self.verbose {
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
}
