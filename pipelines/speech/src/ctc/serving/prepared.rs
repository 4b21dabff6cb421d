//! A request between the front door and the batch, and again when it was taken out: everything that it needs to go on.

use std::ops::Range;

use chandler_core::{Cost, Heard, Prepared, SpokenSegment, SpokenWord, Usage};

use super::adapters::Language;
use crate::ctc::CtcWord;
use crate::listening::Track;
use crate::repetition::compression_ratio;

/// A request that is ready for the batch, or was taken out of it.
pub struct CtcPrepared {
    pub(super) language: Language,
    pub(super) with_words: bool,
    pub(super) tracks: Vec<Channel>,
    pub(super) heard: Heard,
    /// What was heard has been told.
    pub(super) told: bool,
    pub(super) usage: Usage,
}

/// One channel.
pub(super) struct Channel {
    pub(super) heard: Track,
    /// Utterances: stretches of samples.
    pub(super) stretches: Vec<Range<usize>>,
    /// The first whose text has not been given.
    pub(super) next: usize,
    /// Those after it that are being heard.
    pub(super) out: usize,
}

impl Prepared for CtcPrepared {
    fn cost(&self) -> Cost {
        Cost {
            rows: 1,
            blocks: 1,
            bytes: self.tracks.iter().map(|track| track.heard.bytes()).sum(),
        }
    }
}

impl Channel {
    /// The next stretch to hear.
    pub(super) fn waiting(&self) -> Option<Range<usize>> {
        self.stretches.get(self.next + self.out).cloned()
    }

    /// Whether all of it has been heard.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.stretches.len()
    }
}

/// A text with its words, of a stretch that begins at a sample of the channel.
pub(super) struct Said<'a> {
    pub(super) channel: usize,
    pub(super) words: &'a [CtcWord],
    pub(super) text: &'a str,
    /// Where the stretch begins, in samples.
    pub(super) at: usize,
    pub(super) samples_per_frame: usize,
    pub(super) sample_rate: u32,
}

impl CtcPrepared {
    /// The segment of a stretch's text; none without text.
    pub(super) fn segment(&self, said: &Said<'_>) -> Option<SpokenSegment> {
        let timeline = &self.tracks.get(said.channel)?.heard.timeline;
        let seconds = |frame: usize| {
            (said.at + frame * said.samples_per_frame) as f64 / f64::from(said.sample_rate)
        };
        let (first, last) = (said.words.first()?, said.words.last()?);
        let word = |word: &CtcWord| SpokenWord {
            text: format!(" {}", word.text),
            start: timeline.start(seconds(word.start)),
            end: timeline.end(seconds(word.end)),
            probability: f64::from(word.log_probability).exp(),
        };
        let sum: f64 = said
            .words
            .iter()
            .map(|word| f64::from(word.log_probability))
            .sum();
        Some(SpokenSegment {
            channel: said.channel as u32,
            seek: (timeline.start(seconds(0)) * 100.0).round() as u64,
            start: timeline.start(seconds(first.start)),
            end: timeline.end(seconds(last.end)),
            text: format!(" {}", said.text),
            mean_log_probability: sum / said.words.len() as f64,
            compression_ratio: compression_ratio(said.text),
            words: self
                .with_words
                .then(|| said.words.iter().map(word).collect()),
            ..SpokenSegment::default()
        })
    }
}
