//! Voice activity: where in a recording somebody speaks ([`Detector`]), and how that speech is put into chunks of a model's
//! window ([`pack`]). Mono at 16 kHz, as the audio reader gives it.
//!
//! How it works: every 10 ms the energy of 24 bands above the noise there (minimum statistics, a second ahead), pitch,
//! flatness and change; a perceptron of 6 000 weights over 1.4 s of that; and the hysteresis, least lengths and padding that
//! faster-whisper has. Trained by tests/vad/train.py on espeak-ng voices, with synthetic rooms, equalisers and noise.
//!
//! How well, by tests/vad/measure.py (the table is in tests/vad/measured.txt; Silero v6 on the same two hours in brackets):
//! frames of speech that are in no segment, and frames without speech that are in one (more than 0.2 s from speech), over
//! no noise, white, pink and hum (20 to 0 dB), fan, babble, music and clicks (20 to 5 dB), at the default threshold:
//!
//! | voices | missed | false alarms |
//! |---|---|---|
//! | espeak-ng, voices not trained on | 0.7 % (2.0) | 5.3 % (4.8) |
//! | flite, a synthesiser not trained on | 1.5 % (1.5) | 6.9 % (9.7) |
//! | LibriVox, real people | 8.1 % (8.7) | 6.0 % (10.5) |
//!
//! In white or pink noise at 5 dB: 0.2 % missed and 0.7 % false at most for the synthesised voices, none false for the real
//! ones. The real voices' marks come from their loudness and count soft word ends and breaths as speech, which is most of
//! the 8 %. The noises are of the kinds that were trained with, though not the same recordings. What it does badly: babble of
//! eight voices at 10 dB and louder is half taken for speech (Silero: 42 to 100 %), at 5 dB a quarter of flite's speech is
//! lost in it; a fan that throbs can be taken for speech (up to 62 % in one cell).

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
