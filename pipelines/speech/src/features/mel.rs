//! Whisper's log-mel spectrogram, of a window or of a whole recording. Mirrors `_np_extract_fbank_features` of
//! transformers' feature_extraction_whisper.py and `log_mel_spectrogram` of openai-whisper's audio.py.
//!
//! Both clamp at 8 (80 dB) under the loudest bin, of the 30 s window or of the whole recording. For the second the loudest
//! bin must be known before the first window is decoded, and keeping the spectrogram until then would take 1.2 GB for ten
//! hours (0.6 GB in f16). So the recording is read twice: a first [`MelStream`] finds [`loudest`] and keeps nothing, a
//! second gives the frames as the decoder moves on, and [`normalize`] is applied to each window. The second pass costs
//! a few thousandths of the recording's length, and memory stays at one window however long the recording is.

use std::sync::Arc;

use super::config::MelConfig;
use super::spectrum::{Plan, Work};

/// How far under the loudest bin the spectrogram is cut, in powers of ten.
const RANGE: f32 = 8.0;

/// Makes spectrograms of one kind. Cheap to clone; each clone works on its own.
#[derive(Clone)]
pub struct Mel {
    plan: Arc<Plan>,
}

impl std::fmt::Debug for Mel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mel")
            .field("config", &self.plan.config)
            .finish()
    }
}

/// A window as the encoder takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct MelWindow {
    /// `[bins, frames]`, row by row.
    pub values: Vec<f32>,
    /// Mel bins.
    pub bins: usize,
    /// Frames.
    pub frames: usize,
}

impl Mel {
    /// Plans the transform once.
    pub fn new(config: MelConfig) -> Self {
        Self {
            plan: Arc::new(Plan::new(config)),
        }
    }

    /// What it makes.
    pub fn config(&self) -> &MelConfig {
        &self.plan.config
    }

    /// The spectrogram of one window: padded with silence or cut to the window's length, clamped by its own loudest bin.
    /// What `WhisperFeatureExtractor(...)(samples)` gives.
    pub fn window(&self, samples: &[f32]) -> MelWindow {
        let count = self.plan.config.window_samples;
        let mut padded = samples.get(..count).unwrap_or(samples).to_vec();
        padded.resize(count, 0.0);
        self.whole(&padded)
    }

    /// The spectrogram of all these samples as one window, clamped by its loudest bin, with no padding.
    /// What `WhisperFeatureExtractor(..., padding="longest", truncation=False)` gives; `[bins, samples / hop]`.
    pub fn whole(&self, samples: &[f32]) -> MelWindow {
        let mut stream = self.stream();
        let mut frames = Vec::new();
        stream.push(samples, &mut frames);
        stream.finish(0, &mut frames);
        let most = loudest(&frames);
        normalize(&mut frames, most);
        self.transpose(&frames)
    }

    /// At the beginning of a recording.
    pub fn stream(&self) -> MelStream {
        MelStream {
            plan: Arc::clone(&self.plan),
            work: self.plan.work(),
            held: Vec::new(),
            begun: false,
            taken: 0,
            given: 0,
        }
    }

    /// Frames one after another, `[frames, bins]`, as the encoder takes them: `[bins, frames]`.
    pub fn transpose(&self, frames: &[f32]) -> MelWindow {
        let bins = self.plan.config.bins;
        let count = frames.len() / bins;
        let mut values = vec![0.0; count * bins];
        for (index, frame) in frames.chunks_exact(bins).enumerate() {
            for (value, row) in frame.iter().zip(values.chunks_exact_mut(count)) {
                if let Some(place) = row.get_mut(index) {
                    *place = *value;
                }
            }
        }
        MelWindow {
            values,
            bins,
            frames: count,
        }
    }
}

/// The loudest bin among frames that are not yet normalised; -10, the floor, for none.
pub fn loudest(frames: &[f32]) -> f32 {
    frames.iter().copied().fold(-10.0, f32::max)
}

/// Clamps at 8 under `loudest` and brings to the range that the model was trained on.
pub fn normalize(frames: &mut [f32], loudest: f32) {
    let least = loudest - RANGE;
    for value in frames {
        *value = (value.max(least) + 4.0) / 4.0;
    }
}

/// The frames of a recording as its samples come: base-10 logarithms, `[frames, bins]`, not yet normalised. Holds one
/// frame's samples.
pub struct MelStream {
    plan: Arc<Plan>,
    work: Work,
    /// Samples from the beginning of the next frame on.
    held: Vec<f32>,
    begun: bool,
    taken: u64,
    given: u64,
}

impl MelStream {
    /// Takes samples and appends the frames that are final.
    pub fn push(&mut self, samples: &[f32], frames: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        let half = self.plan.config.n_fft / 2;
        // A block at a time, so that what is held stays small whatever the caller hands in.
        for block in samples.chunks(1 << 14) {
            self.held.extend_from_slice(block);
            if !self.begun && self.held.len() > half {
                self.begin();
            }
            if self.begun {
                self.frames(frames, u64::MAX);
            }
        }
    }

    /// Appends the last frames, after so many samples of silence (openai-whisper puts a whole window of it), and begins
    /// anew. `samples / hop` frames in all, as the references drop the last one.
    pub fn finish(&mut self, silence: usize, frames: &mut Vec<f32>) {
        let zeros = [0.0; 4096];
        let mut left = silence;
        while left > 0 {
            let now = left.min(zeros.len());
            self.push(zeros.get(..now).unwrap_or_default(), frames);
            left -= now;
        }
        let config = &self.plan.config;
        // 1 + (samples + 2 · (n_fft / 2) - n_fft) / hop, less the dropped one.
        let wanted =
            self.taken.saturating_sub((config.n_fft % 2) as u64) / config.hop_length as u64;
        if !self.begun {
            // Too short to be reflected: transformers refuses such a clip; silence after it is what padding would give.
            self.held.resize(self.plan.config.n_fft / 2 + 1, 0.0);
            self.begin();
        }
        self.reflect_end();
        self.frames(frames, wanted);
        self.held.clear();
        (self.begun, self.taken, self.given) = (false, 0, 0);
    }

    /// The first frame is centred on the first sample: what is before it is the sound after it, mirrored.
    fn begin(&mut self) {
        let half = self.plan.config.n_fft / 2;
        let mirrored: Vec<f32> = self.held.iter().skip(1).take(half).rev().copied().collect();
        self.held.splice(0..0, mirrored);
        self.begun = true;
    }

    fn reflect_end(&mut self) {
        let half = self.plan.config.n_fft / 2;
        let mirrored: Vec<f32> = self.held.iter().rev().skip(1).take(half).copied().collect();
        self.held.extend(mirrored);
    }

    fn frames(&mut self, frames: &mut Vec<f32>, wanted: u64) {
        let (size, hop) = (self.plan.config.n_fft, self.plan.config.hop_length);
        let mut at = 0;
        while self.given < wanted
            && let Some(samples) = self.held.get(at..at + size)
        {
            self.plan.frame(samples, &mut self.work, frames);
            self.given += 1;
            at += hop;
        }
        self.held.drain(..at.min(self.held.len()));
    }
}
