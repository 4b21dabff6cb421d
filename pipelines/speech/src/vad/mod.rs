//! Voice activity: where in a recording somebody speaks ([`Detector`]), and how that speech is put into chunks of a model's
//! window ([`pack`]). Mono at 16 kHz, as the audio reader gives it.

mod measures;
mod pack;
mod score;
mod segments;
mod spectrum;

pub use pack::{Chunk, Packer, Packing, Piece, pack};
pub use segments::{Segment, VadOptionError, VadOptions};

use measures::Measurer;
use score::Scorer;
use segments::Segmenter;
use spectrum::{HOP, Spectra};

/// Finds speech in a recording as it comes. Looks a second ahead (three at the beginning), and holds no more than that.
pub struct Detector {
    probabilities: Probabilities,
    segmenter: Segmenter,
    new: Vec<f32>,
}

impl Detector {
    /// At the beginning of a recording.
    ///
    /// # Errors
    /// A value of the options is out of its range.
    pub fn new(options: &VadOptions) -> Result<Self, VadOptionError> {
        options.validate()?;
        Ok(Self {
            probabilities: Probabilities::new(),
            segmenter: Segmenter::new(options),
            new: Vec::new(),
        })
    }

    /// Takes samples and appends the segments that are final.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<Segment>) {
        self.new.clear();
        self.probabilities.push(samples, &mut self.new);
        for probability in &self.new {
            self.segmenter.push(*probability, out);
        }
    }

    /// Appends what is left. The detector is of no use after that.
    pub fn finish(&mut self, out: &mut Vec<Segment>) {
        self.new.clear();
        self.probabilities.finish(&mut self.new);
        for probability in &self.new {
            self.segmenter.push(*probability, out);
        }
        self.segmenter.finish(self.probabilities.samples, out);
    }
}

/// The probability of speech in every 10 ms of a recording, for those who cut by rules of their own.
pub struct Probabilities {
    spectra: Spectra,
    measurer: Measurer,
    scorer: Scorer,
    samples: u64,
    frames: u64,
}

impl Default for Probabilities {
    fn default() -> Self {
        Self::new()
    }
}

impl Probabilities {
    /// At the beginning of a recording.
    pub fn new() -> Self {
        Self {
            spectra: Spectra::new(),
            measurer: Measurer::new(),
            scorer: Scorer::new(),
            samples: 0,
            frames: 0,
        }
    }

    /// Takes samples and appends the probabilities that are final, 0 to 1.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.samples += samples.len() as u64;
        // A block at a time, so that what is held stays small whatever the caller hands in.
        for block in samples.chunks(1 << 14) {
            let (measurer, scorer, frames) =
                (&mut self.measurer, &mut self.scorer, &mut self.frames);
            self.spectra.push(block, |frame| {
                *frames += 1;
                measurer.push(frame, |measures| out.extend(scorer.push(measures)));
            });
        }
    }

    /// Appends what is left: samples / 160 in all, rounded up.
    pub fn finish(&mut self, out: &mut Vec<f32>) {
        let (measurer, scorer) = (&mut self.measurer, &mut self.scorer);
        let wanted = self.samples.div_ceil(HOP as u64);
        self.spectra.finish(wanted, self.frames, |frame| {
            measurer.push(frame, |measures| out.extend(scorer.push(measures)));
        });
        self.frames = wanted;
        measurer.finish(|measures| out.extend(scorer.push(measures)));
        while let Some(probability) = scorer.finish() {
            out.push(probability);
        }
    }
}

/// What the classifier sees of a recording, frame by frame, for the script that trains it (tests/vad/train.py): the same
/// code as in use, so that the two cannot differ.
#[doc(hidden)]
pub fn measures_for_training(samples: &[f32]) -> Vec<Vec<f32>> {
    let mut spectra = Spectra::new();
    let mut measurer = Measurer::new();
    let mut out = Vec::new();
    let mut frames = 0;
    spectra.push(samples, |frame| {
        frames += 1;
        measurer.push(frame, |m| out.push(m.to_vec()));
    });
    let wanted = (samples.len() as u64).div_ceil(HOP as u64);
    spectra.finish(wanted, frames, |frame| {
        measurer.push(frame, |m| out.push(m.to_vec()))
    });
    measurer.finish(|m| out.push(m.to_vec()));
    out
}
