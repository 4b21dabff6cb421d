//! One channel of a request on its way: its frames, and the transcript as far as it has come.

use std::ops::Range;

use chandler_core::{SpokenSegment, SpokenWord};

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
    /// Frames were wanted that are still to be read.
    lacks_frames: bool,
}

impl Track {
    /// A channel of which these stretches are transcribed.
    pub(super) fn new(heard: listening::Track, stretches: Vec<Range<usize>>) -> Self {
        Self {
            heard,
            stretches,
            chunks: None,
            waiting: None,
            lacks_frames: false,
        }
    }

    /// Whether there is nothing to hear.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.timeline.length() == 0
    }

    /// The frames of the window that begins the transcript; none where there is nothing to hear, or they are still to be read.
    pub(super) fn first_frames(&mut self, window_frames: usize) -> Option<Vec<f32>> {
        let first = self.stretches.first().filter(|first| !first.is_empty())?;
        let window = first.start..first.end.min(first.start + window_frames);
        self.frames(&window)
    }

    fn frames(&mut self, range: &Range<usize>) -> Option<Vec<f32>> {
        let frames = self.heard.frames(range);
        self.lacks_frames = frames.is_none();
        frames
    }

    /// Begins the transcript, now that all is known that it needs.
    pub(super) fn begin(&mut self, description: &Description, options: &SequentialOptions) {
        if self.chunks.is_none() {
            let stretches = self.stretches.iter().cloned();
            let all = (stretches, self.heard.timeline.length());
            self.chunks = Some(Chunks::new(description, options, all));
        }
    }

    /// The next window to decode with its frames; none where there is none now, or its frames are still to be read.
    pub(super) fn next_window(&mut self) -> Option<(ChunkId, WindowPlan, Vec<f32>)> {
        if self.waiting.is_none() {
            self.waiting = self.chunks.as_mut()?.next_window();
        }
        let range = self.waiting.as_ref()?.1.frames.clone();
        let frames = self.frames(&range)?;
        let (chunk, plan) = self.waiting.take()?;
        Some((chunk, plan, frames))
    }

    /// The next window, whose frames are at hand elsewhere.
    pub(super) fn next_plan(&mut self) -> Option<(ChunkId, WindowPlan)> {
        self.chunks.as_mut()?.next_window()
    }

    /// Reads a bounded piece more, where frames are waited for.
    pub(super) fn read_on(&mut self) -> Result<(), AudioError> {
        if !self.lacks_frames {
            return Ok(());
        }
        // Before what was read: a long silence is not gathered up.
        let begins = self.stretches.first().map_or(0, |first| first.start);
        let needed = self
            .chunks
            .as_ref()
            .map_or(Some(begins), Chunks::needed_from);
        if let Some(place) = needed {
            self.heard.forget_before(place);
        }
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
        let word = |word: SpokenWord| SpokenWord {
            start: timeline.start(word.start),
            end: timeline.end(word.end),
            ..word
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
        self.lacks_frames = false;
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
