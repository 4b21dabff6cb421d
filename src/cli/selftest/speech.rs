//! The embedded speech recogniser: recordings of sentences and of none, each alone and then all of them together.

use std::time::Duration;

use anyhow::Context;
use chandler_core::{Audio, Input, Search, SpeechInput, SpokenSegment, Transcript};
use serde::{Deserialize, Serialize};

use super::company::{self, Question, median};
use crate::cli::ask::Answer;
use crate::engine::Engine;

#[cfg(feature = "speech")]
const RECORDED: &str = include_str!("../../../pipelines/demo/speech/clips/answers.json");
#[cfg(not(feature = "speech"))]
const RECORDED: &str = "[]";

#[cfg(feature = "speech")]
macro_rules! clips {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../pipelines/demo/speech/clips/", $name)))),*]
    };
}
#[cfg(feature = "speech")]
const CLIPS: &[(&str, &[u8])] = clips![
    "command.flac",
    "number.opus",
    "time.opus",
    "date.opus",
    "question.opus",
    "noise.opus",
    "two-sentences.opus",
    "unseen-wording.opus",
    "no-speech.opus",
];
#[cfg(not(feature = "speech"))]
const CLIPS: &[(&str, &[u8])] = &[];

/// Seconds that a time may be off, in which timestamp tokens lie two hundredths apart: transformers, which recorded, hears silence
/// behind a recording, and the model here hears nothing, as openai-whisper has it.
const CLOSE: f64 = 0.05;

/// A recording with the transcript that the reference implementation gave.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    bytes: &'static [u8],
    recorded: Recorded,
}

#[derive(Debug, Clone, Deserialize)]
struct Recorded {
    file: String,
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, Deserialize)]
struct Segment {
    start: f64,
    end: f64,
    text: String,
}

/// What was recorded; nothing in a build without speech models.
pub(super) fn recorded() -> anyhow::Result<Vec<Clip>> {
    let all: Vec<Recorded> =
        serde_json::from_str(RECORDED).context("the recorded transcripts are not right")?;
    all.into_iter()
        .map(|recorded| {
            let found = CLIPS.iter().find(|(name, _)| *name == recorded.file);
            let (_, bytes) =
                found.with_context(|| format!("there is no clip {}", recorded.file))?;
            Ok(Clip { bytes, recorded })
        })
        .collect()
}

impl Question for Clip {
    fn input(&self) -> Input {
        Input::Speech(SpeechInput {
            audio: Audio::bytes(self.bytes),
            search: Search {
                temperatures: Some(vec![0.0]),
                ..Search::default()
            },
            ..SpeechInput::default()
        })
    }

    fn name(&self) -> String {
        self.recorded.file.clone()
    }

    fn difference(&self, answer: &Answer) -> Option<String> {
        let none = Transcript::default();
        let found = answer.collected.transcript.as_deref().unwrap_or(&none);
        let recorded = &self.recorded;
        if found.text() != recorded.text {
            return Some(format!(
                "heard {:?}, recorded {:?}",
                found.text(),
                recorded.text
            ));
        }
        let close = |found: f64, recorded: f64| (found - recorded).abs() < CLOSE;
        // A window's only segment begins with it, as openai-whisper has it; transformers gives its first time.
        let only = recorded.segments.len() == 1;
        let same = |(found, recorded): (&SpokenSegment, &Segment)| {
            let begins = close(found.start, recorded.start) || only && found.start == 0.0;
            found.text.trim() == recorded.text.trim() && begins && close(found.end, recorded.end)
        };
        let times = |segment: &SpokenSegment| (segment.start, segment.end);
        let all = found.segments.len() == recorded.segments.len()
            && found.segments.iter().zip(&recorded.segments).all(same);
        let found: Vec<_> = found.segments.iter().map(times).collect();
        let expected = recorded
            .segments
            .iter()
            .map(|segment| (segment.start, segment.end));
        (!all).then(|| {
            format!(
                "the times are {found:?}, recorded {:?}",
                expected.collect::<Vec<_>>()
            )
        })
    }
}

/// How the model did.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    load_ms: f64,
    /// Seconds of audio for each second of work, alone and all together.
    times_real_time: f64,
    times_real_time_together: f64,
    passed: usize,
    pub(super) failed: Vec<String>,
}

/// Transcribes everything.
pub(super) async fn examine(
    engine: &Engine,
    model: String,
    load: Duration,
    clips: &[Clip],
) -> Report {
    let found = company::examine(engine, clips).await;
    let seconds = |answer: &Answer| answer.collected.usage.audio_ms as f64 / 1000.0;
    let heard: f64 = found.together.iter().map(seconds).sum();
    let speed = |answer: &Answer| seconds(answer) / answer.total.as_secs_f64().max(1e-9);
    Report {
        model,
        load_ms: load.as_secs_f64() * 1000.0,
        times_real_time: median(found.alone.iter().map(speed)),
        times_real_time_together: found.a_second_together(heard),
        passed: found.passed,
        failed: found.failed,
    }
}

impl Report {
    pub(super) fn as_text(&self) -> String {
        let failures = self.failed.iter().map(|failure| format!("  {failure}\n"));
        format!(
            "model                     {}\n\
             load time                 {:.1} ms\n\
             times as fast as speech   {:.0} alone (median), {:.0} together\n\
             transcripts               {} as recorded, {} not\n{}",
            self.model,
            self.load_ms,
            self.times_real_time,
            self.times_real_time_together,
            self.passed,
            self.failed.len(),
            failures.collect::<String>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use chandler_core::Collected;

    use super::*;

    fn heard(segments: &[(f64, f64, &str)]) -> Answer {
        let segment = |(start, end, text): &(f64, f64, &str)| SpokenSegment {
            start: *start,
            end: *end,
            text: (*text).to_owned(),
            ..SpokenSegment::default()
        };
        let transcript = Transcript {
            segments: segments.iter().map(segment).collect(),
            ..Transcript::default()
        };
        Answer {
            collected: Collected {
                transcript: Some(Box::new(transcript)),
                ..Collected::default()
            },
            first_token: Duration::ZERO,
            total: Duration::ZERO,
        }
    }

    #[test]
    fn a_transcript_passes_only_when_text_and_times_are_as_recorded() {
        let recorded = serde_json::json!({"file": "x", "text": "A b. C.", "segments": [
            {"start": 0.5, "end": 1.0, "text": " A b."}, {"start": 1.2, "end": 2.0, "text": " C."}]});
        let clip = Clip {
            bytes: b"",
            recorded: serde_json::from_value(recorded).unwrap(),
        };
        let right = [(0.5, 1.02, " A b."), (1.2, 2.0, " C.")];
        assert_eq!(clip.difference(&heard(&right)), None);
        assert!(clip.difference(&heard(&[(0.5, 1.0, " A b. C.")])).is_some());
        let late = [(0.6, 1.02, " A b."), (1.2, 2.0, " C.")];
        assert!(
            clip.difference(&heard(&late))
                .unwrap()
                .starts_with("the times are")
        );
        let other = [(0.5, 1.02, " A b."), (1.2, 2.0, " D.")];
        assert!(
            clip.difference(&heard(&other))
                .unwrap()
                .starts_with("heard")
        );
    }

    #[cfg(feature = "speech")]
    #[test]
    fn every_recorded_clip_is_here_and_no_other() {
        let clips = recorded().unwrap();
        assert_eq!(clips.len(), CLIPS.len());
        assert!(clips.iter().all(|clip| clip.bytes.len() > 1000));
    }
}
