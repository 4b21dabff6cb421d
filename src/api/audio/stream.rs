//! A transcript as events: its text as each segment becomes final, and at the end all of it.

use chandler_core::{Heard, SpokenSegment, TextDelta, Transcript, Usage};
use serde_json::{Value, json};

use super::answer;
use super::fields::{Form, Wish};
use crate::api::sse::{Frames, Writer};

/// Writes them.
pub(super) struct Events {
    wish: Wish,
    /// All that was heard so far.
    transcript: Transcript,
    /// Space at the end of the last text, which belongs to the whole only when more follows.
    space: String,
}

impl Events {
    pub(super) fn new(wish: Wish) -> Self {
        Self {
            wish,
            transcript: Transcript::default(),
            space: String::new(),
        }
    }

    /// What a segment adds to the text, so that all of these together are the text at the end.
    fn delta(&mut self, text: &str) -> String {
        let begun = self
            .transcript
            .segments
            .iter()
            .any(|s| !s.text.trim().is_empty());
        let text = if begun { text } else { text.trim_start() };
        let words = text.trim_end();
        let (_, after) = text.split_at(words.len());
        if words.is_empty() {
            self.space.push_str(after);
            return String::new();
        }
        std::mem::replace(&mut self.space, after.to_owned()) + words
    }

    fn has_times(&self) -> bool {
        self.wish.form == Some(Form::Verbose) || self.wish.granularities.given()
    }
}

impl Writer for Events {
    fn text(&mut self, _: usize, _: TextDelta, _: &mut Frames) {}

    fn heard(&mut self, _: usize, heard: Heard, frames: &mut Frames) {
        if self.wish.progress {
            frames.push(&answer::progress(0.0, &heard));
        }
        self.transcript.heard = heard;
    }

    fn progress(&mut self, _: usize, (done, _): (u32, u32), frames: &mut Frames) {
        if self.wish.progress {
            let seconds = f64::from(done) / 1000.0;
            frames.push(&answer::progress(seconds, &self.transcript.heard));
        }
    }

    fn segment(&mut self, _: usize, segment: SpokenSegment, frames: &mut Frames) {
        let delta = self.delta(&segment.text);
        if !delta.is_empty() {
            frames.push(&json!({"type": "transcript.text.delta", "delta": delta}));
        }
        if self.has_times() {
            let id = self.transcript.segments.len().to_string();
            let mut event = answer::whole(&segment, id.into(), &self.wish);
            event.insert("type".into(), "transcript.text.segment".into());
            // OpenAI's clients have it as a text that is always there; who speaks is not told apart here.
            event.insert("speaker".into(), "".into());
            if let Some(words) = &segment.words {
                event.insert("words".into(), answer::words(words.iter()));
            }
            frames.push(&Value::Object(event));
        }
        self.transcript.segments.push(segment);
    }

    fn close(&mut self, usage: Usage, frames: &mut Frames) {
        let mut event = json!({
            "type": "transcript.text.done",
            "text": self.transcript.text(),
            "usage": answer::seconds(usage),
        });
        if self.has_times() {
            let heard = &self.transcript.heard;
            event["language"] = answer::spoken(heard, &self.wish).into();
            event["duration"] = heard.duration.into();
        }
        frames.push(&event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deltas_together_are_the_text() {
        let mut events = Events::new(Wish::default());
        let mut frames = Frames::default();
        for text in ["  ", " a b", " c ", " ", "\nd.  ", ""] {
            let segment = SpokenSegment {
                text: text.to_owned(),
                ..SpokenSegment::default()
            };
            events.segment(0, segment, &mut frames);
        }
        events.close(Usage::default(), &mut frames);
        let read = frames.as_str().split_terminator("\n\n");
        let read: Vec<Value> = read
            .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        let deltas: String = read
            .iter()
            .filter_map(|event| event["delta"].as_str())
            .collect();
        assert_eq!(deltas, "a b c  \nd.");
        assert_eq!(read.last().unwrap()["text"], deltas);
    }
}
