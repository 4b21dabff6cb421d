//! The checker itself: how close a picture is to concepts, each with a threshold of its own.

use candle_core::{DType, Device, Tensor};
use chandler_nn::linear::Linear;

use super::config::{SafetyConfig, VisionConfig};
use super::processor::ImageProcessor;
use super::vision::ClipVision;
use crate::error::Result;
use crate::layers::{Loaded, Loader, Placement};
use crate::pixels::Size;
use crate::sequences::linear;

/// Concepts that are looked for, and those whose presence makes the others more likely to be found.
const CONCEPTS: usize = 17;
const SPECIAL: usize = 3;
/// What every score is raised by once a special concept was found.
const RAISE: f32 = 0.01;

/// A safety checker.
pub struct SafetyChecker {
    vision: ClipVision,
    projection: Linear,
    special: Concepts,
    concepts: Concepts,
    processor: ImageProcessor,
    side: usize,
    placement: Placement,
    loaded: Loaded,
}

/// Directions of concepts, and from which cosine on a picture shows them.
struct Concepts {
    /// [concepts, projection], each of length 1.
    directions: Vec<Vec<f32>>,
    thresholds: Vec<f32>,
}

impl Concepts {
    fn load(loader: &Loader<'_>, name: &str, (count, width): (usize, usize)) -> Result<Self> {
        let host = |name: &str, shape: &[usize]| -> Result<Tensor> {
            let tensor = loader.stored(name, shape)?;
            Ok(tensor.to_tensor(&Device::Cpu, DType::F32)?)
        };
        let directions: Vec<Vec<f32>> = host(name, &[count, width])?.to_vec2()?;
        Ok(Self {
            directions: directions.into_iter().map(normalized).collect(),
            thresholds: host(&format!("{name}_weights"), &[count])?.to_vec1()?,
        })
    }

    /// How far the picture is past each threshold.
    fn past<'a>(&'a self, picture: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let each = self.directions.iter().zip(&self.thresholds);
        each.map(move |(direction, threshold)| {
            let cosine: f32 = direction.iter().zip(picture).map(|(a, b)| a * b).sum();
            cosine - threshold
        })
    }
}

impl SafetyChecker {
    /// Takes a checker out of its checkpoint. transformers has named the tower's tensors with one `vision_model.` and with two.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(
        config: &SafetyConfig,
        processor: ImageProcessor,
        loader: &Loader<'_>,
    ) -> Result<Self> {
        let SafetyConfig { vision, projection } = config;
        let VisionConfig { layer, side, .. } = vision;
        let mut tower = loader.at("vision_model");
        if tower.has("vision_model.pre_layrnorm.weight") {
            tower = tower.at("vision_model");
        }
        Ok(Self {
            vision: ClipVision::load(vision, &tower)?,
            projection: loader.linear("visual_projection", layer.width, *projection)?,
            special: Concepts::load(loader, "special_care_embeds", (SPECIAL, *projection))?,
            concepts: Concepts::load(loader, "concept_embeds", (CONCEPTS, *projection))?,
            processor,
            side: *side,
            placement: loader.placement().clone(),
            loaded: loader.loaded(),
        })
    }

    /// Bytes of its tensors as they are kept, mapped ones included.
    pub fn bytes(&self) -> u64 {
        self.loaded.bytes
    }

    /// Whether a picture, red, green and blue of each pixel, shows what it should not.
    ///
    /// # Errors
    /// When there are not as many bytes as the size says, and those of the device.
    pub fn flags(&self, rgb: &[u8], size: Size) -> Result<bool> {
        let numbers = self.processor.process(rgb, size)?;
        let input = Tensor::from_vec(numbers, (1, 3, self.side, self.side), &Device::Cpu)?;
        let embedding = self.embed(&self.placement.move_in(&input)?)?;
        let embedding = embedding.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        Ok(self.judge(embedding.flatten_all()?.to_vec1()?))
    }

    /// `pictures` [batch, 3, side, side], as [`ImageProcessor::process`] makes them, to [batch, projection].
    ///
    /// # Errors
    /// For another shape.
    pub fn embed(&self, pictures: &Tensor) -> Result<Tensor> {
        linear(&self.projection, &self.vision.forward(pictures)?)
    }

    /// Whether an embedding is past a threshold.
    fn judge(&self, embedding: Vec<f32>) -> bool {
        let picture = normalized(embedding);
        let mut raise = 0.0;
        for past in self.special.past(&picture) {
            // Those behind the first that was found are found more easily, too: the reference's loop has it so.
            if thousandths(past + raise) > 0.0 {
                raise = RAISE;
            }
        }
        let mut past = self.concepts.past(&picture);
        past.any(|past| thousandths(past + raise) > 0.0)
    }
}

/// The reference rounds scores to three digits before it looks whether they are above zero.
fn thousandths(score: f32) -> f32 {
    (score * 1000.0).round_ties_even()
}

/// A vector of length 1; torch's `normalize`.
fn normalized(x: Vec<f32>) -> Vec<f32> {
    let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    let length = squares.sqrt().max(1e-12) as f32;
    x.into_iter().map(|x| x / length).collect()
}
