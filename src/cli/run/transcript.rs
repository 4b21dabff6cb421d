//! How a transcript is printed: lines as they come, subtitles, or one JSON object.

use std::borrow::Cow;
use std::time::Duration;

use chandler_core::{SpokenSegment, SpokenWord, Transcript};
use serde_json::{Map, Value, json};

use crate::captions::{Cue, srt, vtt};

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A line for each segment, as soon as it is final
    Text,
    /// SubRip subtitles, at the end
    Srt,
    /// WebVTT subtitles, at the end
    Vtt,
    /// One object at the end: the text, its language, and segments with their times
    Json,
    /// The same with all that the model said of each segment
    #[value(aliases = ["verbose_json", "verbose-json"])]
    Verbose,
}

/// A segment as a line of text; which channel it is from, where they are apart.
pub(super) fn line(segment: &SpokenSegment, apart: bool) -> String {
    let text = segment.text.trim();
    match apart {
        true => format!("[{}] {text}\n", segment.channel),
        false => format!("{text}\n"),
    }
}

/// A transcript, and what is said beside it.
pub(super) struct Report<'a> {
    pub(super) model: &'a str,
    pub(super) translated: bool,
    /// Whether each channel was heard for itself.
    pub(super) apart: bool,
    pub(super) transcript: &'a Transcript,
    /// What loading took.
    pub(super) load: Duration,
    /// What hearing took.
    pub(super) total: Duration,
}

impl Report<'_> {
    /// All of it; none where it was printed as it came.
    pub(super) fn write(&self, format: Format) -> Option<String> {
        Some(match format {
            Format::Text => return None,
            Format::Srt => srt(self.cues()),
            Format::Vtt => vtt(self.cues()),
            Format::Json => format!("{}\n", self.json(false)),
            Format::Verbose => format!("{}\n", self.json(true)),
        })
    }

    /// A segment each, or a word where their times are known; by their beginnings, which channels that were heard for
    /// themselves have mixed up.
    fn cues(&self) -> Vec<Cue<'_>> {
        let cue = |start, end, text: &str| Cue {
            start,
            end,
            text: Cow::Owned(text.to_owned()),
        };
        let of = |segment: &SpokenSegment| match &segment.words {
            Some(words) => words.iter().map(|w| cue(w.start, w.end, &w.text)).collect(),
            None => vec![cue(segment.start, segment.end, &segment.text)],
        };
        let mut cues: Vec<Cue<'_>> = self.transcript.segments.iter().flat_map(of).collect();
        cues.sort_by(|a, b| a.start.total_cmp(&b.start));
        cues
    }

    fn json(&self, verbose: bool) -> Value {
        let heard = &self.transcript.heard;
        let language = heard.language.as_ref();
        let segments = (0u64..).zip(&self.transcript.segments);
        let segments: Vec<Value> = segments
            .map(|(number, segment)| self.segment(number, segment, verbose))
            .collect();
        let mut report = json!({
            "model": self.model,
            "task": if self.translated { "translate" } else { "transcribe" },
            "text": self.transcript.text(),
            "language": language.map(|language| language.code.as_str()),
            "language_probability": language.and_then(|language| language.probability).map(rounded),
            "duration": heard.duration,
            "segments": segments,
            "load_ms": self.load.as_millis() as u64,
            "total_ms": self.total.as_secs_f64() * 1000.0,
        });
        if verbose {
            let detected = language.map(|language| language.probabilities.iter());
            let detected = detected.into_iter().flatten();
            let detected: Map<_, _> = detected
                .map(|(code, probability)| (code.clone(), rounded(*probability).into()))
                .collect();
            report["duration_after_vad"] = heard.speech.into();
            report["languages"] = detected.into();
        }
        report
    }

    fn segment(&self, number: u64, segment: &SpokenSegment, verbose: bool) -> Value {
        let mut out = json!({"start": segment.start, "end": segment.end, "text": segment.text});
        if self.apart {
            out["channel"] = segment.channel.into();
        }
        if let Some(words) = &segment.words {
            out["words"] = words.iter().map(word).collect();
        }
        if verbose {
            out["id"] = number.into();
            out["seek"] = segment.seek.into();
            out["tokens"] = segment.tokens.clone().into();
            out["temperature"] = rounded(segment.temperature).into();
            out["avg_logprob"] = segment.mean_log_probability.into();
            out["compression_ratio"] = segment.compression_ratio.into();
            out["no_speech_prob"] = rounded(segment.no_speech).into();
        }
        out
    }
}

fn word(word: &SpokenWord) -> Value {
    json!({"word": word.text, "start": word.start, "end": word.end, "probability": word.probability})
}

/// A single has seven digits; as a double, 0.2 would be printed as 0.20000000298023224.
fn rounded(single: f32) -> f64 {
    (f64::from(single) * 1e7).round() / 1e7
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandler_core::{Heard, HeardLanguage};

    fn transcript() -> Transcript {
        let segment = |channel: u32, start: f64, text: &str| SpokenSegment {
            channel,
            start,
            end: start + 1.0,
            text: text.to_owned(),
            temperature: 0.2,
            tokens: vec![7],
            ..SpokenSegment::default()
        };
        let language = HeardLanguage {
            code: "en".into(),
            probability: Some(0.75),
            probabilities: vec![("en".into(), 0.75), ("fr".into(), 0.25)],
            ..HeardLanguage::default()
        };
        Transcript {
            heard: Heard {
                duration: 3.0,
                speech: Some(2.0),
                channels: 2,
                language: Some(language),
            },
            segments: vec![segment(0, 1.0, " one"), segment(1, 0.5, " two")],
        }
    }

    fn report(transcript: &Transcript, apart: bool) -> Report<'_> {
        Report {
            model: "mine",
            translated: true,
            apart,
            transcript,
            load: Duration::from_millis(5),
            total: Duration::from_millis(20),
        }
    }

    #[test]
    fn subtitles_are_in_the_order_of_time() {
        let transcript = transcript();
        let srt = report(&transcript, true).write(Format::Srt).unwrap();
        assert_eq!(
            srt,
            "1\n00:00:00,500 --> 00:00:01,500\ntwo\n\n2\n00:00:01,000 --> 00:00:02,000\none\n\n"
        );
    }

    #[test]
    fn json_has_the_times_and_verbose_has_all() {
        let transcript = transcript();
        let read = |format, apart| -> Value {
            serde_json::from_str(&report(&transcript, apart).write(format).unwrap()).unwrap()
        };
        let json = read(Format::Json, true);
        assert_eq!(
            json,
            json!({
                "model": "mine", "task": "translate", "text": "one\ntwo", "language": "en", "language_probability": 0.75,
                "duration": 3.0, "load_ms": 5, "total_ms": 20.0, "segments": [
                    {"start": 1.0, "end": 2.0, "text": " one", "channel": 0},
                    {"start": 0.5, "end": 1.5, "text": " two", "channel": 1},
                ],
            })
        );
        let verbose = read(Format::Verbose, false);
        assert_eq!(
            verbose["segments"][1],
            json!({"start": 0.5, "end": 1.5, "text": " two", "id": 1, "seek": 0, "tokens": [7], "temperature": 0.2,
                "avg_logprob": 0.0, "compression_ratio": 0.0, "no_speech_prob": 0.0})
        );
        assert_eq!(verbose["languages"], json!({"en": 0.75, "fr": 0.25}));
        assert_eq!(verbose["duration_after_vad"], 2.0);
    }

    #[test]
    fn a_line_says_its_channel_where_they_are_apart() {
        let transcript = transcript();
        assert_eq!(line(&transcript.segments[1], true), "[1] two\n");
        assert_eq!(line(&transcript.segments[1], false), "two\n");
        assert_eq!(report(&transcript, false).write(Format::Text), None);
    }
}
