//! What a pipeline says about a request while it works on it, and how these sayings add up to an answer.

use crate::error::RequestError;
use crate::image::{Drawn, Preview};
use crate::pipeline::RequestId;
use crate::speech::{Heard, SpokenSegment, Transcript};

/// One thing that happened to one request. Nothing is retracted: text is emitted only when it is final.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The request has joined the batch for the first time.
    Started {
        /// Tokens the model reads.
        prompt_tokens: u32,
        /// How many of them were found in the cache.
        cached_tokens: u32,
    },
    /// More of one row's text.
    Text(TextDelta),
    /// What is known of the audio; before its first segment.
    Heard(Box<Heard>),
    /// The next segment of a transcript.
    Segment(Box<SpokenSegment>),
    /// What is there so far of a picture. A later one of the same picture replaces an earlier one.
    Preview(Box<Preview>),
    /// A picture is finished.
    Drawn(Box<Drawn>),
    /// How far the work is, where it is counted: in steps, or milliseconds of audio. A later one replaces an earlier one.
    Progress {
        /// Done.
        done: u32,
        /// In all.
        total: u32,
    },
    /// Terminal: every row has ended.
    Done(Usage),
    /// Terminal: no answer, and why.
    Failed(RequestError),
}

impl Event {
    /// Whether this is the last event of its request.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_))
    }

    /// Takes `next` into this event if a slow reader loses nothing by it; gives it back otherwise.
    ///
    /// # Errors
    /// `next` itself, when the two do not merge.
    pub fn absorb(&mut self, next: Event) -> Result<(), Event> {
        match (self, next) {
            (Self::Text(held), Self::Text(more)) if held.is_continued_by(&more) => {
                held.append(more);
                Ok(())
            }
            (Self::Progress { done, total }, Self::Progress { done: d, total: t }) => {
                (*done, *total) = (d, t);
                Ok(())
            }
            (Self::Preview(held), Self::Preview(later)) if held.index == later.index => {
                *held = later;
                Ok(())
            }
            (_, next) => Err(next),
        }
    }

    /// Whether nobody misses an event that waits, once this one is there.
    pub fn replaces(&self, earlier: &Event) -> bool {
        match (self, earlier) {
            (Self::Progress { .. }, Self::Progress { .. }) => true,
            (Self::Preview(this), Self::Preview(that)) => this.index == that.index,
            _ => false,
        }
    }

    /// Bytes this event holds on the host, roughly: what a reader who stays away costs.
    pub fn weight(&self) -> usize {
        match self {
            Self::Text(delta) => {
                let tops: usize = delta.tokens.iter().map(|t| t.top.len()).sum();
                let calls: usize = delta
                    .tool_calls
                    .iter()
                    .map(|c| 96 + c.arguments.len())
                    .sum();
                let text = delta.text.len() + delta.reasoning.len();
                64 + text + calls + delta.tokens.len() * 64 + tops * 48
            }
            Self::Segment(segment) => {
                let words = segment.words.iter().flatten();
                let words: usize = words.map(|word| 56 + word.text.len()).sum();
                192 + segment.text.len() + 4 * segment.tokens.len() + words
            }
            Self::Preview(preview) => 64 + preview.rgb.len(),
            Self::Drawn(drawn) => 128 + drawn.rgb.len(),
            _ => 64,
        }
    }
}

/// A piece of a row's text, whole in characters and clear of any stop string.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextDelta {
    /// Which of the request's rows.
    pub row: u32,
    /// The text.
    pub text: String,
    /// What the model thought before it answered, where thoughts are separated.
    pub reasoning: String,
    /// Pieces of tool calls, in order.
    pub tool_calls: Vec<ToolCallDelta>,
    /// The tokens decided since the last delta; their bytes may lie before or beyond `text`.
    pub tokens: Vec<Token>,
    /// Set on the row's last delta.
    pub finish: Option<FinishReason>,
    /// The stop string that ended the row, on its last delta. Boxed: an event is moved more often than it has one.
    pub stop: Option<Box<str>>,
}

impl TextDelta {
    /// Whether `more` can be added and a reader still sees everything in its order: thoughts, then text, then calls.
    fn is_continued_by(&self, more: &Self) -> bool {
        let speaks = !(more.text.is_empty() && more.reasoning.is_empty());
        let turns_back = (speaks && !self.tool_calls.is_empty())
            || (!more.reasoning.is_empty() && !self.text.is_empty());
        self.row == more.row && self.finish.is_none() && !turns_back
    }

    /// Adds what the same row says next.
    pub fn append(&mut self, more: Self) {
        self.text.push_str(&more.text);
        self.reasoning.push_str(&more.reasoning);
        for piece in more.tool_calls {
            match self.tool_calls.last_mut() {
                Some(last) if last.index == piece.index && piece.id.is_none() => {
                    last.arguments.push_str(&piece.arguments);
                }
                _ => self.tool_calls.push(piece),
            }
        }
        self.tokens.extend(more.tokens);
        self.finish = more.finish;
        self.stop = more.stop;
    }
}

/// A piece of a tool call. The first piece of a call carries its id and name; arguments come in any number of pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCallDelta {
    /// Which of the row's calls, from 0 on.
    pub index: u32,
    /// The call's id: set on its first piece alone.
    pub id: Option<String>,
    /// The tool's name, whole: set on the call's first piece alone.
    pub name: Option<String>,
    /// More of the arguments, which together are one JSON object as text.
    pub arguments: String,
}

/// A whole tool call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: a JSON object as text, as the model wrote it.
    pub arguments: String,
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The bytes it stands for; may be part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, where the request asked for it and it has one.
    pub logprob: Option<f32>,
    /// The most likely tokens at this place, most likely first.
    pub top: Vec<TopToken>,
    /// Whether it belongs to the prompt (echo).
    pub prompt: bool,
    /// Whether it is a special token, whose bytes are not part of the text.
    pub special: bool,
}

/// An alternative to a token.
#[derive(Debug, Clone, PartialEq)]
pub struct TopToken {
    /// Its id.
    pub id: u32,
    /// The bytes it stands for.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Why a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended its answer, or a stop string or token was reached.
    Stop,
    /// The token or character limit, or the context window, was reached.
    Length,
    /// The model ended its answer, in which it calls tools.
    ToolCalls,
}

impl FinishReason {
    /// The word that OpenAI's dialect has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What a request consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Of these, found in the cache.
    pub cached_tokens: u32,
    /// Tokens written, over all rows.
    pub completion_tokens: u32,
    /// Of these, thoughts.
    pub reasoning_tokens: u32,
    /// Milliseconds of audio heard.
    pub audio_ms: u64,
    /// Pictures drawn.
    pub images: u32,
}

/// Where a step puts its events.
#[derive(Debug, Default)]
pub struct Events(Vec<(RequestId, Event)>);

impl Events {
    /// Adds an event of a request.
    pub fn push(&mut self, id: RequestId, event: Event) {
        self.0.push((id, event));
    }

    /// Takes all events, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = (RequestId, Event)> + '_ {
        self.0.drain(..)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A request's events added up: the whole answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Collected {
    /// One entry per row, in row order.
    pub rows: Vec<RowOutput>,
    /// What was heard, where audio was asked about.
    pub transcript: Option<Box<Transcript>>,
    /// The pictures, in their order.
    pub images: Vec<Drawn>,
    /// Set once the terminal event was seen.
    pub usage: Usage,
}

/// One row of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowOutput {
    /// The text.
    pub text: String,
    /// What the model thought, where thoughts are separated.
    pub reasoning: String,
    /// The tools it calls.
    pub tool_calls: Vec<ToolCall>,
    /// The tokens it was made of.
    pub tokens: Vec<Token>,
    /// Why it ended; `None` while it has not.
    pub finish: Option<FinishReason>,
    /// The stop string that ended it.
    pub stop: Option<Box<str>>,
}

impl RowOutput {
    fn add(&mut self, delta: TextDelta) {
        self.text.push_str(&delta.text);
        self.reasoning.push_str(&delta.reasoning);
        for piece in delta.tool_calls {
            let index = piece.index as usize;
            if self.tool_calls.len() <= index {
                self.tool_calls.resize_with(index + 1, ToolCall::default);
            }
            if let Some(call) = self.tool_calls.get_mut(index) {
                call.id.extend(piece.id);
                call.name.extend(piece.name);
                call.arguments.push_str(&piece.arguments);
            }
        }
        self.tokens.extend(delta.tokens);
        self.finish = delta.finish.or(self.finish);
        self.stop = delta.stop.or(self.stop.take());
    }
}

impl Collected {
    /// Adds an event. `true` when it was the last one.
    ///
    /// # Errors
    /// The request's own error.
    pub fn add(&mut self, event: Event) -> Result<bool, RequestError> {
        match event {
            Event::Text(delta) => {
                let row = delta.row as usize;
                if self.rows.len() <= row {
                    self.rows.resize_with(row + 1, RowOutput::default);
                }
                if let Some(out) = self.rows.get_mut(row) {
                    out.add(delta);
                }
                Ok(false)
            }
            Event::Heard(heard) => {
                self.transcript.get_or_insert_default().heard = *heard;
                Ok(false)
            }
            Event::Segment(segment) => {
                let transcript = self.transcript.get_or_insert_default();
                transcript.segments.push(*segment);
                Ok(false)
            }
            Event::Drawn(drawn) => {
                self.images.push(*drawn);
                Ok(false)
            }
            Event::Done(usage) => {
                self.usage = usage;
                self.images.sort_by_key(|drawn| drawn.index);
                if let Some(transcript) = &mut self.transcript {
                    // Channels are heard beside each other, and which is first depends on the company.
                    transcript.segments.sort_by_key(|segment| segment.channel);
                }
                Ok(true)
            }
            Event::Failed(error) => Err(error),
            Event::Started { .. } | Event::Progress { .. } | Event::Preview(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(row: u32, text: &str) -> Event {
        Event::Text(TextDelta {
            row,
            text: text.into(),
            ..TextDelta::default()
        })
    }

    #[test]
    fn deltas_of_one_row_merge_and_others_do_not() {
        let mut held = text(0, "a");
        assert_eq!(held.absorb(text(0, "b")), Ok(()));
        assert_eq!(held, text(0, "ab"));
        assert_eq!(held.absorb(text(1, "c")), Err(text(1, "c")));
        let done = Event::Done(Usage::default());
        assert_eq!(held.absorb(done.clone()), Err(done));
    }

    #[test]
    fn merging_keeps_thoughts_text_and_calls_in_order() {
        let delta = |reasoning: &str, text: &str, call: Option<(&str, &str)>| {
            Event::Text(TextDelta {
                reasoning: reasoning.into(),
                text: text.into(),
                tool_calls: Vec::from_iter(call.map(|(id, arguments)| ToolCallDelta {
                    id: (!id.is_empty()).then(|| id.to_owned()),
                    arguments: arguments.into(),
                    ..ToolCallDelta::default()
                })),
                ..TextDelta::default()
            })
        };
        let mut held = delta("hm", "", None);
        for more in [delta("m", "", None), delta("", "so", None)] {
            assert_eq!(held.absorb(more), Ok(()));
        }
        assert!(held.absorb(delta("wait", "", None)).is_err());
        for more in [
            delta("", "", Some(("a", "{"))),
            delta("", "", Some(("", "}"))),
        ] {
            assert_eq!(held.absorb(more), Ok(()));
        }
        assert_eq!(held, delta("hmm", "so", Some(("a", "{}"))));
        assert!(held.absorb(delta("", "after", None)).is_err());
    }

    #[test]
    fn merged_or_not_the_answer_is_the_same() {
        let mut merged = text(0, "a");
        merged.absorb(text(0, "b")).unwrap();
        let (mut one, mut two) = (Collected::default(), Collected::default());
        one.add(merged).unwrap();
        two.add(text(0, "a")).unwrap();
        two.add(text(0, "b")).unwrap();
        assert_eq!(one, two);
    }
}
