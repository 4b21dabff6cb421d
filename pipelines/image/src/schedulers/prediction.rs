//! What a model's output says about the picture (`prediction_type`), and what is done to the picture it foretells (clipping, dynamic
//! thresholding). Apart from the schedulers because they share both.

use super::reader::Reader;
use crate::error::Result;

/// What the model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prediction {
    /// The noise.
    Epsilon,
    /// `α·noise − σ·picture` (Salimans and Ho, "Progressive Distillation", section 4).
    Velocity,
    /// The picture.
    Sample,
    /// `noise − picture`, of flow matching.
    Flow,
}

/// The words for them; a class takes some of these.
pub(super) const NOISE_OR_VELOCITY: &[(&str, Prediction)] = &[
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::Velocity),
];
/// With the picture itself.
pub(super) const USUAL: &[(&str, Prediction)] = &[
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::Velocity),
    ("sample", Prediction::Sample),
];
/// With flows.
pub(super) const ALL: &[(&str, Prediction)] = &[
    ("epsilon", Prediction::Epsilon),
    ("v_prediction", Prediction::Velocity),
    ("sample", Prediction::Sample),
    ("flow_prediction", Prediction::Flow),
];

/// How much of the picture and of the noise a sample holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    pub alpha: f32,
    pub sigma: f32,
}

impl Level {
    /// That of ᾱ.
    pub fn of_alpha_bar(alpha_bar: f32) -> Self {
        Self {
            alpha: alpha_bar.sqrt(),
            sigma: (1.0 - alpha_bar).sqrt(),
        }
    }
}

impl Prediction {
    /// The picture that an output foretells, one number of it.
    pub fn original(self, level: Level, sample: f32, output: f32) -> f32 {
        let Level { alpha, sigma } = level;
        match self {
            Self::Epsilon => (sample - sigma * output) / alpha,
            Self::Velocity => alpha * sample - sigma * output,
            Self::Sample => output,
            Self::Flow => sample - sigma * output,
        }
    }

    /// The noise that an output foretells, one number of it.
    pub fn epsilon(self, level: Level, sample: f32, output: f32) -> f32 {
        let Level { alpha, sigma } = level;
        match self {
            Self::Epsilon => output,
            Self::Velocity => alpha * output + sigma * sample,
            Self::Sample => (sample - alpha * output) / sigma,
            Self::Flow => output + (sample - sigma * output),
        }
    }

    /// The picture where samples are `picture + σ·noise`, unscaled (the Euler family).
    pub fn original_of_unscaled(self, sigma: f32, sample: f32, output: f32) -> f32 {
        match self {
            Self::Epsilon | Self::Flow => sample - sigma * output,
            Self::Velocity => {
                let square = sigma * sigma + 1.0;
                output * (-sigma / square.sqrt()) + sample / square
            }
            Self::Sample => output,
        }
    }
}

/// How a foretold picture is kept in its range.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    threshold: Option<Threshold>,
    range: Option<f32>,
}

#[derive(Debug, Clone, Copy)]
struct Threshold {
    ratio: f32,
    most: f32,
}

/// The fields of dynamic thresholding.
pub(super) const THRESHOLD_FIELDS: &[&str] = &[
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
];
/// The fields of clipping.
pub(super) const CLIP_FIELDS: &[&str] = &["clip_sample", "clip_sample_range"];

impl Clip {
    /// `thresholding` and its fields.
    pub fn thresholding(reader: &Reader<'_>) -> Result<Self> {
        let ratio = reader.number_or("dynamic_thresholding_ratio", 0.0..=1.0, 0.995)? as f32;
        let most = reader.number_or("sample_max_value", 1e-6..=1e6, 1.0)? as f32;
        let on = reader.flag("thresholding", false)?;
        Ok(Self {
            threshold: on.then_some(Threshold { ratio, most }),
            range: None,
        })
    }

    /// `clip_sample` and its range, on or off when the file does not say.
    pub fn and_clipping(mut self, reader: &Reader<'_>, default: bool) -> Result<Self> {
        let range = reader.number_or("clip_sample_range", 1e-6..=1e6, 1.0)? as f32;
        self.range = reader.flag("clip_sample", default)?.then_some(range);
        Ok(self)
    }

    /// Neither.
    pub fn none() -> Self {
        Self {
            threshold: None,
            range: None,
        }
    }

    /// Whether it does anything.
    pub fn is_on(&self) -> bool {
        self.threshold.is_some() || self.range.is_some()
    }

    /// Brings a picture into its range. Thresholding comes before clipping, as in the reference, and instead of it.
    pub fn apply(&self, picture: &mut [f32]) {
        match (self.threshold, self.range) {
            (Some(threshold), _) => threshold.apply(picture),
            (None, Some(range)) => {
                for value in picture {
                    *value = value.clamp(-range, range);
                }
            }
            (None, None) => {}
        }
    }
}

impl Threshold {
    /// diffusers' `_threshold_sample` (Saharia et al., Imagen, section 2.3).
    fn apply(self, picture: &mut [f32]) {
        let limit = quantile(picture, self.ratio).max(1.0).min(self.most);
        for value in picture {
            *value = value.max(-limit).min(limit) / limit;
        }
    }
}

/// `torch.quantile` of the absolute values, between neighbours in a straight line, in f32.
fn quantile(values: &[f32], ratio: f32) -> f32 {
    let mut sizes: Vec<f32> = values.iter().map(|value| value.abs()).collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let rank = ratio * sizes.len().saturating_sub(1) as f32;
    let below = rank.floor();
    let weight = rank - below;
    let value = |rank: f32| super::arrays::at(&sizes, rank as usize);
    let (low, high) = (value(below), value(rank.ceil()));
    if weight < 0.5 {
        low + weight * (high - low)
    } else {
        high - (high - low) * (1.0 - weight)
    }
}
