//! One channel as a model hears it: which pieces of it, and their frames.

use std::ops::Range;

use super::frames::Frames;
use super::timeline::Timeline;
use crate::audio::AudioError;

/// One channel.
pub(crate) struct Track {
    pub(crate) timeline: Timeline,
    frames: Frames,
}

impl Track {
    /// Frames and what of them is heard.
    pub(crate) fn new(timeline: Timeline, frames: Frames) -> Self {
        Self { timeline, frames }
    }

    /// Bytes on the host.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.bytes()
    }

    /// The frames of a stretch, as the model takes them; none while they are still to be read.
    pub(crate) fn frames(&self, range: &Range<usize>) -> Option<Vec<f32>> {
        let sources = self.timeline.sources(range);
        if !sources.iter().all(|source| self.frames.has(source)) {
            return None;
        }
        let mut frames = Vec::new();
        for source in sources {
            self.frames.copy(source, &mut frames);
        }
        self.frames.finish(&mut frames);
        Some(frames)
    }

    /// Reads a bounded piece more.
    ///
    /// # Errors
    /// As [`Frames::read_on`].
    pub(crate) fn read_on(&mut self) -> Result<(), AudioError> {
        self.frames.read_on()
    }

    /// Says that nothing before this place is needed any more.
    pub(crate) fn forget_before(&mut self, place: usize) {
        if let Some(source) = self.timeline.sources(&(place..usize::MAX)).first() {
            self.frames.forget_before(source.start);
        }
    }
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never what is said.
        f.debug_struct("Track")
            .field("length", &self.timeline.length())
            .finish_non_exhaustive()
    }
}
