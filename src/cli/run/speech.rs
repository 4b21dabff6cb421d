//! An audio file and what is said in it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use chandler_core::{
    Audio, Event, Hints, Input, LongForm, Search, SpeechInput, SpeechTask, Times, Transcript,
    VoiceActivity,
};

use super::hearing::Hearing;
use super::transcript::{Format, Report, line};
use super::{Given, Loaded, Run};
use crate::cli::ask::{Answer, ask};
use crate::cli::exit::{Exit, USAGE};
use crate::cli::output;
use crate::config::Value;

const HEADING: &str = "Speech";

/// What may be said of audio and of nothing else.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// The language spoken, by code or English name [default: detected]
    #[arg(long, value_name = "LANGUAGE", help_heading = HEADING)]
    language: Option<String>,
    /// Write in English what is said in another language
    #[arg(long, help_heading = HEADING)]
    translate: bool,
    /// A text as if it had been said before: spelling and style follow it
    #[arg(long, value_name = "TEXT", help_heading = HEADING)]
    prompt: Option<String>,
    /// Transcripts that are searched side by side at temperature 0; 1 is greedy [default: the model's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    beam_size: Option<u32>,
    /// Times of words too: a subtitle each in srt and vtt, listed in json and verbose
    #[arg(long, help_heading = HEADING)]
    words: bool,
    /// Leave out what is not speech before the model hears it
    #[arg(long, help_heading = HEADING)]
    vad: bool,
    /// Cut long audio where nobody speaks, and hear the pieces beside each other: faster
    #[arg(long, help_heading = HEADING)]
    chunks: bool,
    /// Each channel for itself, instead of their mean
    #[arg(long, help_heading = HEADING)]
    channels_apart: bool,
    /// Longer audio is an error; such as 90, 30s or 2h
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = HEADING)]
    max_duration: Option<Duration>,
    /// What is printed [default: text]
    #[arg(long, conflicts_with = "json", help_heading = HEADING)]
    format: Option<Format>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = <Duration as Value>::parse(text)?;
    match duration.is_zero() {
        true => Err("it must be above 0".to_owned()),
        false => Ok(duration),
    }
}

impl Flags {
    /// One that was typed.
    pub(super) fn typed(&self) -> Option<&'static str> {
        let typed = [
            (self.language.is_some(), "--language"),
            (self.translate, "--translate"),
            (self.prompt.is_some(), "--prompt"),
            (self.beam_size.is_some(), "--beam-size"),
            (self.words, "--words"),
            (self.vad, "--vad"),
            (self.chunks, "--chunks"),
            (self.channels_apart, "--channels-apart"),
            (self.max_duration.is_some(), "--max-duration"),
            (self.format.is_some(), "--format"),
        ];
        typed
            .into_iter()
            .find_map(|(typed, flag)| typed.then_some(flag))
    }

    /// What is printed.
    pub(super) fn format(&self, json: bool) -> Result<Format, Exit> {
        let format = match json {
            true => Format::Json,
            false => self.format.unwrap_or(Format::Text),
        };
        if self.words && format == Format::Text {
            let message = "--words has no place in text; add --format srt, vtt, json or verbose";
            return Err(Exit::new(USAGE, message));
        }
        Ok(format)
    }
}

/// The audio: a file where it can be read again, else its bytes.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn open(given: Given) -> anyhow::Result<Audio> {
    let path = match given {
        Given::Audio(audio) => return Ok(audio),
        Given::Piped(bytes) => return Ok(Audio::bytes(bytes)),
        Given::Typed(path) => PathBuf::from(path),
    };
    let cannot = || format!("cannot read the audio file {}", path.display());
    // A file that may not be read says so here, and not after the model has been loaded.
    let kind = std::fs::File::open(&path).and_then(|file| file.metadata());
    let kind = kind.with_context(cannot)?;
    if kind.is_file() {
        return Ok(Audio::File(path));
    }
    if kind.is_dir() {
        return Err(Exit::new(USAGE, format!("{} is a directory", path.display())).into());
    }
    // A pipe of the shell's, which is read once.
    Ok(Audio::bytes(std::fs::read(&path).with_context(cannot)?))
}

/// Asks, prints segments as they are final, or all at the end.
pub(super) async fn hear(run: &Run, loaded: &Loaded<'_>, given: Given) -> anyhow::Result<()> {
    let format = run.speech.format(run.json)?;
    let input = input(run, open(given)?);
    let mut hearing = Hearing::new(loaded.bars, Instant::now());
    let mut failure = None;
    let apart = run.speech.channels_apart;
    let answer = ask(
        &loaded.worker.engine,
        Input::Speech(input),
        |event| match event {
            Event::Segment(segment) if format == Format::Text => {
                let text = line(segment, apart);
                // The bar is where the text goes on a terminal.
                loaded
                    .bars
                    .suspend(|| output::print(&text))
                    .unwrap_or_else(|error| {
                        failure = Some(error);
                        false
                    })
            }
            Event::Progress { done, total } => {
                hearing.show((*done, *total), Instant::now());
                true
            }
            _ => true,
        },
    )
    .await?;
    drop(hearing);
    if let Some(error) = failure {
        return Err(error).context("cannot write the transcript");
    }
    let transcript = answer.collected.transcript.as_deref();
    let transcript = transcript.context("the model has ended without a transcript")?;
    if let Some(text) = report(run, loaded, &answer, transcript).write(format) {
        output::print(&text)?;
    }
    if run.verbose {
        say_speed(loaded.load, &answer, transcript);
    }
    Ok(())
}

fn report<'a>(
    run: &Run,
    loaded: &'a Loaded<'_>,
    answer: &Answer,
    transcript: &'a Transcript,
) -> Report<'a> {
    Report {
        model: &loaded.worker.id,
        translated: run.speech.translate,
        apart: run.speech.channels_apart,
        transcript,
        load: loaded.load,
        total: answer.total,
    }
}

fn say_speed(load: Duration, answer: &Answer, transcript: &Transcript) {
    let (duration, total) = (transcript.heard.duration, answer.total);
    let speed = duration / total.as_secs_f64().max(1e-9);
    eprintln!(
        "loaded in {load:.2?}, first segment after {:.2?}, {duration:.1} s of audio heard in {total:.2?}, {speed:.1} times as \
         fast as it was said",
        answer.first_token,
    );
}

fn input(run: &Run, audio: Audio) -> SpeechInput {
    let flags = &run.speech;
    SpeechInput {
        audio,
        task: match flags.translate {
            true => SpeechTask::Translate,
            false => SpeechTask::Transcribe,
        },
        language: flags.language.clone(),
        hints: Hints {
            prompt: flags.prompt.clone(),
            ..Hints::default()
        },
        search: Search {
            temperatures: run.temperature.map(|one| vec![one as f32]),
            beam_size: flags.beam_size,
            seed: run.seed,
            ..Search::default()
        },
        times: match flags.words {
            true => Times::Words,
            false => Times::Segments,
        },
        long_form: match flags.chunks {
            true => LongForm::Chunks,
            false => LongForm::Sequential,
        },
        voice_activity: flags.vad.then(VoiceActivity::default),
        channels_apart: flags.channels_apart,
        max_seconds: flags.max_duration.map(|most| most.as_secs_f64()),
        ..SpeechInput::default()
    }
}
