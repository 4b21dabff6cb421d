//! Speech on its way: `/predict` is always asked for a stream, so that a job can say how far it is; segments are its chunks where it
//! asks for a stream, too. What the output looks like at the end is the business of the shape within, which knows whole answers only.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::transcript::Transcripts;
use super::{Call, Known, Shape};
use crate::runpod::answer::Failure;
use crate::runpod::growth::Growth;
use crate::sse::Event;

/// Between two progresses, and before the first: each is a request to the platform for which the result waits, and what is done
/// within a second needs none.
const APART: Duration = Duration::from_secs(1);

/// What a chunk of segments looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Those of the one instance, as its prediction has them.
    One,
    /// The same of several, each under its number.
    Numbered,
    /// As RunPod's own worker's output has them; a second instance is the translation.
    Worker {
        /// Whether words have a list of their own.
        has_words: bool,
    },
}

/// Asks `/predict` for a stream of these instances; `chunks` are none where the job is no stream.
pub(super) fn listen(
    mut body: Map<String, Value>,
    (whole, kind, streams): (Box<dyn Shape>, Chunks, bool),
    known: &Known,
) -> Call {
    let instances = body.get("instances").and_then(Value::as_array);
    let shape = Listening {
        whole,
        kind,
        streams,
        instances: instances.map_or(1, Vec::len),
        news: BTreeMap::new(),
        heard: BTreeMap::new(),
        is_new: false,
        told: Instant::now(),
        answer: Value::Null,
    };
    body.insert("stream".into(), true.into());
    body.insert("progress".into(), true.into());
    Call {
        method: Method::POST,
        path: "/predict".into(),
        body: Some(Value::Object(body)),
        shape: Box::new(shape),
        growth: match streams {
            true => known.streaming.growth,
            false => Growth::default(),
        },
    }
}

struct Listening {
    whole: Box<dyn Shape>,
    kind: Chunks,
    streams: bool,
    instances: usize,
    /// Segments that have not gone out, by instance.
    news: BTreeMap<u64, Vec<Value>>,
    /// Seconds that have been heard and how many there are, by instance.
    heard: BTreeMap<u64, (f64, f64)>,
    /// Whether any of these was not told.
    is_new: bool,
    /// When progress was told last; at first, when the job began.
    told: Instant,
    /// What `/predict` would have answered.
    answer: Value,
}

impl Listening {
    fn chunk(&self, instance: u64, segments: Vec<Value>) -> Value {
        let Chunks::Worker { has_words } = self.kind else {
            let mut chunk = json!({"segments": segments});
            if self.kind == Chunks::Numbered {
                chunk["instance"] = instance.into();
            }
            return chunk;
        };
        if instance > 0 {
            return json!({"translation_segments": Transcripts::segments(&segments)});
        }
        let mut chunk = json!({"segments": Transcripts::segments(&segments)});
        if has_words {
            chunk["word_timestamps"] = Transcripts::words(&segments);
        }
        chunk
    }
}

impl Shape for Listening {
    fn whole(&self, answer: Value) -> Value {
        self.whole.whole(answer)
    }

    fn event(&mut self, event: &Event) {
        let Some(Value::Object(mut data)) = event.data() else {
            return;
        };
        let instance = data.shift_remove("instance");
        let instance = instance.and_then(|number| number.as_u64()).unwrap_or(0);
        let kind = data.shift_remove("type");
        match kind.as_ref().and_then(Value::as_str) {
            Some("transcript.segment") if self.streams => {
                let segment = data.shift_remove("segment");
                self.news.entry(instance).or_default().extend(segment);
            }
            Some("transcript.progress") => {
                let number = |key: &str| data.get(key).and_then(Value::as_f64);
                if let Some(heard) = number("seconds").zip(number("duration")) {
                    self.heard.insert(instance, heard);
                    self.is_new = true;
                }
            }
            Some("predictions") => self.answer = Value::Object(data),
            _ => {}
        }
    }

    fn chunks(&mut self) -> Vec<Value> {
        let news = std::mem::take(&mut self.news).into_iter();
        news.map(|(instance, segments)| self.chunk(instance, segments))
            .collect()
    }

    fn output_is_its_chunks(&self) -> bool {
        false
    }

    fn progress(&mut self) -> Option<Value> {
        if !self.is_new || self.told.elapsed() < APART {
            return None;
        }
        (self.is_new, self.told) = (false, Instant::now());
        let known = self.heard.len().max(1) as f64;
        let sum = |of: fn(&(f64, f64)) -> f64| self.heard.values().map(of).sum::<f64>();
        // Of instances that nobody has looked at it is thought that they are as long as the others.
        let (seconds, duration) = (sum(|heard| heard.0), sum(|heard| heard.1));
        let duration = duration / known * self.instances.max(1) as f64;
        // The worker's second instance is the same audio again.
        let times = match self.kind {
            Chunks::Worker { .. } => self.instances.max(1) as f64,
            _ => 1.0,
        };
        let percent = (100.0 * seconds / duration.max(f64::MIN_POSITIVE)).min(100.0);
        let rounded = |seconds: f64| (seconds / times * 1000.0).round() / 1000.0;
        Some(json!({
            "progress": percent as u64, "seconds": rounded(seconds), "duration": rounded(duration),
        }))
    }

    fn is_stream(&self) -> bool {
        self.streams
    }

    fn output(&mut self, _: Vec<Value>) -> Value {
        self.whole.whole(self.answer.take())
    }

    fn error(&self, failure: Failure) -> String {
        self.whole.error(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::tests::known;
    use crate::runpod::dialect::{SPEECH_RECOGNITION, recognise};
    use crate::sse::Splitter;

    fn say(shape: &mut dyn Shape, event: Value) {
        for event in Splitter::default().push(format!("data: {event}\n\n").as_bytes()) {
            shape.event(&event);
        }
    }

    fn segment(instance: u64, id: u64, text: &str) -> Value {
        let words = json!([{"word": text, "start": 0.0, "end": 1.0, "probability": 0.5}]);
        let segment = json!({"id": id, "start": 0.0, "end": 1.0, "text": text, "words": words});
        json!({"type": "transcript.segment", "instance": instance, "segment": segment})
    }

    fn shape(input: Value) -> Box<dyn Shape> {
        let call = recognise(input, &known(Some(SPEECH_RECOGNITION))).unwrap();
        let body = call.body.unwrap();
        assert_eq!(
            (&body["stream"], &body["progress"]),
            (&json!(true), &json!(true))
        );
        call.shape
    }

    #[test]
    fn a_job_that_streams_has_its_segments_as_chunks_in_its_dialects_words() {
        let words = || json!([{"word": " b", "start": 0.0, "end": 1.0, "probability": 0.5}]);
        let plain = json!({"id": 1, "start": 0.0, "end": 1.0, "text": " b", "words": words()});
        let theirs = json!({"id": 2, "start": 0.0, "end": 1.0, "text": " b"});
        for (input, instance, expected) in [
            (
                json!({"task": "transcribe", "audio_base64": "aGk="}),
                0,
                json!({"segments": [plain]}),
            ),
            (
                json!({"instances": [{"audio": "aGk="}, {"audio": "aGk="}]}),
                1,
                json!({"segments": [plain], "instance": 1}),
            ),
            (
                json!({"audio_base64": "aGk="}),
                0,
                json!({"segments": [theirs]}),
            ),
            (
                json!({"audio_base64": "aGk=", "word_timestamps": true}),
                0,
                json!({"segments": [theirs], "word_timestamps": [{"word": " b", "start": 0.0, "end": 1.0}]}),
            ),
            (
                json!({"audio_base64": "aGk=", "translate": true}),
                1,
                json!({"translation_segments": [theirs]}),
            ),
        ] {
            let mut streamed = input.clone();
            streamed["stream"] = true.into();
            let mut shape = shape(streamed);
            say(shape.as_mut(), segment(instance, 1, " b"));
            assert!(shape.is_stream() && !shape.output_is_its_chunks());
            assert_eq!(shape.chunks(), [expected], "{input}");
            assert!(shape.chunks().is_empty(), "{input}");
        }
        let mut whole = shape(json!({"audio_base64": "aGk="}));
        say(whole.as_mut(), segment(0, 0, " a"));
        assert!(!whole.is_stream() && whole.chunks().is_empty());
    }

    #[test]
    fn progress_is_told_once_a_second_and_counts_what_nobody_has_looked_at() {
        let told = |input: &str, events: &[(u64, f64)]| {
            let whole = super::super::prediction::one(String::new());
            let kind = match input {
                "worker" => Chunks::Worker { has_words: false },
                _ => Chunks::Numbered,
            };
            let mut shape = Listening {
                whole,
                kind,
                streams: false,
                instances: 2,
                news: BTreeMap::new(),
                heard: BTreeMap::new(),
                is_new: false,
                told: Instant::now(),
                answer: Value::Null,
            };
            for (instance, seconds) in events {
                say(
                    &mut shape,
                    json!({"type": "transcript.progress", "instance": instance, "seconds": seconds, "duration": 40.0}),
                );
            }
            assert_eq!(shape.progress(), None, "before a second is over");
            shape.told -= APART;
            let told = shape.progress();
            assert_eq!(shape.progress(), None, "the same twice");
            told
        };
        let of = |progress: u64, seconds: f64, duration: f64| {
            Some(json!({"progress": progress, "seconds": seconds, "duration": duration}))
        };
        assert_eq!(
            told("instances", &[(0, 10.0), (0, 20.0)]),
            of(25, 20.0, 80.0)
        );
        assert_eq!(
            told("instances", &[(0, 40.0), (1, 20.0)]),
            of(75, 60.0, 80.0)
        );
        assert_eq!(told("worker", &[(0, 40.0), (1, 20.0)]), of(75, 30.0, 40.0));
        assert_eq!(told("worker", &[]), None);
    }
}
