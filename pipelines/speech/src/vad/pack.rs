//! Segments into chunks of at most the model's window, so that few windows hold much speech, with the way back from a
//! place in a chunk to a place in the recording. As `collect_chunks` of faster-whisper's vad.py, but that short gaps stay in:
//! speech that is glued together is misheard at the seam.

use super::segments::Segment;

/// How segments are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Samples of a chunk at most.
    pub longest: u64,
    /// Gaps up to this many samples are kept as they are; of longer ones nothing is.
    pub longest_gap: u64,
}

impl Packing {
    /// For a window of so many samples at 16 kHz; gaps up to a second stay.
    pub fn for_window(samples: u64) -> Self {
        Self {
            longest: samples.max(1),
            longest_gap: 16_000,
        }
    }
}

/// A part of the recording within a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the recording.
    pub segment: Segment,
    /// Where it begins in the chunk.
    pub at: u64,
}

/// What is decoded at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// One after another, in the order of the recording; at least one.
    pub pieces: Vec<Piece>,
}

impl Chunk {
    /// Samples in all.
    pub fn length(&self) -> u64 {
        self.pieces
            .last()
            .map_or(0, |p| p.at + p.segment.end - p.segment.start)
    }

    /// Where in the recording a sample of the chunk is at which something begins. A place beyond the chunk is its end.
    pub fn start_in_recording(&self, sample: u64) -> u64 {
        let within = |p: &&Piece| sample < p.at + (p.segment.end - p.segment.start);
        match self.pieces.iter().find(within) {
            Some(piece) => piece.segment.start + sample.saturating_sub(piece.at),
            None => self.pieces.last().map_or(0, |p| p.segment.end),
        }
    }

    /// Where in the recording a sample of the chunk is at which something ends: at a seam that is the end of what is
    /// before, not the beginning of what comes.
    pub fn end_in_recording(&self, sample: u64) -> u64 {
        let within = |p: &&Piece| sample <= p.at + (p.segment.end - p.segment.start);
        match self.pieces.iter().find(within) {
            Some(piece) => piece.segment.start + sample.saturating_sub(piece.at),
            None => self.pieces.last().map_or(0, |p| p.segment.end),
        }
    }
}

/// Takes segments as the detector finds them and gives chunks as they are full.
#[derive(Debug)]
pub struct Packer {
    packing: Packing,
    open: Chunk,
}

impl Packer {
    /// With nothing in it.
    pub fn new(packing: Packing) -> Self {
        Self {
            packing,
            open: Chunk::default(),
        }
    }

    /// Takes the next segment, which begins where the last one ended or later, and appends the chunks that are full. A
    /// segment longer than a chunk is cut into equal parts: have the detector cut it
    /// ([`VadOptions::max_speech_duration_s`](super::VadOptions::max_speech_duration_s)), which knows a better place.
    pub fn push(&mut self, segment: Segment, out: &mut Vec<Chunk>) {
        let length = segment.end.saturating_sub(segment.start);
        let parts = length.div_ceil(self.packing.longest);
        for part in 0..parts {
            let place = |n: u64| segment.start + length * n / parts;
            self.add(
                Segment {
                    start: place(part),
                    end: place(part + 1),
                },
                out,
            );
        }
    }

    /// Appends what is left.
    pub fn finish(&mut self, out: &mut Vec<Chunk>) {
        if !self.open.pieces.is_empty() {
            out.push(std::mem::take(&mut self.open));
        }
    }

    fn add(&mut self, segment: Segment, out: &mut Vec<Chunk>) {
        let length = self.open.length();
        if let Some(last) = self.open.pieces.last_mut() {
            let gap = segment.start.saturating_sub(last.segment.end);
            let kept = gap <= self.packing.longest_gap;
            let with = length + (segment.end - segment.start) + if kept { gap } else { 0 };
            if with <= self.packing.longest {
                if kept {
                    last.segment.end = segment.end;
                } else {
                    self.open.pieces.push(Piece {
                        segment,
                        at: length,
                    });
                }
                return;
            }
            self.finish(out);
        }
        self.open.pieces.push(Piece { segment, at: 0 });
    }
}

/// All segments of a recording at once.
pub fn pack(segments: &[Segment], packing: Packing) -> Vec<Chunk> {
    let mut packer = Packer::new(packing);
    let mut out = Vec::new();
    for segment in segments {
        packer.push(*segment, &mut out);
    }
    packer.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
        pairs
            .iter()
            .map(|(start, end)| Segment {
                start: *start,
                end: *end,
            })
            .collect()
    }

    const PACKING: Packing = Packing {
        longest: 100,
        longest_gap: 10,
    };

    #[test]
    fn short_gaps_stay_and_long_ones_are_left_out() {
        let chunks = pack(
            &segments(&[(0, 30), (35, 60), (80, 100), (200, 300)]),
            PACKING,
        );
        let at: Vec<Vec<(u64, u64, u64)>> = chunks
            .iter()
            .map(|c| {
                c.pieces
                    .iter()
                    .map(|p| (p.at, p.segment.start, p.segment.end))
                    .collect()
            })
            .collect();
        assert_eq!(at, [vec![(0, 0, 60), (60, 80, 100)], vec![(0, 200, 300)]]);
        assert_eq!(chunks[0].length(), 80);
    }

    #[test]
    fn places_go_back_to_where_they_were() {
        let chunk = &pack(&segments(&[(50, 80), (200, 230)]), PACKING)[0];
        assert_eq!(
            (chunk.start_in_recording(0), chunk.start_in_recording(29)),
            (50, 79)
        );
        // The seam: what begins there begins in the second piece, what ends there ends in the first.
        assert_eq!(
            (chunk.start_in_recording(30), chunk.end_in_recording(30)),
            (200, 80)
        );
        assert_eq!(
            (chunk.end_in_recording(31), chunk.end_in_recording(60)),
            (201, 230)
        );
        assert_eq!(
            (chunk.start_in_recording(99), chunk.end_in_recording(99)),
            (230, 230)
        );
    }

    #[test]
    fn a_segment_longer_than_a_chunk_is_cut_and_nothing_is_lost() {
        let chunks = pack(&segments(&[(10, 260)]), PACKING);
        let pieces: Vec<Segment> = chunks
            .iter()
            .flat_map(|c| &c.pieces)
            .map(|p| p.segment)
            .collect();
        assert_eq!((pieces[0].start, pieces[2].end), (10, 260));
        assert!(pieces.windows(2).all(|p| p[0].end == p[1].start));
        assert!(chunks.iter().all(|c| c.length() <= 100));
    }
}
