//! `chandler run`: one answer, without a server. What the loaded model does decides whether the argument is a prompt (`text`, `image`)
//! or an audio file (`speech`).

mod drawing;
mod files;
mod gauge;
mod hearing;
mod image;
mod speech;
mod text;
mod transcript;

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use chandler_core::{Audio, Task};
use indicatif::MultiProgress;

use super::exit::{Exit, USAGE};
use super::flags::{ModelOnly, SettingFlags};
use super::worker::{self, Worker};
use super::{progress, telemetry, threads};

/// Answer one prompt, transcribe one audio file, or draw a picture, without a server; an answer comes to standard output as it is
/// made, pictures go to --output.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// What to answer or to draw, or the audio file to hear; `-` reads it from standard input
    #[arg(value_name = "PROMPT|FILE")]
    given: OsString,
    /// What the model is to do; one that does something else is an error [default: whatever it does]
    #[arg(long)]
    task: Option<Kind>,
    /// 0 takes the most likely token every time, higher is more varied; speech takes 0 to 1 [default: the model's own]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// The same seed gives the same answer [default: a fresh one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print one JSON object at the end instead of the text as it comes
    #[arg(long)]
    json: bool,
    /// Print load time, time to first token and speed to standard error
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    text: text::Flags,
    #[command(flatten)]
    speech: speech::Flags,
    #[command(flatten)]
    image: image::Flags,
    #[command(flatten)]
    settings: SettingFlags<ModelOnly>,
}

/// The tasks that have an answer on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// The argument is a prompt
    #[value(alias = "text")]
    TextGeneration,
    /// The argument is an audio file; `asr` for short
    #[value(aliases = ["asr", "transcribe"])]
    AutomaticSpeechRecognition,
    /// The argument is a prompt, and what is drawn goes to --output
    #[value(aliases = ["image", "image-to-image", "image-inpainting"])]
    TextToImage,
}

impl Kind {
    pub(super) fn task(self) -> Task {
        match self {
            Self::TextGeneration => Task::TextGeneration,
            Self::AutomaticSpeechRecognition => Task::AutomaticSpeechRecognition,
            Self::TextToImage => Task::TextToImage,
        }
    }
}

/// What is to be answered.
#[derive(Debug)]
enum Given {
    /// The argument.
    Typed(OsString),
    /// What stood behind a `-`.
    Piped(Vec<u8>),
    /// A file that has been found.
    Audio(Audio),
}

impl Given {
    /// A prompt.
    ///
    /// # Errors
    /// That it is no text.
    fn text(self) -> anyhow::Result<String> {
        let text = match self {
            Self::Typed(text) => text.into_string().ok(),
            Self::Piped(bytes) => String::from_utf8(bytes).ok(),
            Self::Audio(_) => None,
        };
        text.context("the prompt is no text: it is not UTF-8")
    }
}

/// A model that is ready, and what its answer needs beside the question.
struct Loaded<'a> {
    worker: &'a Worker,
    bars: &'a MultiProgress,
    /// How long it took to load.
    load: Duration,
}

impl Run {
    pub(super) fn execute(mut self) -> anyhow::Result<ExitCode> {
        let flags = std::mem::take(&mut self.settings);
        let wanted = self.wanted()?;
        let resolution = flags.resolve()?;
        threads::settle(&resolution.settings);
        let bars = telemetry::start_quiet(&resolution.settings, &resolution.warnings);
        let mut given = self.given()?;
        if matches!(wanted, Some((Task::AutomaticSpeechRecognition, _))) {
            // Before the model is loaded, which may take minutes.
            self.speech.format(self.json)?;
            given = Given::Audio(speech::open(given)?);
        }
        let ready = match wanted {
            Some((Task::TextToImage, _)) => Some(self.image.ready(self.json)?),
            _ => None,
        };
        let worker = worker::start(&resolution, Instant::now())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ended = runtime.block_on(async {
            let load = progress::until_ready(&worker.engine, &worker.screen(&bars)).await?;
            let does = worker.engine.loaded().await?.task;
            if let Some((task, why)) = wanted.filter(|(task, _)| !is_done_by(*task, does)) {
                let (task, does, id) = (task.tag(), does.tag(), &worker.id);
                let message = format!("{why} is for {task}; the model {id} does {does}");
                return Err(Exit::new(USAGE, message).into());
            }
            let loaded = Loaded {
                worker: &worker,
                bars: &bars,
                load,
            };
            match does {
                Task::TextGeneration => text::answer(&self, &loaded, given).await?,
                Task::AutomaticSpeechRecognition => speech::hear(&self, &loaded, given).await?,
                other if image::draws(other) => {
                    let ready = match ready {
                        Some(ready) => ready,
                        None => self.image.ready(self.json)?,
                    };
                    image::draw(&self, &loaded, (given, ready)).await?;
                }
                other => {
                    let message = format!("`chandler run` has no answer for {}", other.tag());
                    return Err(Exit::new(USAGE, message).into());
                }
            }
            Ok(ExitCode::SUCCESS)
        });
        runtime.block_on(worker.end());
        ended
    }

    /// The task that was typed, or that a flag is for, and what says so.
    fn wanted(&self) -> Result<Option<(Task, String)>, Exit> {
        let of_task = self.task.map(|kind| (kind.task(), "--task"));
        let of_text = self.text.typed().map(|flag| (Task::TextGeneration, flag));
        let of_speech = self.speech.typed();
        let of_speech = of_speech.map(|flag| (Task::AutomaticSpeechRecognition, flag));
        let of_image = self.image.typed().map(|flag| (Task::TextToImage, flag));
        let mut said = [of_task, of_text, of_speech, of_image]
            .into_iter()
            .flatten();
        let Some((task, flag)) = said.next() else {
            return Ok(None);
        };
        match said.find(|(other, _)| *other != task) {
            None => Ok(Some((task, flag.to_owned()))),
            Some((other, its)) => {
                let (task, other) = (task.tag(), other.tag());
                let message = format!("{flag} is for {task} and {its} for {other}; leave out one");
                Err(Exit::new(USAGE, message))
            }
        }
    }

    fn given(&self) -> anyhow::Result<Given> {
        if self.given != "-" {
            return Ok(Given::Typed(self.given.clone()));
        }
        let mut bytes = Vec::new();
        std::io::stdin()
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
        Ok(Given::Piped(bytes))
    }
}

/// Whether a model of one task does another: what draws takes a picture to begin with or says itself that it cannot.
fn is_done_by(wanted: Task, does: Task) -> bool {
    wanted == does || (image::draws(wanted) && image::draws(does))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn wanted(flags: &[&str]) -> Result<Option<(Task, String)>, String> {
        let line = ["run", "given"].iter().chain(flags);
        let run = Line::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .run;
        run.wanted().map_err(|exit| exit.message)
    }

    #[test]
    fn a_flag_of_one_task_asks_for_that_task() {
        let (text, speech) = (Task::TextGeneration, Task::AutomaticSpeechRecognition);
        let image = Task::TextToImage;
        for (flags, task) in [
            (&["--raw"][..], text),
            (&["--system", "a"], text),
            (&["--max-tokens", "3"], text),
            (&["--adapter", "a"], text),
            (&["--task", "text"], text),
            (&["--task", "asr"], speech),
            (
                &["--task", "automatic-speech-recognition", "--json"],
                speech,
            ),
            (&["--language", "en"], speech),
            (&["--translate"], speech),
            (&["--prompt", "a"], speech),
            (&["--beam-size", "2"], speech),
            (&["--words", "--json"], speech),
            (&["--vad"], speech),
            (&["--chunks"], speech),
            (&["--channels-apart"], speech),
            (&["--max-duration", "1h30m"], speech),
            (&["--format", "srt"], speech),
            (&["--task", "text-to-image"], image),
            (&["--task", "image"], image),
            (&["--output", "a.png"], image),
            (&["--negative-prompt", "a"], image),
            (&["--steps", "3", "-n", "2"], image),
            (
                &["--image", "a.png", "--mask", "b.png", "--strength", "0.5"],
                image,
            ),
        ] {
            let (found, why) = wanted(flags).unwrap().unwrap();
            assert_eq!(found, task, "{flags:?}");
            assert_eq!(why, flags[0]);
        }
        assert_eq!(
            wanted(&["--temperature", "0", "--seed", "1", "--json"]),
            Ok(None)
        );
    }

    #[test]
    fn flags_of_two_tasks_are_refused_by_name() {
        for (flags, said) in [
            (
                &["--task", "asr", "--raw"][..],
                "--task is for automatic-speech-recognition and --raw for text-generation; leave out one",
            ),
            (
                &["--vad", "--system", "a"],
                "--system is for text-generation and --vad for automatic-speech-recognition; leave out one",
            ),
        ] {
            assert_eq!(wanted(flags).unwrap_err(), said);
        }
        for flags in [
            &["--task", "dance"][..],
            &["--beam-size", "0"],
            &["--max-duration", "0"],
            &["--max-duration", "long"],
            &["--format", "doc"],
            &["--format", "srt", "--json"],
            &["--mask", "a.png"],
            &["--image", "a.png", "--padding-mask-crop", "8"],
            &["--image", "a.png", "--strength", "2"],
            &["--steps", "0"],
        ] {
            assert!(wanted(flags).is_err(), "{flags:?}");
        }
    }
}
