//! preprocessor_config.json: how a checkpoint wants its sound. Every number is checked here, so that below nothing
//! divides by 0 or plans a transform of a gigabyte.

use serde::Deserialize;
use serde_json::Value;

/// What is wrong with a feature extractor's configuration.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum FeatureError {
    /// A field of preprocessor_config.json.
    #[error("preprocessor_config.json: {0}")]
    Config(String),
}

/// How Whisper's log-mel spectrogram is made (`WhisperFeatureExtractor` of transformers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MelConfig {
    /// Mel bins: 80, or 128 from large-v3 on.
    pub bins: usize,
    /// Samples a second that the model hears.
    pub sampling_rate: u32,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Samples of a frame.
    pub n_fft: usize,
    /// Samples of the window that the encoder takes, 30 s of them for the published checkpoints.
    pub window_samples: usize,
}

impl Default for MelConfig {
    /// As the published checkpoints up to large-v2.
    fn default() -> Self {
        Self {
            bins: 80,
            sampling_rate: 16_000,
            hop_length: 160,
            n_fft: 400,
            window_samples: 480_000,
        }
    }
}

#[derive(Deserialize)]
struct RawMel {
    feature_extractor_type: Option<String>,
    #[serde(default = "eighty")]
    feature_size: u64,
    #[serde(default = "sixteen_thousand")]
    sampling_rate: u64,
    #[serde(default = "one_hundred_and_sixty")]
    hop_length: u64,
    #[serde(default = "thirty")]
    chunk_length: u64,
    #[serde(default = "four_hundred")]
    n_fft: u64,
    #[serde(default)]
    padding_value: f64,
    #[serde(default)]
    dither: f64,
}

fn eighty() -> u64 {
    80
}
fn sixteen_thousand() -> u64 {
    16_000
}
fn one_hundred_and_sixty() -> u64 {
    160
}
fn thirty() -> u64 {
    30
}
fn four_hundred() -> u64 {
    400
}

impl MelConfig {
    /// Reads the parsed preprocessor_config.json; what is not given is as transformers has it.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn from_json(json: &Value) -> Result<Self, FeatureError> {
        let raw: RawMel = serde_json::from_value(json.clone())
            .map_err(|e| FeatureError::Config(e.to_string()))?;
        of_type(
            raw.feature_extractor_type.as_deref(),
            "WhisperFeatureExtractor",
        )?;
        if raw.dither != 0.0 || raw.padding_value != 0.0 {
            let (field, value) = if raw.dither == 0.0 {
                ("padding_value", raw.padding_value)
            } else {
                ("dither", raw.dither)
            };
            return Err(FeatureError::Config(format!(
                "{field} is {value}; only 0 is supported"
            )));
        }
        let n_fft = within("n_fft", raw.n_fft, 4, 1 << 16)?;
        let hop_length = within("hop_length", raw.hop_length, 1, n_fft)?;
        let rate = within("sampling_rate", raw.sampling_rate, 1_000, 768_000)?;
        let seconds = within("chunk_length", raw.chunk_length, 1, 600)?;
        let config = Self {
            bins: to_usize(within("feature_size", raw.feature_size, 1, 1024)?),
            sampling_rate: u32::try_from(rate).unwrap_or(u32::MAX),
            hop_length: to_usize(hop_length),
            n_fft: to_usize(n_fft),
            window_samples: to_usize(seconds * rate),
        };
        if config.window_samples < config.n_fft {
            return Err(FeatureError::Config(format!(
                "n_fft is {n_fft}; a window of {seconds} s at {rate} Hz is shorter"
            )));
        }
        Ok(config)
    }

    /// Frames of a window.
    pub fn window_frames(&self) -> usize {
        self.window_samples / self.hop_length
    }
}

/// How a wav2vec2 model wants its samples (`Wav2Vec2FeatureExtractor` of transformers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wav2Vec2Config {
    /// Samples a second that the model hears.
    pub sampling_rate: u32,
    /// Whether each recording is brought to mean 0 and variance 1.
    pub do_normalize: bool,
    /// Whether the model was trained with a mask over padding; without one, padding is silence to it.
    pub return_attention_mask: bool,
}

#[derive(Deserialize)]
struct RawWav2Vec2 {
    feature_extractor_type: Option<String>,
    #[serde(default = "one")]
    feature_size: u64,
    #[serde(default = "sixteen_thousand")]
    sampling_rate: u64,
    #[serde(default = "yes")]
    do_normalize: bool,
    #[serde(default)]
    return_attention_mask: bool,
    #[serde(default)]
    padding_value: f64,
}

fn one() -> u64 {
    1
}
fn yes() -> bool {
    true
}

impl Wav2Vec2Config {
    /// Reads the parsed preprocessor_config.json; what is not given is as transformers has it.
    ///
    /// # Errors
    /// Names the field, its value and what would do.
    pub fn from_json(json: &Value) -> Result<Self, FeatureError> {
        let raw: RawWav2Vec2 = serde_json::from_value(json.clone())
            .map_err(|e| FeatureError::Config(e.to_string()))?;
        of_type(
            raw.feature_extractor_type.as_deref(),
            "Wav2Vec2FeatureExtractor",
        )?;
        within("feature_size", raw.feature_size, 1, 1)?;
        if raw.padding_value != 0.0 {
            return Err(FeatureError::Config(format!(
                "padding_value is {}; only 0 is supported",
                raw.padding_value
            )));
        }
        let rate = within("sampling_rate", raw.sampling_rate, 1_000, 768_000)?;
        Ok(Self {
            sampling_rate: u32::try_from(rate).unwrap_or(u32::MAX),
            do_normalize: raw.do_normalize,
            return_attention_mask: raw.return_attention_mask,
        })
    }
}

fn of_type(given: Option<&str>, wanted: &str) -> Result<(), FeatureError> {
    match given {
        Some(given) if given != wanted => Err(FeatureError::Config(format!(
            "feature_extractor_type is {given}; this model takes {wanted}"
        ))),
        _ => Ok(()),
    }
}

fn within(field: &str, value: u64, least: u64, most: u64) -> Result<u64, FeatureError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(FeatureError::Config(format!(
        "{field} is {value}; it must be between {least} and {most}"
    )))
}

/// For numbers that `within` has bounded.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_given_is_as_the_published_checkpoints_have_it() {
        assert_eq!(MelConfig::from_json(&json!({})), Ok(MelConfig::default()));
        let large = json!({"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128, "nb_max_frames": 3000,
            "chunk_length": 5, "mel_filters": [[0.0]]});
        let config = MelConfig::from_json(&large).unwrap();
        assert_eq!(
            (config.bins, config.window_samples, config.window_frames()),
            (128, 80_000, 500)
        );
        let config = Wav2Vec2Config::from_json(&json!({"do_normalize": false})).unwrap();
        assert_eq!((config.sampling_rate, config.do_normalize), (16_000, false));
    }

    #[test]
    fn a_value_that_will_not_do_is_named() {
        let refused = |json| MelConfig::from_json(&json).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"hop_length": 0})),
            "preprocessor_config.json: hop_length is 0; it must be between 1 and 400"
        );
        assert_eq!(
            refused(json!({"dither": 0.1})),
            "preprocessor_config.json: dither is 0.1; only 0 is supported"
        );
        assert!(refused(json!({"n_fft": 1u64 << 40})).contains("n_fft is 1099511627776"));
        assert!(
            refused(json!({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}))
                .contains("this model takes")
        );
        assert!(refused(json!({"feature_size": "many"})).contains("invalid type"));
    }
}
