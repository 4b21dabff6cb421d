//! The frames of one channel, of any stretch that is asked for in the order of the recording: from memory as far as the first pass kept
//! them, and beyond that from the file, which is then decoded a second time as the model moves on. What lies behind is forgotten.

use std::ops::Range;

use chandler_core::Audio;

use super::ear::Stream;
use super::first_pass::Sketch;
use super::{Ear, open};
use crate::audio::{AudioError, Layout, Reader};

/// Frames of one channel.
pub(crate) struct Frames {
    ear: Ear,
    total: usize,
    loudest: f32,
    /// The frame that `held` begins with.
    first: usize,
    held: Vec<f32>,
    replay: Replay,
}

/// The second reading of the file.
enum Replay {
    /// Everything was kept.
    None,
    /// Not begun.
    Waiting(Origin),
    Reading(Box<Reading>),
}

/// Where the channel comes from.
struct Origin {
    audio: Audio,
    apart: bool,
    channel: usize,
}

struct Reading {
    reader: Reader,
    channel: usize,
    stream: Stream,
    /// Numbers that were kept in the first pass, and are dropped in the second.
    dropped: usize,
    ended: bool,
}

/// Frames behind the place that is needed which may stay: memory is given back in large pieces, not frame by frame.
const SLACK: usize = 1 << 12;
/// Seconds of the recording that one piece of work decodes at most, roughly.
const PIECE: f64 = 20.0;

impl Frames {
    /// Of a channel of a recording whose first pass found this.
    pub(crate) fn new(sketch: Sketch, ear: &Ear, audio: &Audio, place: (bool, usize)) -> Self {
        let (apart, channel) = place;
        let whole = sketch.kept.len() >= sketch.frames * ear.width();
        let replay = match whole {
            true => Replay::None,
            false => Replay::Waiting(Origin {
                audio: audio.clone(),
                apart,
                channel,
            }),
        };
        Self {
            ear: ear.clone(),
            total: sketch.frames,
            loudest: sketch.loudest,
            first: 0,
            held: sketch.kept,
            replay,
        }
    }

    /// Bytes on the host.
    pub(crate) fn bytes(&self) -> usize {
        self.held.capacity() * 4
    }

    /// The frame after the last that is at hand.
    fn end(&self) -> usize {
        self.first + self.held.len() / self.ear.width()
    }

    /// Whether all of a stretch is at hand, or never will be.
    pub(crate) fn has(&self, range: &Range<usize>) -> bool {
        range.end.min(self.total) <= self.end()
    }

    /// Appends the frames of a stretch, not finished; those behind what was forgotten are left out.
    pub(crate) fn copy(&self, range: Range<usize>, out: &mut Vec<f32>) {
        let width = self.ear.width();
        let place = |frame: usize| (frame.saturating_sub(self.first) * width).min(self.held.len());
        let found = self.held.get(place(range.start)..place(range.end));
        out.extend_from_slice(found.unwrap_or_default());
    }

    /// Brings frames to what the model was trained on.
    pub(crate) fn finish(&self, frames: &mut [f32]) {
        self.ear.finish(frames, self.loudest);
    }

    /// Says that nothing before this frame is needed any more.
    pub(crate) fn forget_before(&mut self, frame: usize) {
        let behind = frame.min(self.end()).saturating_sub(self.first);
        if matches!(self.replay, Replay::None) || behind <= SLACK {
            return;
        }
        self.held.drain(..behind * self.ear.width());
        self.first += behind;
    }

    /// Reads a bounded piece more of the file.
    ///
    /// # Errors
    /// When the file cannot be read as it was the first time: somebody has changed it.
    pub(crate) fn read_on(&mut self) -> Result<(), AudioError> {
        if let Replay::Waiting(origin) = &self.replay {
            let layout = match origin.apart {
                true => Layout::Separate,
                false => Layout::Mono,
            };
            self.replay = Replay::Reading(Box::new(Reading {
                reader: open(&origin.audio, &self.ear, layout, None)?,
                channel: origin.channel,
                stream: self.ear.stream(),
                dropped: self.held.len() + self.first * self.ear.width(),
                ended: false,
            }));
        }
        let Replay::Reading(reading) = &mut self.replay else {
            return Ok(());
        };
        let samples = (PIECE * f64::from(self.ear.sample_rate)) as usize;
        reading.read(samples, &mut self.held)?;
        let left = (self.total - self.first) * self.ear.width();
        self.held.truncate(left);
        if reading.ended && self.end() < self.total {
            let reason = "the file has become shorter while it was read";
            return Err(AudioError::Read(std::io::Error::other(reason)));
        }
        Ok(())
    }
}

impl Reading {
    fn read(&mut self, samples: usize, held: &mut Vec<f32>) -> Result<(), AudioError> {
        let mut read = 0;
        let mut new = Vec::new();
        while read < samples && !self.ended {
            match self.reader.read()? {
                Some(block) => {
                    let channel = block.channels().get(self.channel);
                    let channel = channel.map_or(&[][..], Vec::as_slice);
                    read += block.mono().len();
                    self.stream.push(channel, &mut new);
                }
                None => {
                    self.stream.end(&mut new);
                    self.ended = true;
                }
            }
            let dropped = self.dropped.min(new.len());
            self.dropped -= dropped;
            held.extend_from_slice(new.get(dropped..).unwrap_or_default());
            new.clear();
        }
        Ok(())
    }
}
