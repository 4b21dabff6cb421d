//! Predictions of speech as the output of RunPod's own worker for it (runpod.md 11.3): its keys, its order, its formats.
//! Apart from `speech`, which reads that worker's input.

use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::prediction::of_input;
use super::{Served, Shape};
use crate::captions::{self, Cue};
use crate::runpod::answer::Failure;
use crate::sse::Event;

/// What a transcript is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One line.
    Plain,
    /// A line for each segment.
    Lines,
    Srt,
    /// With its header, which their worker leaves out: a player takes no file without it, and drops a second one that a
    /// client has put before it.
    Vtt,
}

impl Format {
    /// `None` for a name that is none of theirs.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "plain_text" => Some(Self::Plain),
            "formatted_text" => Some(Self::Lines),
            "srt" => Some(Self::Srt),
            "vtt" => Some(Self::Vtt),
            _ => None,
        }
    }

    fn write(self, segments: &[Value]) -> String {
        let text = |segment: &Value| string(segment, "text").trim_start().to_owned();
        let cues = segments.iter().map(|segment| Cue {
            start: number(segment, "start"),
            end: number(segment, "end"),
            text: string(segment, "text").into(),
        });
        let joined = |between: &str| segments.iter().map(text).collect::<Vec<_>>().join(between);
        match self {
            Self::Plain => joined(" "),
            Self::Lines => joined("\n"),
            Self::Srt => captions::srt(cues),
            Self::Vtt => captions::vtt(cues),
        }
    }
}

fn string<'a>(segment: &'a Value, key: &str) -> &'a str {
    segment.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(segment: &Value, key: &str) -> f64 {
    segment.get(key).and_then(Value::as_f64).unwrap_or_default()
}

/// One prediction, or two of which the second is a translation, on their way to an output.
pub(super) struct Transcripts {
    /// How the input was read, for errors.
    pub(super) note: String,
    pub(super) transcription: Format,
    /// `None` where there is no second one.
    pub(super) translation: Option<Format>,
    pub(super) has_words: bool,
    /// Whether the text is wanted as `text`, too.
    pub(super) has_text: bool,
    /// The model that has answered by then.
    pub(super) served: Arc<OnceLock<Served>>,
}

/// A segment's keys besides `id`.
const SEGMENT: [&str; 10] = [
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
    // Ours, and there only where channels are apart.
    "channel",
];
/// A word's.
const WORD: [&str; 3] = ["word", "start", "end"];

/// Some of an object's entries, in this order.
fn only(keys: &[&str], from: &Value) -> Map<String, Value> {
    let entry = |key: &&str| Some(((*key).to_owned(), from.get(*key)?.clone()));
    keys.iter().filter_map(entry).collect()
}

fn list<'a>(from: Option<&'a Value>, key: &str) -> &'a [Value] {
    let found = from.and_then(|from| from.get(key));
    found.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Transcripts {
    /// Theirs are numbered from 1, ours from 0.
    pub(super) fn segments(segments: &[Value]) -> Value {
        let numbered = segments.iter().map(|segment| {
            let id = segment.get("id").and_then(Value::as_u64).unwrap_or(0);
            let mut out = Map::from_iter([("id".to_owned(), id.saturating_add(1).into())]);
            out.extend(only(&SEGMENT, segment));
            Value::Object(out)
        });
        numbered.collect()
    }

    pub(super) fn words(segments: &[Value]) -> Value {
        let words = segments.iter().flat_map(|one| list(Some(one), "words"));
        words.map(|word| Value::Object(only(&WORD, word))).collect()
    }

    fn output(&self, predictions: &[Value]) -> Map<String, Value> {
        let (first, second) = (predictions.first(), predictions.get(1));
        let heard = list(first, "segments");
        let transcription = self.transcription.write(heard);
        let translation = self
            .translation
            .map(|format| format.write(list(second, "segments")));
        let served = self.served.get();
        // Theirs is `cuda` whichever GPU it is.
        let device = served.and_then(|served| served.device.split(':').next());
        let language = first.and_then(|first| first.get("language")).cloned();
        let mut output = Map::new();
        let mut add = |key: &str, value: Value| output.insert(key.to_owned(), value);
        add("segments", Self::segments(heard));
        add("detected_language", language.unwrap_or_default());
        if self.has_text {
            add("text", Format::Plain.write(heard).into());
        }
        add("transcription", transcription.into());
        add("translation", translation.into());
        add("device", device.into());
        add("model", served.map(|served| served.model.as_str()).into());
        if self.has_words {
            add("word_timestamps", Self::words(heard));
        }
        output
    }
}

impl Shape for Transcripts {
    fn whole(&self, answer: Value) -> Value {
        match answer.get("predictions").and_then(Value::as_array) {
            Some(predictions) => Value::Object(self.output(predictions)),
            None => answer,
        }
    }

    fn event(&mut self, _: &Event) {}

    fn chunks(&mut self) -> Vec<Value> {
        Vec::new()
    }

    /// In the input's words, which may have gone out as a second instance's.
    fn error(&self, failure: Failure) -> String {
        let message = failure.message.replace("instances[1]", "instances[0]");
        format!("{} ({})", of_input(&message), self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served() -> Arc<OnceLock<Served>> {
        let served = Served {
            task: "automatic-speech-recognition".into(),
            model: "mine".into(),
            device: "cuda:1".into(),
            refiner: false,
        };
        Arc::new(OnceLock::from(served))
    }

    fn shape() -> Transcripts {
        Transcripts {
            note: "it is read as x".into(),
            transcription: Format::Plain,
            translation: None,
            has_words: false,
            has_text: false,
            served: served(),
        }
    }

    fn segment(number: u64, text: &str) -> Value {
        json!({
            "id": number, "seek": 100 * number, "start": number as f64, "end": number as f64 + 0.5, "text": text,
            "tokens": [1, 2], "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125,
            "words": [{"word": text, "start": number as f64, "end": number as f64 + 0.5, "probability": 0.5}],
        })
    }

    fn answer() -> Value {
        json!({"predictions": [{
            "text": "a b", "language": "fr", "duration": 1.5, "task": "transcribe",
            "segments": [segment(0, " a"), segment(1, " b --> c")],
        }]})
    }

    #[test]
    fn the_output_is_theirs_key_by_key() {
        let output = shape().whole(answer());
        let segment = |id: u64, seek: u64, text: &str| {
            let at = seek as f64 / 100.0;
            json!({"id": id, "seek": seek, "start": at, "end": at + 0.5, "text": text, "tokens": [1, 2],
                "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.125})
        };
        let expected = json!({
            "segments": [segment(1, 0, " a"), segment(2, 100, " b --> c")],
            "detected_language": "fr", "transcription": "a b --> c", "translation": null, "device": "cuda", "model": "mine",
        });
        assert_eq!(output, expected);
        let keys: Vec<&str> = output
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            [
                "segments",
                "detected_language",
                "transcription",
                "translation",
                "device",
                "model"
            ]
        );
    }

    #[test]
    fn a_transcript_comes_in_four_forms() {
        for (name, expected) in [
            ("plain_text", "a b --> c"),
            ("formatted_text", "a\nb --> c"),
            (
                "srt",
                "1\n00:00:00,000 --> 00:00:00,500\na\n\n2\n00:00:01,000 --> 00:00:01,500\nb -> c\n\n",
            ),
            (
                "vtt",
                "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\na\n\n00:00:01.000 --> 00:00:01.500\nb -> c\n\n",
            ),
        ] {
            let transcription = Format::named(name).unwrap();
            let output = Transcripts {
                transcription,
                ..shape()
            }
            .whole(answer());
            assert_eq!(output["transcription"], expected, "{name}");
        }
        assert_eq!(Format::named("plain text"), None);
    }

    #[test]
    fn a_translation_and_words_are_there_when_they_were_asked_for() {
        let mut answer = answer();
        let english = json!({"language": "fr", "segments": [segment(0, " one")]});
        answer["predictions"].as_array_mut().unwrap().push(english);
        let shape = Transcripts {
            translation: Some(Format::Lines),
            has_words: true,
            has_text: true,
            ..shape()
        };
        let output = shape.whole(answer);
        assert_eq!(output["translation"], "one");
        assert_eq!(output["text"], "a b --> c");
        assert_eq!(
            output["word_timestamps"],
            json!([{"word": " a", "start": 0.0, "end": 0.5}, {"word": " b --> c", "start": 1.0, "end": 1.5}])
        );
    }

    #[test]
    fn silence_has_no_segments() {
        let answer = json!({"predictions": [{"text": "", "language": null, "segments": []}]});
        let output = Transcripts {
            translation: Some(Format::Plain),
            ..shape()
        }
        .whole(answer);
        assert_eq!(
            output,
            json!({"segments": [], "detected_language": null, "transcription": "", "translation": "", "device": "cuda",
                "model": "mine"})
        );
    }

    #[test]
    fn an_error_names_the_inputs_field_wherever_it_was_sent() {
        for (told, said) in [
            (
                "instances[0].beam_size is 0",
                "beam_size is 0 (it is read as x)",
            ),
            (
                "instances[1].translate is true",
                "translate is true (it is read as x)",
            ),
            (
                "instances[0].vad_parameters.threshold is 9",
                "vad_parameters.threshold is 9 (it is read as x)",
            ),
        ] {
            let failure = Failure {
                message: told.into(),
                told: Value::Null,
            };
            assert_eq!(shape().error(failure), said);
        }
    }
}
