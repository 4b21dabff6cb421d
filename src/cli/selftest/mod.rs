//! `chandler selftest`: the embedded models on this machine's device, held against recorded answers. One file a modality.

mod company;
mod image;
mod speech;
mod text;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::MultiProgress;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::exit::{Exit, FAILED, USAGE};
use super::flags::{ModelOnly, SettingFlags};
use super::worker::Worker;
use super::{output, progress, telemetry, threads, worker};

/// Run the embedded models on this machine's device and compare with recorded answers.
///
/// The smoke test for a new GPU: prints device, dtype, load time, time to first token and speed. Every question is asked
/// alone and then all of them together, greedily; recordings are transcribed, and pictures drawn. Exit code 1 when an answer differs.
#[derive(Debug, clap::Args)]
pub struct Selftest {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<ModelOnly>,
}

/// How the models of this build did.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    text: Option<text::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speech: Option<speech::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<image::Report>,
}

impl Report {
    fn as_text(&self) -> String {
        let text = self.text.iter().map(text::Report::as_text);
        let speech = self.speech.iter().map(speech::Report::as_text);
        let image = self.image.iter().map(image::Report::as_text);
        let all = text.chain(speech).chain(image);
        all.collect::<Vec<_>>().join("\n")
    }

    fn has_failures(&self) -> bool {
        let text = self.text.iter().flat_map(|report| &report.failed);
        let speech = self.speech.iter().flat_map(|report| &report.failed);
        let image = self.image.iter().flat_map(|report| &report.failed);
        text.chain(speech).chain(image).next().is_some()
    }
}

impl Selftest {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let mut typed = self.settings.clone();
        if typed
            .set("model", "demo")
            .is_some_and(|model| model != "demo")
        {
            return Err(Exit::new(
                USAGE,
                "selftest runs the embedded models; use `chandler run --model` for others",
            )
            .into());
        }
        let (questions, clips) = (text::recorded()?, speech::recorded()?);
        let pictures = image::recorded()?;
        if questions.is_empty() && clips.is_empty() && pictures.is_empty() {
            return Err(Exit::new(
                FAILED,
                "this build has no embedded model with recorded answers",
            )
            .into());
        }
        let resolution = typed.resolve()?;
        threads::settle(&resolution.settings);
        let bars = telemetry::start_quiet(&resolution.settings, &resolution.warnings);
        let mut report = Report {
            text: None,
            speech: None,
            image: None,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        if !questions.is_empty() {
            let (worker, load) = self.load("demo", &runtime, &bars)?;
            let examined = text::examine(&worker.engine, worker.id.clone(), load, &questions);
            report.text = Some(runtime.block_on(examined));
            runtime.block_on(worker.end());
        }
        if !clips.is_empty() {
            let (worker, load) = self.load("demo-asr", &runtime, &bars)?;
            let examined = speech::examine(&worker.engine, worker.id.clone(), load, &clips);
            report.speech = Some(runtime.block_on(examined));
            runtime.block_on(worker.end());
        }
        if !pictures.is_empty() {
            let (worker, load) = self.load("demo-image", &runtime, &bars)?;
            let examined = image::examine(&worker.engine, worker.id.clone(), load, &pictures);
            report.image = Some(runtime.block_on(examined));
            runtime.block_on(worker.end());
        }
        if self.json {
            output::print(&(serde_json::to_string(&report)? + "\n"))?;
        } else {
            output::print(&report.as_text())?;
        }
        Ok(match report.has_failures() {
            false => ExitCode::SUCCESS,
            true => ExitCode::from(FAILED),
        })
    }

    fn load(
        &self,
        model: &str,
        runtime: &Runtime,
        bars: &MultiProgress,
    ) -> anyhow::Result<(Worker, Duration)> {
        let mut settings = self.settings.clone();
        settings.set("model", model);
        let worker = worker::start(&settings.resolve()?, Instant::now())?;
        let load = runtime.block_on(progress::until_ready(&worker.engine, &worker.screen(bars)))?;
        Ok((worker, load))
    }
}
