//! What every block is conditioned on: the timestep, guidance where a model has it, and the pooled text; and how a block's norms are
//! shifted and scaled by it. Mirrors `diffusers` models/embeddings.py, `CombinedTimestep(Guidance)TextProjEmbeddings`, and
//! models/normalization.py, `AdaLayerNormZero`, `AdaLayerNormZeroSingle`, `SD35AdaLayerNormZeroX`, `AdaLayerNormContinuous`.

use candle_core::{DType, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::lora::AdapterRows;
use chandler_nn::norm::{Norm, NormConfig, NormKind};

use crate::embeddings::{Embedding, Waves};
use crate::error::{ImageError, Result};
use crate::layers::{Loader, Placement};
use crate::lora::{Layer, Projection};

/// What a timestep, a guidance scale or a size becomes: `Timesteps(num_channels=256, flip_sin_to_cos=True, downscale_freq_shift=0)`.
pub(super) const WAVES: Waves = Waves {
    width: 256,
    flip_sin_to_cos: true,
    freq_shift: 0.0,
};
/// `eps` of all norms that are modulated.
const NORM_EPS: f64 = 1e-6;

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
    time: Embedding,
    guidance: Option<Embedding>,
    text: Embedding,
    pooled: usize,
    placement: Placement,
}

impl TimeText {
    pub(super) fn load(
        at: &Loader<'_>,
        (pooled, width): (usize, usize),
        guided: bool,
    ) -> Result<Self> {
        let embedding = |name: &str, inputs: usize| {
            Embedding::load(&at.at(name), (inputs, width), None, Activation::Silu)
        };
        Ok(Self {
            time: embedding("timestep_embedder", WAVES.width)?,
            guidance: match guided {
                true => Some(embedding("guidance_embedder", WAVES.width)?),
                false => None,
            },
            text: embedding("text_embedder", pooled)?,
            pooled,
            placement: at.placement().clone(),
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
        let timesteps = spread(conditions.timesteps, &self.placement)?;
        let mut sum = self.time.forward(&timesteps, None, adapters)?;
        match (&self.guidance, conditions.guidance) {
            (Some(embedder), Some(scales)) if scales.len() == batch => {
                // The reference multiplies it by 1000, as the timestep.
                let scales: Vec<f32> = scales.iter().map(|scale| scale * 1000.0).collect();
                let scales = spread(&scales, &self.placement)?;
                sum = (sum + embedder.forward(&scales, None, adapters)?)?;
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
        let pooled = conditions.pooled.to_dtype(self.placement.activations())?;
        let text = self.text.forward(&pooled, None, adapters)?;
        Ok(Told {
            condition: Activation::Silu.forward(&(sum + text)?)?,
            adapters,
        })
    }

    pub(super) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        let embedders = [&mut self.time, &mut self.text].into_iter();
        for embedder in embedders.chain(&mut self.guidance) {
            embedder.layers(found);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let guidance = self.guidance.as_ref().map_or(0, Embedding::bytes);
        self.time.bytes() + guidance + self.text.bytes()
    }
}

/// Each number's cosines and sines, [numbers, 256].
pub(super) fn spread(numbers: &[f32], placement: &Placement) -> Result<Tensor> {
    let numbers: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
    WAVES.tensor(numbers.iter().map(std::slice::from_ref), placement)
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
