//! preprocessor_config.json of a Whisper model, as far as the model's side needs it: how samples, frames, positions and seconds
//! relate. The spectrogram itself is made elsewhere, from the same file.

use chandler_nn::weights::Snapshot;

use super::config::{INPUT_STRIDE, WhisperConfig};
use crate::error::Result;
use chandler_nn::fields::Fields;

const FILE: &str = "preprocessor_config.json";
/// What transformers' `WhisperFeatureExtractor` has for what is not written.
const DEFAULT_RATE: usize = 16_000;
const DEFAULT_HOP: usize = 160;

/// How samples, frames and seconds relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Samples in a second.
    pub sample_rate: usize,
    /// Samples from one frame to the next.
    pub hop: usize,
    /// Frames of a window.
    pub window_frames: usize,
}

impl Timing {
    /// Reads a snapshot's preprocessor_config.json, and holds it against the model; where there is none, Whisper's own numbers.
    ///
    /// # Errors
    /// Names the field that is absurd or does not fit config.json.
    pub fn from_snapshot(snapshot: &Snapshot, config: &WhisperConfig) -> Result<Self> {
        let fields = Fields::read(snapshot, FILE)?.unwrap_or_else(|| Fields::none(FILE));
        Self::of(&fields, config)
    }

    fn of(fields: &Fields, config: &WhisperConfig) -> Result<Self> {
        let timing = Self {
            sample_rate: fields
                .size("sampling_rate", 1 << 20)?
                .unwrap_or(DEFAULT_RATE),
            hop: fields.size("hop_length", 1 << 16)?.unwrap_or(DEFAULT_HOP),
            window_frames: config.window_frames(),
        };
        let bins = fields.size("feature_size", 1 << 16)?;
        if let Some(bins) = bins.filter(|bins| *bins != config.mel_bins) {
            let message = format!(
                "{bins} is not num_mel_bins of config.json, {}",
                config.mel_bins
            );
            return Err(fields.fault("feature_size", message).into());
        }
        let seconds = fields.size("chunk_length", 1 << 16)?;
        let frames = seconds.map(|seconds| seconds * timing.sample_rate / timing.hop);
        if let Some(frames) = frames.filter(|frames| *frames != timing.window_frames) {
            let message = format!(
                "it makes {frames} frames, and config.json's max_source_positions, {}, takes {}",
                config.source_positions, timing.window_frames
            );
            return Err(fields.fault("chunk_length", message).into());
        }
        Ok(timing)
    }

    /// Seconds from the beginning to a frame.
    pub fn seconds(&self, frame: usize) -> f64 {
        (frame * self.hop) as f64 / self.sample_rate as f64
    }

    /// The frame nearest to a time; halves to even, as Python rounds.
    pub fn frame(&self, seconds: f64) -> usize {
        // A negative time is no frame: `as` makes 0 of it.
        (seconds * self.frames_per_second()).round_ties_even() as usize
    }

    /// Frames in a second.
    pub fn frames_per_second(&self) -> f64 {
        self.sample_rate as f64 / self.hop as f64
    }

    /// Seconds between two of the encoder's positions, which is what a timestamp token counts in: 0.02 in all published models.
    pub fn precision(&self) -> f64 {
        self.seconds(INPUT_STRIDE)
    }

    /// Seconds of a window.
    pub fn window_seconds(&self) -> f64 {
        self.seconds(self.window_frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whisper::config::CONFIG_FILE;
    use serde_json::json;

    #[test]
    fn a_window_that_is_not_the_models_is_an_error_that_names_the_field() {
        let config = Fields::of(
            CONFIG_FILE,
            json!({
                "architectures": ["WhisperForConditionalGeneration"], "vocab_size": 9, "num_mel_bins": 80, "d_model": 2,
                "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 1, "decoder_layers": 1,
                "decoder_attention_heads": 1, "decoder_ffn_dim": 1, "max_source_positions": 400, "max_target_positions": 8,
            }),
        );
        let config = WhisperConfig::of(&config).unwrap();
        let of = |fields| Timing::of(&Fields::of(FILE, fields), &config);
        let timing = of(json!({"chunk_length": 8, "feature_size": 80, "hop_length": 160})).unwrap();
        assert_eq!((timing.window_seconds(), timing.precision()), (8.0, 0.02));
        assert_eq!((timing.frame(1.005), timing.seconds(101)), (100, 1.01));
        let said = |fields| of(fields).unwrap_err().to_string();
        assert!(said(json!({"chunk_length": 30})).contains("chunk_length: it makes 3000 frames"));
        assert!(
            said(json!({"feature_size": 128})).contains("feature_size: 128 is not num_mel_bins")
        );
    }
}
