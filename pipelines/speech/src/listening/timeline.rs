//! What is left of a recording when the silence in it is left out, and the way back: a model hears the pieces one after another, and
//! times are those of the recording. Places are frames.

use std::ops::Range;

use super::Ear;
use crate::vad::{Packing, Segment, pack};

/// A recording, or the pieces of it that a model hears.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// `None` is all of it as it is.
    pieces: Option<Vec<Piece>>,
    length: usize,
    frames_per_second: f64,
}

/// A piece of the recording.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Where the model hears it.
    at: usize,
    /// Where it is.
    frames: Range<usize>,
}

impl Piece {
    fn end(&self) -> usize {
        self.at + self.frames.len()
    }
}

impl Timeline {
    /// All of a recording of so many frames.
    pub(crate) fn whole(frames: usize, ear: &Ear) -> Self {
        Self {
            pieces: None,
            length: frames,
            frames_per_second: ear.frames_per_second(),
        }
    }

    /// The speech of a recording of so many frames, gaps of a second and more left out; and where it may be cut so that no part is
    /// longer than `longest` frames.
    pub(crate) fn of_speech(
        speech: &[Segment],
        (frames, ear): (usize, &Ear),
        longest: Option<usize>,
    ) -> (Self, Vec<Range<usize>>) {
        let hop = ear.hop() as u64;
        let packing = Packing {
            // Two frames less: a piece's ends are widened to whole frames.
            longest: longest.map_or(u64::MAX, |frames| {
                (frames as u64).saturating_sub(2).max(1) * hop
            }),
            ..Packing::for_window(1)
        };
        let (mut pieces, mut chunks) = (Vec::new(), Vec::new());
        let (mut at, mut done) = (0, 0);
        for chunk in pack(speech, packing) {
            let begin = at;
            for piece in &chunk.pieces {
                // A recording's frames fit memory's addresses.
                let start = ((piece.segment.start / hop) as usize).max(done);
                let end = (piece.segment.end.div_ceil(hop) as usize).min(frames);
                if start < end {
                    pieces.push(Piece {
                        at,
                        frames: start..end,
                    });
                    at += end - start;
                    done = end;
                }
            }
            if at > begin {
                chunks.push(begin..at);
            }
        }
        let timeline = Self {
            pieces: Some(pieces),
            length: at,
            frames_per_second: ear.frames_per_second(),
        };
        (timeline, chunks)
    }

    /// Frames that the model hears.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Where in the recording the frames of a stretch are.
    pub(crate) fn sources(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let Some(pieces) = &self.pieces else {
            let all = range.start..range.end.min(self.length);
            return Vec::from([all]);
        };
        let from = pieces.partition_point(|piece| piece.end() <= range.start);
        let within = pieces
            .iter()
            .skip(from)
            .take_while(|piece| piece.at < range.end);
        within
            .map(|piece| {
                let start = range.start.max(piece.at) - piece.at;
                let end = range.end.min(piece.end()) - piece.at;
                piece.frames.start + start..piece.frames.start + end
            })
            .collect()
    }

    /// When in the recording something begins that begins so many seconds into what the model hears.
    pub(crate) fn start(&self, seconds: f64) -> f64 {
        self.place(seconds, |piece, frame| frame < piece.end() as f64)
    }

    /// The same of an end: at a seam that is the end of what is before, not the beginning of what comes.
    pub(crate) fn end(&self, seconds: f64) -> f64 {
        self.place(seconds, |piece, frame| frame <= piece.end() as f64)
    }

    fn place(&self, seconds: f64, within: impl Fn(&Piece, f64) -> bool) -> f64 {
        // So that 2.28 is not written 2.2800000000000002.
        let tidy = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        let Some(pieces) = &self.pieces else {
            return tidy(seconds);
        };
        // Times are hundredths: what is nearer to a seam than that lies on it.
        let frame = seconds * self.frames_per_second;
        let frame = match (frame - frame.round()).abs() < 1e-6 {
            true => frame.round(),
            false => frame,
        };
        let place = match pieces.iter().find(|piece| within(piece, frame)) {
            Some(piece) => piece.frames.start as f64 + (frame - piece.at as f64).max(0.0),
            None => pieces.last().map_or(0.0, |piece| piece.frames.end as f64),
        };
        tidy(place / self.frames_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(longest: Option<usize>) -> (Timeline, Vec<Range<usize>>) {
        // A frame is a sample here, 16 000 a second.
        let ear = Ear::samples(16_000, false);
        let segment = |start, end| Segment { start, end };
        let speech = [
            segment(100, 500),
            segment(600, 900),
            segment(40_000, 40_300),
        ];
        Timeline::of_speech(&speech, (40_250, &ear), longest)
    }

    #[test]
    fn a_stretch_comes_from_where_it_was() {
        let (timeline, chunks) = timeline(None);
        // The gap of 100 samples stays, the long one does not, and the last piece ends with the recording.
        assert_eq!(timeline.length(), 800 + 250);
        assert_eq!((chunks.len(), chunks[0].clone()), (1, 0..1050));
        let only = |range: Range<usize>| match timeline.sources(&range).as_slice() {
            [only] => only.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(only(0..10), 100..110);
        assert_eq!(timeline.sources(&(790..810)), [890..900, 40_000..40_010]);
        assert_eq!(only(1040..2000), 40_240..40_250);
    }

    #[test]
    fn times_go_back_to_where_they_were() {
        let (timeline, _) = timeline(None);
        let seconds = |frame: f64| frame / 16_000.0;
        let near =
            |found: f64, frame: f64| assert!((found - seconds(frame)).abs() < 6e-4, "{found}");
        near(timeline.start(seconds(0.0)), 100.0);
        near(timeline.start(seconds(800.0)), 40_000.0);
        near(timeline.end(seconds(800.0)), 900.0);
        near(timeline.end(seconds(5000.0)), 40_250.0);
        let whole = Timeline::whole(10, &Ear::samples(16_000, false));
        assert_eq!((whole.start(7.5), whole.end(9.25)), (7.5, 9.25));
    }

    #[test]
    fn chunks_are_no_longer_than_asked() {
        let (timeline, chunks) = timeline(Some(402));
        assert!(chunks.iter().all(|chunk| chunk.len() <= 402), "{chunks:?}");
        assert_eq!(chunks.first().map(|chunk| chunk.start), Some(0));
        assert!(chunks.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(
            chunks.last().map(|chunk| chunk.end),
            Some(timeline.length())
        );
    }
}
