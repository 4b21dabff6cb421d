//! What a model hears: samples as they are, or the frames of a spectrogram. Apart from the recording, which is read in the same way
//! for both.

use crate::features::{self, Mel, MelStream, normalize_samples};

/// How a model hears.
#[derive(Debug, Clone)]
pub(crate) struct Ear {
    /// Samples a second.
    pub(crate) sample_rate: u32,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Log-mel frames, clamped under the recording's loudest.
    Mel(Mel),
    /// Samples, and whether each utterance is brought to mean 0 and variance 1.
    Samples { normalize: bool },
}

/// Frames of a recording as its samples come.
pub(crate) enum Stream {
    Mel(Box<MelStream>),
    Samples,
}

impl Ear {
    /// Of a model that hears spectrograms.
    pub(crate) fn mel(mel: Mel) -> Self {
        Self {
            sample_rate: mel.config().sampling_rate,
            kind: Kind::Mel(mel),
        }
    }

    /// Of a model that hears samples.
    pub(crate) fn samples(sample_rate: u32, normalize: bool) -> Self {
        Self {
            sample_rate,
            kind: Kind::Samples { normalize },
        }
    }

    /// Samples from one frame to the next.
    pub(crate) fn hop(&self) -> usize {
        match &self.kind {
            Kind::Mel(mel) => mel.config().hop_length,
            Kind::Samples { .. } => 1,
        }
    }

    /// Numbers of a frame.
    pub(crate) fn width(&self) -> usize {
        match &self.kind {
            Kind::Mel(mel) => mel.config().bins,
            Kind::Samples { .. } => 1,
        }
    }

    /// Frames in a second.
    pub(crate) fn frames_per_second(&self) -> f64 {
        f64::from(self.sample_rate) / self.hop() as f64
    }

    /// At the beginning of a recording.
    pub(crate) fn stream(&self) -> Stream {
        match &self.kind {
            Kind::Mel(mel) => Stream::Mel(Box::new(mel.stream())),
            Kind::Samples { .. } => Stream::Samples,
        }
    }

    /// How loud frames are, as [`Ear::finish`] wants it.
    pub(crate) fn loudest(&self, frames: &[f32]) -> f32 {
        match &self.kind {
            Kind::Mel(_) => features::loudest(frames),
            Kind::Samples { .. } => 0.0,
        }
    }

    /// Brings a stretch's frames to what the model was trained on.
    pub(crate) fn finish(&self, frames: &mut [f32], loudest: f32) {
        match &self.kind {
            Kind::Mel(_) => features::normalize(frames, loudest),
            Kind::Samples { normalize: true } => normalize_samples(frames),
            Kind::Samples { normalize: false } => {}
        }
    }
}

impl Stream {
    /// Takes samples and appends the frames that are final.
    pub(crate) fn push(&mut self, samples: &[f32], frames: &mut Vec<f32>) {
        match self {
            Self::Mel(stream) => stream.push(samples, frames),
            Self::Samples => frames.extend_from_slice(samples),
        }
    }

    /// Appends the last frames; perhaps one or two more than the samples make, which are of the silence after them.
    pub(crate) fn end(&mut self, frames: &mut Vec<f32>) {
        /// More than half of any frame: no frame of the recording looks further.
        const SILENCE: usize = 1 << 16;
        match self {
            Self::Mel(stream) => stream.finish(SILENCE, frames),
            Self::Samples => {}
        }
    }
}
