//! One channel of a request on its way: its frames, and the transcript as far as it has come.

use std::ops::Range;

use chandler_core::SpokenSegment;

use crate::audio::AudioError;
use crate::listening;
use crate::whisper::chunks::{ChunkId, Chunks};
use crate::whisper::model::Description;
use crate::whisper::segment::Segment;
use crate::whisper::sequential::{SequentialOptions, WindowPlan};

/// One channel.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) heard: listening::Track,
    /// Stretches that are transcribed beside each other.
    stretches: Vec<Range<usize>>,
    /// The transcript; none until the language is known.
    chunks: Option<Chunks>,
    /// A window that is to be decoded, and whose frames are still to be read.
    waiting: Option<(ChunkId, WindowPlan)>,
}

impl Track {
    /// A channel of which these stretches are transcribed.
    pub(super) fn new(heard: listening::Track, stretches: Vec<Range<usize>>) -> Self {
        Self {
            heard,
            stretches,
            chunks: None,
            waiting: None,
        }
    }

    /// What a window that begins the transcript holds; none where there is nothing to hear.
    pub(super) fn first_window(&self, window_frames: usize) -> Option<Range<usize>> {
        let first = self.stretches.first().filter(|first| !first.is_empty())?;
        Some(first.start..first.end.min(first.start + window_frames))
    }

    /// Begins the transcript, now that all is known that it needs.
    pub(super) fn begin(&mut self, description: &Description, options: &SequentialOptions) {
        if self.chunks.is_none() {
            let stretches = self.stretches.iter().cloned();
            self.chunks = Some(Chunks::new(description, options, stretches));
        }
    }

    /// The next window to decode with its frames; none where there is none now, or its frames are still to be read.
    pub(super) fn next_window(&mut self) -> Option<(ChunkId, WindowPlan, Vec<f32>)> {
        if self.waiting.is_none() {
            self.waiting = self.chunks.as_mut()?.next_window();
        }
        let (_, plan) = self.waiting.as_ref()?;
        let frames = self.heard.frames(&plan.frames)?;
        let (chunk, plan) = self.waiting.take()?;
        Some((chunk, plan, frames))
    }

    /// The next window, whose frames are at hand elsewhere.
    pub(super) fn next_plan(&mut self) -> Option<(ChunkId, WindowPlan)> {
        self.chunks.as_mut()?.next_window()
    }

    /// Whether frames are waited for.
    pub(super) fn waits_for_frames(&self) -> bool {
        self.waiting.is_some()
    }

    /// Reads a bounded piece more.
    pub(super) fn read_on(&mut self) -> Result<(), AudioError> {
        self.heard.read_on()
    }

    /// The transcript, once it has begun.
    pub(super) fn chunks(&mut self) -> Option<&mut Chunks> {
        self.chunks.as_mut()
    }

    /// Segments that are final, with the recording's times; what has no text is left out.
    pub(super) fn take_final(
        &mut self,
        channel: usize,
        description: &Description,
    ) -> Vec<SpokenSegment> {
        let Some(chunks) = &mut self.chunks else {
            return Vec::new();
        };
        let segments = chunks.take_final();
        if let Some(place) = chunks.needed_from() {
            self.heard.forget_before(place);
        }
        let spoken = segments
            .into_iter()
            .filter(|segment| !segment.text.is_empty());
        spoken
            .map(|segment| self.spoken(segment, channel, description))
            .collect()
    }

    fn spoken(&self, segment: Segment, channel: usize, description: &Description) -> SpokenSegment {
        let timeline = &self.heard.timeline;
        let seek = timeline.start(description.timing.seconds(segment.seek));
        let word = |word: crate::whisper::segment::TimedWord| chandler_core::SpokenWord {
            text: word.text,
            start: timeline.start(word.start),
            end: timeline.end(word.end),
            probability: word.probability,
        };
        SpokenSegment {
            channel: channel as u32,
            seek: (seek * 100.0).round() as u64,
            start: timeline.start(segment.start),
            end: timeline.end(segment.end),
            text: segment.text,
            tokens: segment.tokens,
            temperature: segment.temperature,
            mean_log_probability: segment.mean_log_probability,
            compression_ratio: segment.compression_ratio,
            no_speech: segment.no_speech.unwrap_or(0.0),
            words: segment
                .words
                .map(|words| words.into_iter().map(word).collect()),
        }
    }

    /// Forgets that windows are out: they are asked for again.
    pub(super) fn take_back(&mut self) {
        self.waiting = None;
        if let Some(chunks) = &mut self.chunks {
            chunks.take_back();
        }
    }

    /// Seconds of the recording that lie behind.
    pub(super) fn done(&self, description: &Description) -> f64 {
        let place = match &self.chunks {
            None => 0,
            Some(chunks) => chunks.needed_from().unwrap_or(self.heard.timeline.length()),
        };
        self.heard.timeline.end(description.timing.seconds(place))
    }

    /// Whether all of it is transcribed.
    pub(super) fn is_done(&self) -> bool {
        self.chunks.as_ref().is_some_and(Chunks::is_done)
    }
}
