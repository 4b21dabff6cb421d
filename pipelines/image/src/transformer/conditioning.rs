//! What every block is conditioned on: the timestep, guidance where a model has it, and the pooled text; and how a block's norms are
//! shifted and scaled by it. Mirrors `diffusers` models/embeddings.py, `CombinedTimestep(Guidance)TextProjEmbeddings`, and
//! models/normalization.py, `AdaLayerNormZero`, `AdaLayerNormZeroSingle`, `SD35AdaLayerNormZeroX`, `AdaLayerNormContinuous`.

use candle_core::{DType, Device, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::{Norm, NormConfig, NormKind};

use crate::error::{ImageError, Result};
use crate::layers::Loader;
use crate::lora::{Layer, Projection};

/// Numbers that a timestep is spread over: `Timesteps(num_channels=256)`.
const SPREAD: usize = 256;
/// The longest period of a sine among them.
const LONGEST_PERIOD: f64 = 10_000.0;
/// `eps` of all norms that are modulated.
const NORM_EPS: f64 = 1e-6;

/// Two linear layers with a SiLU between: `TimestepEmbedding`, `PixArtAlphaTextProjection`.
struct Embedder {
    first: Projection,
    second: Projection,
}

impl Embedder {
    fn load(at: &Loader<'_>, inputs: usize, width: usize) -> Result<Self> {
        Ok(Self {
            first: Projection::load(at, "linear_1", inputs, width)?,
            second: Projection::load(at, "linear_2", width, width)?,
        })
    }

    fn forward(&self, x: &Tensor, adapters: &AdapterRows) -> Result<Tensor> {
        let inner = Activation::Silu.forward(&self.first.forward(x, adapters)?)?;
        self.second.forward(&inner, adapters)
    }

    fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.extend([&mut self.first, &mut self.second].map(Layer::Linear));
    }

    fn bytes(&self) -> usize {
        self.first.bytes() + self.second.bytes()
    }
}

/// What a sample's blocks are conditioned on, one number for each sample of a batch.
pub(super) struct Conditions<'a> {
    /// From 0 to 1000, as the scheduler has it.
    pub(super) timesteps: &'a [f32],
    /// The guidance scale, for models that were distilled to take it.
    pub(super) guidance: Option<&'a [f32]>,
    /// [batch, pooled width]
    pub(super) pooled: &'a Tensor,
    /// Which samples go through which adapters.
    pub(super) adapters: &'a AdapterRows,
}

/// What all blocks of a pass look at beside their sequences.
pub(super) struct Told<'a> {
    /// What [`TimeText::forward`] gives, [batch, width].
    pub(super) condition: Tensor,
    /// Which samples go through which adapters.
    pub(super) adapters: &'a AdapterRows,
}

/// `time_text_embed`.
pub(super) struct TimeText {
    time: Embedder,
    guidance: Option<Embedder>,
    text: Embedder,
    pooled: usize,
    dtype: DType,
    device: Device,
}

impl TimeText {
    pub(super) fn load(
        at: &Loader<'_>,
        (pooled, width): (usize, usize),
        guided: bool,
    ) -> Result<Self> {
        let placement = at.placement();
        Ok(Self {
            time: Embedder::load(&at.at("timestep_embedder"), SPREAD, width)?,
            guidance: match guided {
                true => Some(Embedder::load(&at.at("guidance_embedder"), SPREAD, width)?),
                false => None,
            },
            text: Embedder::load(&at.at("text_embedder"), pooled, width)?,
            pooled,
            dtype: placement.activations(),
            device: placement.device.clone(),
        })
    }

    /// SiLU of the sum of all embeddings, [batch, width]: what every modulation begins with.
    pub(super) fn forward<'a>(&self, conditions: &Conditions<'a>) -> Result<Told<'a>> {
        let batch = conditions.timesteps.len();
        if conditions.pooled.dims() != [batch, self.pooled] {
            return Err(ImageError::Input(format!(
                "pooled text of shape {:?} with {batch} timesteps; [{batch}, {}] is wanted",
                conditions.pooled.dims(),
                self.pooled
            )));
        }
        let adapters = conditions.adapters;
        let timesteps = self.spread(conditions.timesteps)?;
        let mut sum = self.time.forward(&timesteps, adapters)?;
        match (&self.guidance, conditions.guidance) {
            (Some(embedder), Some(scales)) if scales.len() == batch => {
                // The reference multiplies it by 1000, as the timestep.
                let scales: Vec<f32> = scales.iter().map(|scale| scale * 1000.0).collect();
                sum = (sum + embedder.forward(&self.spread(&scales)?, adapters)?)?;
            }
            (None, None) => {}
            (embedder, scales) => {
                return Err(ImageError::Input(format!(
                    "{:?} guidance scales to {batch} samples of a model {} guidance embedding",
                    scales.map(<[f32]>::len),
                    if embedder.is_some() {
                        "with a"
                    } else {
                        "without a"
                    }
                )));
            }
        }
        let text = self
            .text
            .forward(&conditions.pooled.to_dtype(self.dtype)?, adapters)?;
        Ok(Told {
            condition: Activation::Silu.forward(&(sum + text)?)?,
            adapters,
        })
    }

    /// Cosines and sines of a number at 128 frequencies: [numbers, 256].
    fn spread(&self, numbers: &[f32]) -> Result<Tensor> {
        let half = SPREAD / 2;
        let mut spread = Vec::with_capacity(numbers.len() * SPREAD);
        for number in numbers {
            // Exponent, frequency and angle each rounded to f32, as in the reference.
            let angles = (0..half).map(|n| {
                let exponent = -LONGEST_PERIOD.ln() as f32 * n as f32 / half as f32;
                number * exponent.exp()
            });
            spread.extend(angles.clone().map(f32::cos));
            spread.extend(angles.map(f32::sin));
        }
        let spread = Tensor::from_vec(spread, (numbers.len(), SPREAD), &self.device)?;
        Ok(spread.to_dtype(self.dtype)?)
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        let embedders = [&mut self.time, &mut self.text].into_iter();
        for embedder in embedders.chain(&mut self.guidance) {
            embedder.layers(found);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let guidance = self.guidance.as_ref().map_or(0, Embedder::bytes);
        self.time.bytes() + guidance + self.text.bytes()
    }
}

/// A linear layer whose output is cut into `PARTS` rows for each sample: shifts, scales, gates.
pub(super) struct Modulation<const PARTS: usize> {
    linear: Projection,
    width: usize,
}

impl<const PARTS: usize> Modulation<PARTS> {
    pub(super) fn load(at: &Loader<'_>, width: usize) -> Result<Self> {
        Ok(Self {
            linear: Projection::load(at, "linear", width, PARTS * width)?,
            width,
        })
    }

    /// The parts of what a pass is conditioned on, each [batch, 1, width].
    pub(super) fn forward(&self, told: &Told<'_>) -> Result<[Tensor; PARTS]> {
        let all = self.linear.forward(&told.condition, told.adapters)?;
        let all = all.unsqueeze(1)?;
        let parts = (0..PARTS)
            .map(|part| Ok(all.narrow(2, part * self.width, self.width)?))
            .collect::<Result<Vec<Tensor>>>()?;
        crate::sequences::exactly(parts)
    }

    pub(super) fn layer(&mut self) -> Layer<'_> {
        Layer::Linear(&mut self.linear)
    }

    pub(super) fn bytes(&self) -> usize {
        self.linear.bytes()
    }
}

/// The norm that is modulated: a LayerNorm without weights.
pub(super) fn plain_norm(at: &Loader<'_>, width: usize) -> Result<Norm> {
    let config = NormConfig {
        kind: NormKind::Layer,
        eps: NORM_EPS,
    };
    let placement = at.placement();
    let dtype = placement.activations();
    Ok(Norm::unweighted(config, width, &placement.device, dtype)?)
}

/// `x` [batch, tokens, width] times 1 + scale, plus shift, both [batch, 1, width].
pub(super) fn modulate(x: &Tensor, shift: &Tensor, scale: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(shift)?)
}

/// `x` plus `change` times its gate [batch, 1, width].
pub(super) fn add_gated(x: &Tensor, change: &Tensor, gate: &Tensor) -> Result<Tensor> {
    Ok((x + change.broadcast_mul(gate)?)?)
}

/// In f16, what went past its range brought back to the end of it, as the reference does after a block.
pub(super) fn clip(x: Tensor) -> Result<Tensor> {
    const MOST: f64 = 65504.0;
    match x.dtype() {
        DType::F16 => Ok(x.clamp(-MOST, MOST)?),
        _ => Ok(x),
    }
}
