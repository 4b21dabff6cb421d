//! Words where nobody speaks: segments of words that are too long, too short or unlikely, with silence around them, are dropped, and
//! the next window begins after the silence. Mirrors openai-whisper transcribe.py (`hallucination_silence_threshold`).

use std::ops::Range;

use chandler_core::SpokenWord;

use super::last_word_end;
use super::slices::Slices;
use crate::whisper::preprocessing::Timing;
use crate::whisper::segment::Segment;

/// Marks that are no words.
const PUNCTUATION: &str = "\"'“¿([{-\"'.。,，!！?？:：”)]}、";
/// Words of a segment that are looked at.
const LOOKED_AT: usize = 8;
/// A word that is less likely than this is odd, one shorter than this many seconds, and one longer than this many.
const UNLIKELY: f64 = 0.15;
const SHORT: f64 = 0.133;
const LONG: f64 = 2.0;

/// What is known when a window's words are looked at.
pub(super) struct Suspicion<'a> {
    pub(super) timing: &'a Timing,
    /// Its frames.
    pub(super) window: Range<usize>,
    /// Frames of the audio, where they are known.
    pub(super) content: Option<usize>,
    /// Seconds that make silence; without it nothing is suspect.
    pub(super) silence: Option<f64>,
    /// When the last word before the window ended.
    pub(super) last_speech: f64,
}

/// What was found.
pub(super) struct Found {
    /// Where the next window begins.
    pub(super) seek: usize,
    /// Whether the window is to be forgotten: it is heard again from where its words begin.
    pub(super) dropped: bool,
}

impl Suspicion<'_> {
    /// Looks at a window's words, and takes out what is not believed.
    pub(super) fn look(&self, slices: &mut Slices) -> Found {
        let offset = self.timing.seconds(self.window.start);
        let mut seek = slices.next_seek;
        let ended = last_word_end(&slices.segments).filter(|end| *end > offset);
        if let Some(end) = ended.filter(|_| !slices.ends_in_silence) {
            seek = self.timing.frame(end);
        }
        let Some(silence) = self.silence else {
            return Found {
                seek,
                dropped: false,
            };
        };
        if let Some(end) = ended.filter(|_| !slices.ends_in_silence) {
            seek = match self.window_end() - end > silence {
                true => self.timing.frame(end),
                false => self.window.end,
            };
        }
        // The first words may be made up of the silence before them.
        if let Some(first) = with_words(&slices.segments).filter(|first| is_odd(first)) {
            let gap = first.start - offset;
            if gap > silence {
                return Found {
                    seek: self.window.start + self.timing.frame(gap),
                    dropped: true,
                };
            }
        }
        if let Some((at, next)) = self.first_made_up(&slices.segments, silence) {
            slices.segments.truncate(at);
            seek = next;
        }
        Found {
            seek,
            dropped: false,
        }
    }

    /// The first segment that is odd and stands in silence or among odd ones, and where to go on.
    fn first_made_up(&self, segments: &[Segment], silence: f64) -> Option<(usize, usize)> {
        let offset = self.timing.seconds(self.window.start);
        let mut last_end = self.last_speech;
        for (at, segment) in segments.iter().enumerate() {
            if !has_words(segment) {
                continue;
            }
            if is_odd(segment) {
                let next = with_words(segments.get(at + 1..).unwrap_or_default());
                let next_start = next.and_then(|next| Some(next.words.as_ref()?.first()?.start));
                let next_start =
                    next_start.unwrap_or_else(|| self.timing.seconds(self.window.len()) + offset);
                let before = segment.start - last_end > silence
                    || segment.start < silence
                    || segment.start - offset < 2.0;
                let after = next_start - segment.end > silence
                    || next.is_some_and(is_odd)
                    || self.window_end() - segment.end < 2.0;
                if before && after {
                    let mut seek = self.timing.frame((offset + 1.0).max(segment.start));
                    if let Some(content) = self.content
                        && self.timing.seconds(content) - segment.end < silence
                    {
                        seek = content;
                    }
                    return Some((at, seek));
                }
            }
            last_end = segment.end;
        }
        None
    }

    /// When a whole window would end, however much of it holds audio.
    fn window_end(&self) -> f64 {
        self.timing
            .seconds(self.window.start + self.timing.window_frames)
    }
}

fn has_words(segment: &Segment) -> bool {
    segment
        .words
        .as_ref()
        .is_some_and(|words| !words.is_empty())
}

fn with_words(segments: &[Segment]) -> Option<&Segment> {
    segments.iter().find(|segment| has_words(segment))
}

fn oddness(word: &SpokenWord) -> f64 {
    let length = word.end - word.start;
    let mut score = 0.0;
    if word.probability < UNLIKELY {
        score += 1.0;
    }
    if length < SHORT {
        score += (SHORT - length) * 15.0;
    }
    if length > LONG {
        score += length - LONG;
    }
    score
}

fn is_odd(segment: &Segment) -> bool {
    let words = segment.words.iter().flatten();
    let spoken = words.filter(|word| !PUNCTUATION.contains(word.text.as_str()));
    let looked_at: Vec<&SpokenWord> = spoken.take(LOOKED_AT).collect();
    if !has_words(segment) {
        return false;
    }
    let score: f64 = looked_at.iter().map(|word| oddness(word)).sum();
    score >= 3.0 || score + 0.01 >= looked_at.len() as f64
}
