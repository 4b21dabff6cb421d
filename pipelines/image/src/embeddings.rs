//! Numbers as waves, and what a model makes of them: timesteps, guidance, sizes. Mirrors `diffusers` models/embeddings.py
//! (get_timestep_embedding, TimestepEmbedding, PixArtAlphaTextProjection). Apart from UNets and transformers, which both begin so.

use candle_core::Tensor;
use chandler_nn::activation::Activation;
use chandler_nn::lora::AdapterRows;

use crate::error::Result;
use crate::layers::{Loader, Placement};
use crate::lora::{Layer, Projection};

/// The longest wave, in timesteps.
const MAX_PERIOD: f64 = 10_000.0;

/// How a number becomes a row of sines and cosines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waves {
    /// Numbers in the row.
    pub width: usize,
    /// Cosines before sines.
    pub flip_sin_to_cos: bool,
    /// Taken from the count of waves before frequencies are spread over it.
    pub freq_shift: f64,
}

impl Waves {
    /// The row of each value, one after another, in f32 as torch computes it.
    fn rows(&self, values: impl Iterator<Item = f64>) -> Vec<f32> {
        let half = self.width / 2;
        let span = (half as f64 - self.freq_shift) as f32;
        let step = -MAX_PERIOD.ln() as f32;
        let frequencies: Vec<f32> = (0..half).map(|n| (step * n as f32 / span).exp()).collect();
        let mut rows = Vec::new();
        for value in values {
            let angles = frequencies.iter().map(|f| value as f32 * f);
            let (sines, cosines) = (angles.clone().map(f32::sin), angles.map(f32::cos));
            match self.flip_sin_to_cos {
                true => rows.extend(cosines.chain(sines)),
                false => rows.extend(sines.chain(cosines)),
            }
            // Of an odd width the last number is 0.
            rows.extend((2 * half..self.width).map(|_| 0.0));
        }
        rows
    }

    /// [rows, values in a row · width], each row that of one sample.
    pub(crate) fn tensor<'v>(
        &self,
        samples: impl ExactSizeIterator<Item = &'v [f64]>,
        placement: &Placement,
    ) -> Result<Tensor> {
        let batch = samples.len();
        let numbers = self.rows(samples.flatten().copied());
        let width = numbers.len() / batch.max(1);
        let rows = Tensor::from_vec(numbers, (batch, width), &placement.device)?;
        Ok(rows.to_dtype(placement.activations())?)
    }
}

/// Two linear layers with an activation between.
#[derive(Debug, Clone)]
pub(crate) struct Embedding {
    first: Projection,
    second: Projection,
    condition: Option<Projection>,
    activation: Activation,
}

impl Embedding {
    /// From rows of `inputs` to rows of `outputs`; `condition`, where there is one, is the width of rows that are added to those
    /// that come in.
    pub(crate) fn load(
        loader: &Loader<'_>,
        (inputs, outputs): (usize, usize),
        condition: Option<usize>,
        activation: Activation,
    ) -> Result<Self> {
        let condition = condition.map(|width| Projection::load(loader, "cond_proj", width, inputs));
        Ok(Self {
            first: Projection::load(loader, "linear_1", inputs, outputs)?,
            second: Projection::load(loader, "linear_2", outputs, outputs)?,
            condition: condition.transpose()?,
            activation,
        })
    }

    /// `x` [batch, inputs] to [batch, outputs].
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        condition: Option<&Tensor>,
        adapters: &AdapterRows,
    ) -> Result<Tensor> {
        let x = match (&self.condition, condition) {
            (Some(layer), Some(condition)) => (x + layer.forward(condition, adapters)?)?,
            _ => x.clone(),
        };
        let x = self
            .activation
            .forward(&self.first.forward(&x, adapters)?)?;
        self.second.forward(&x, adapters)
    }

    /// Whether it takes a condition.
    pub(crate) fn is_conditioned(&self) -> bool {
        self.condition.is_some()
    }

    /// Bytes of its weights, mapped ones included.
    pub(crate) fn bytes(&self) -> usize {
        let condition = self.condition.as_ref().map_or(0, Projection::bytes);
        self.first.bytes() + self.second.bytes() + condition
    }

    pub(crate) fn layers<'s>(&'s mut self, found: &mut Vec<Layer<'s>>) {
        found.extend([&mut self.first, &mut self.second].map(Layer::Linear));
        found.extend(self.condition.as_mut().map(Layer::Linear));
    }
}
