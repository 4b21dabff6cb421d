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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listening::first_pass::Sketch;
    use crate::listening::{Ear, Frames};
    use crate::vad::Segment;

    /// A WAV file of so many samples whose values count up.
    fn counting(samples: u32) -> chandler_core::Audio {
        let mut wav = crate::sample::silence(16_000);
        wav.truncate(44);
        wav[4..8].copy_from_slice(&(36 + 2 * samples).to_le_bytes());
        wav[40..44].copy_from_slice(&(2 * samples).to_le_bytes());
        wav.extend((0..samples).flat_map(|at| ((at % 30_000) as i16).to_le_bytes()));
        chandler_core::Audio::bytes(wav)
    }

    #[test]
    fn a_long_silence_is_not_gathered_up_on_the_way_to_what_is_said() {
        const SAMPLES: u32 = 16_000 * 600;
        let ear = Ear::samples(16_000, false);
        let said = Segment {
            start: u64::from(SAMPLES) - 1000,
            end: u64::from(SAMPLES),
        };
        let (timeline, _) = Timeline::of_speech(&[said], (SAMPLES as usize, &ear), None);
        let sketch = Sketch {
            kept: Vec::new(),
            frames: SAMPLES as usize,
            loudest: 0.0,
            speech: None,
        };
        let frames = Frames::new(sketch, &ear, &counting(SAMPLES), (false, 0));
        let mut track = Track::new(timeline, frames);
        let mut most = 0;
        let found = loop {
            if let Some(found) = track.frames(&(0..1000)) {
                break found;
            }
            track.forget_before(0);
            track.read_on().unwrap();
            most = most.max(track.bytes());
        };
        // Two pieces of twenty seconds and a half, in f32; ten minutes would be 38 MB.
        assert!(most < 6 << 20, "{most}");
        let first = (SAMPLES - 1000) % 30_000;
        assert_eq!((found.len(), found[0]), (1000, first as f32 / 32_768.0));
    }
}
