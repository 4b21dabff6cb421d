//! A speech recogniser without a model, for the tests of front doors and engine: audio is a text, its words are what is said, half a
//! second each, and every line of it is a segment, one a step.

use std::sync::Arc;

use super::batch::{MockBatch, Played};
use crate::error::RequestError;
use crate::event::{Event, Events, Usage};
use crate::input::{Input, Task};
use crate::pipeline::{Cost, ModelInfo, Prepare, Prepared, RequestId};
use crate::speech::{
    Audio, Heard, HeardLanguage, SpeechInput, SpeechTask, SpokenSegment, SpokenWord, Times,
};

/// Seconds that a word lasts.
const WORD: f64 = 0.5;
/// The languages that it knows, by code and name.
const LANGUAGES: [(&str, &str); 2] = [("en", "english"), ("fr", "french")];

/// The pipeline: hears so many requests at once, a segment of each in a step.
pub type MockRecogniser = MockBatch<MockSpeech>;

/// A request of the mock: what is said in its audio, and how far it has been heard.
#[derive(Debug, Clone)]
pub struct MockSpeech {
    heard: Heard,
    segments: Vec<SpokenSegment>,
    given: usize,
    only_language: bool,
}

struct Listener;

impl Prepared for MockSpeech {
    fn cost(&self) -> Cost {
        Cost {
            rows: 1,
            blocks: 1,
            bytes: self.segments.iter().map(|s| s.text.len()).sum(),
        }
    }
}

impl Prepare for Listener {
    type Prepared = MockSpeech;

    fn prepare(&self, input: Input) -> Result<MockSpeech, RequestError> {
        let input = input.speech(Task::AutomaticSpeechRecognition)?;
        let language = language(input.language.as_deref())?;
        let text = text(&input.audio)?;
        let segments = segments(&text, &input);
        let duration = segments.last().map_or(0.0, |segment| segment.end);
        if let Some(most) = input.max_seconds.filter(|most| duration > *most) {
            let message = format!("the audio is longer than the limit of {most} s");
            return Err(RequestError::field("audio", message).with_code("audio_too_long"));
        }
        Ok(MockSpeech {
            heard: Heard {
                duration,
                speech: input.voice_activity.map(|_| duration),
                channels: 1,
                language: Some(language),
            },
            segments,
            given: 0,
            only_language: input.only_language,
        })
    }

    fn info(&self) -> ModelInfo {
        ModelInfo {
            task: Task::AutomaticSpeechRecognition,
            architecture: "MockRecogniser".into(),
            context_length: 0,
            vocab_size: 0,
            parameters: 0,
            device: "cpu".into(),
            dtype: "f32".into(),
            chat: false,
            refiner: false,
            adapters: Vec::new(),
            languages: LANGUAGES.map(|(code, _)| code.to_owned()).to_vec(),
            cache: None,
        }
    }

    fn warm_up(&self) -> Input {
        Input::Speech(SpeechInput {
            audio: Audio::bytes(b"warm".to_vec()),
            ..SpeechInput::default()
        })
    }
}

fn language(asked: Option<&str>) -> Result<HeardLanguage, RequestError> {
    let heard = |code: &str, name: &str| HeardLanguage {
        code: code.to_owned(),
        name: name.to_owned(),
        ..HeardLanguage::default()
    };
    let Some(asked) = asked else {
        return Ok(HeardLanguage {
            probability: Some(0.75),
            probabilities: vec![("en".into(), 0.75), ("fr".into(), 0.25)],
            ..heard("en", "english")
        });
    };
    let known = LANGUAGES
        .iter()
        .find(|(code, name)| *code == asked || *name == asked);
    let message = || format!("language is {asked:?}; it must be a language of the model: en, fr");
    let (code, name) = known.ok_or_else(|| RequestError::field("language", message()))?;
    Ok(heard(code, name))
}

fn text(audio: &Audio) -> Result<String, RequestError> {
    let bytes = match audio {
        Audio::Bytes(bytes) => (**bytes).as_ref().to_vec(),
        Audio::File(path) => std::fs::read(path).map_err(|error| {
            RequestError::field("audio", format!("the audio could not be read: {error}"))
        })?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| RequestError::field("audio", "this is not audio: the mock hears text"))?;
    if text.trim().is_empty() {
        return Err(RequestError::field("audio", "the audio is empty: no words"));
    }
    Ok(text)
}

fn segments(text: &str, input: &SpeechInput) -> Vec<SpokenSegment> {
    let mut at = 0.0;
    let mut segments = Vec::new();
    for (number, line) in (0u32..).zip(text.lines().filter(|line| !line.trim().is_empty())) {
        let line = match input.task {
            SpeechTask::Transcribe => line.to_owned(),
            SpeechTask::Translate => line.to_uppercase(),
        };
        let start = at;
        let words: Vec<SpokenWord> = line
            .split_whitespace()
            .map(|word| {
                let begins = at;
                at += WORD;
                SpokenWord {
                    text: format!(" {word}"),
                    start: begins,
                    end: at,
                    probability: 0.5,
                }
            })
            .collect();
        segments.push(SpokenSegment {
            start,
            end: at,
            text: words.iter().map(|word| word.text.as_str()).collect(),
            tokens: (0..words.len() as u32)
                .map(|word| 100 * number + word)
                .collect(),
            mean_log_probability: -0.25,
            compression_ratio: 1.0,
            no_speech: 0.125,
            words: (input.times == Times::Words).then_some(words),
            ..SpokenSegment::default()
        });
    }
    segments
}

impl Played for MockSpeech {
    fn preparer() -> Arc<dyn Prepare<Prepared = Self>> {
        Arc::new(Listener)
    }

    fn play(&mut self, id: RequestId, events: &mut Events) -> bool {
        if self.given == 0 {
            events.push(id, Event::Heard(Box::new(self.heard.clone())));
        }
        let next = self.segments.get(self.given);
        if let Some(segment) = next.filter(|_| !self.only_language) {
            let done = (segment.end * 1000.0) as u32;
            events.push(id, Event::Segment(Box::new(segment.clone())));
            let total = (self.heard.duration * 1000.0) as u32;
            events.push(id, Event::Progress { done, total });
        }
        self.given += 1;
        let last = self.only_language || self.given >= self.segments.len();
        if last {
            let written: usize = self.segments.iter().map(|s| s.tokens.len()).sum();
            events.push(
                id,
                Event::Done(Usage {
                    completion_tokens: if self.only_language {
                        0
                    } else {
                        written as u32
                    },
                    audio_ms: (self.heard.duration * 1000.0) as u64,
                    ..Usage::default()
                }),
            );
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::{Subject, check};

    #[test]
    fn it_keeps_the_contract() {
        let input = |number: u64| {
            let lines =
                (0..=number % 4).map(|line| "word ".repeat(1 + (line + number) as usize % 3));
            Input::Speech(SpeechInput {
                audio: Audio::bytes(lines.collect::<Vec<_>>().join("\n").into_bytes()),
                times: if number.is_multiple_of(2) {
                    Times::Words
                } else {
                    Times::Segments
                },
                ..SpeechInput::default()
            })
        };
        check(&Subject {
            make: &|| MockRecogniser::new(3, Duration::ZERO),
            input: &input,
            requests: 40,
            suspend_every: 3,
        });
    }
}
