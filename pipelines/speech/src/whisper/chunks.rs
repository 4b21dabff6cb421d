//! Audio that somebody has cut, as where nobody speaks: its chunks are transcribed beside each other, and their segments come out in
//! the order of the audio. Each chunk is a [`Sequential`] over its own frames, so that times count from the audio's beginning, a
//! chunk that is longer than a window takes several, and what a window leaves open is heard again.

use std::ops::Range;

use super::decoding::Alignment;
use super::fallback::Attempt;
use super::model::Description;
use super::segment::Segment;
use super::sequential::{AlignmentPlan, Next, Sequential, SequentialOptions, WindowPlan};

/// The transcript of audio in chunks, as far as it has come.
#[derive(Debug, Clone)]
pub struct Chunks {
    chunks: Vec<Chunk>,
    /// The first chunk whose segments have not all been given away.
    first: usize,
}

#[derive(Debug, Clone)]
struct Chunk {
    sequential: Sequential,
    /// Segments that wait for those of chunks before.
    waiting: Vec<Segment>,
}

/// Names a chunk by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub usize);

impl Chunks {
    /// Chunks of audio of so many frames, in its order. Chunks that overlap are transcribed twice where they do.
    pub fn new(
        description: &Description,
        options: &SequentialOptions,
        (chunks, frames): (impl IntoIterator<Item = Range<usize>>, usize),
    ) -> Self {
        let chunk = |stretch| {
            let mut sequential = Sequential::over(description.clone(), options.clone(), stretch);
            sequential.ends_at(frames);
            Chunk {
                sequential,
                waiting: Vec::new(),
            }
        };
        Self {
            chunks: chunks.into_iter().map(chunk).collect(),
            first: 0,
        }
    }

    /// Adds a chunk that follows all others, as when audio is cut while it comes.
    pub fn push(&mut self, sequential: Sequential) -> ChunkId {
        self.chunks.push(Chunk {
            sequential,
            waiting: Vec::new(),
        });
        ChunkId(self.chunks.len() - 1)
    }

    /// The next window of the first chunk that has one to decode and none out. Numbers of windows are those of all chunks together, far
    /// enough apart that no two windows draw the same.
    pub fn next_window(&mut self) -> Option<(ChunkId, WindowPlan)> {
        /// Windows that a chunk will not have.
        const APART: u64 = 1 << 24;
        let open = self.chunks.iter_mut().enumerate().skip(self.first);
        for (index, chunk) in open {
            if let Some(plan) = chunk.sequential.next_window() {
                let number = index as u64 * APART + plan.number;
                return Some((ChunkId(index), WindowPlan { number, ..plan }));
            }
        }
        None
    }

    /// Takes the transcript of a chunk's window; what is wanted next, if it is how the text lies on it. Unknown chunks are ignored.
    pub fn decoded(&mut self, chunk: ChunkId, attempt: Attempt) -> Option<AlignmentPlan> {
        let chunk = self.chunks.get_mut(chunk.0)?;
        match chunk.sequential.decoded(attempt) {
            Next::Segments(segments) => {
                chunk.waiting.extend(segments);
                None
            }
            Next::Align(plan) => Some(plan),
        }
    }

    /// Takes how the text of a chunk's window lies on it; `prompt` counts the tokens that were before the text.
    pub fn aligned(&mut self, chunk: ChunkId, alignment: &Alignment, prompt: usize) {
        if let Some(chunk) = self.chunks.get_mut(chunk.0) {
            let segments = chunk.sequential.aligned(alignment, prompt);
            chunk.waiting.extend(segments);
        }
    }

    /// Forgets that windows are out: they are asked for again.
    pub fn take_back(&mut self) {
        for chunk in self.chunks.iter_mut().skip(self.first) {
            chunk.sequential.take_back();
        }
    }

    /// Segments that are final and before which none will come, in the order of the audio; each once.
    pub fn take_final(&mut self) -> Vec<Segment> {
        let mut segments = Vec::new();
        while let Some(chunk) = self.chunks.get_mut(self.first) {
            segments.append(&mut chunk.waiting);
            if !chunk.sequential.is_done() {
                break;
            }
            self.first += 1;
        }
        segments
    }

    /// The frame before which nothing is needed any more.
    pub fn needed_from(&self) -> Option<usize> {
        let open = self.chunks.iter().skip(self.first);
        open.map(|chunk| chunk.sequential.seek()).min()
    }

    /// How far a chunk is: the frame at which its next window begins.
    pub fn seek(&self, chunk: ChunkId) -> Option<usize> {
        Some(self.chunks.get(chunk.0)?.sequential.seek())
    }

    /// Whether all chunks are transcribed.
    pub fn is_done(&self) -> bool {
        let mut open = self.chunks.iter().skip(self.first);
        open.all(|chunk| chunk.sequential.is_done())
    }
}
