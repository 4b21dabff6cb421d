//! Latents as the denoiser has them and as the autoencoder has them. Mirrors what `diffusers` pipelines do before `vae.decode` and
//! after `vae.encode` (StableDiffusionXLPipeline, StableDiffusion3Pipeline, FluxPipeline).

use candle_core::Tensor;
use chandler_nn::fields::Fields;

use crate::error::Result;

/// How latents are made of unit variance for the denoiser.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// What the denoiser's latents are multiplied by.
    pub factor: f64,
    /// What is taken away first.
    pub shift: f64,
    /// Mean and deviation of each channel, of models that have them instead of a shift.
    pub channels: Option<Vec<(f64, f64)>>,
}

impl Scaling {
    /// Reads `scaling_factor`, `shift_factor`, `latents_mean` and `latents_std`.
    pub(super) fn of(fields: &Fields, default: f64, channels: usize) -> Result<Self> {
        let factor = fields.number("scaling_factor")?.unwrap_or(default);
        if !factor.is_finite() || factor == 0.0 {
            let message = format!("{factor} is not a number to divide by");
            return Err(fields.fault("scaling_factor", message).into());
        }
        let means = numbers(fields, "latents_mean", channels)?;
        let deviations = numbers(fields, "latents_std", channels)?;
        let by_channel = match (means, deviations) {
            (Some(means), Some(deviations)) => Some(means.into_iter().zip(deviations).collect()),
            // diffusers looks at them only when both are there.
            _ => None,
        };
        let shift = fields.number("shift_factor")?.unwrap_or(0.0);
        if by_channel.is_some() && shift != 0.0 {
            let message = format!("{shift} beside latents_mean and latents_std; one of them");
            return Err(fields.fault("shift_factor", message).into());
        }
        Ok(Self {
            factor,
            shift,
            channels: by_channel,
        })
    }

    /// The autoencoder's latents [batch, channels, ..] as the denoiser has them.
    ///
    /// # Errors
    /// When there are other channels.
    pub fn to_model(&self, latents: &Tensor) -> Result<Tensor> {
        let Some((means, deviations)) = self.by_channel(latents)? else {
            return Ok(((latents - self.shift)? * self.factor)?);
        };
        let centred = latents.broadcast_sub(&means)?;
        Ok((centred * self.factor)?.broadcast_div(&deviations)?)
    }

    /// The denoiser's latents [batch, channels, ..] as the autoencoder has them.
    ///
    /// # Errors
    /// When there are other channels.
    pub fn from_model(&self, latents: &Tensor) -> Result<Tensor> {
        let Some((means, deviations)) = self.by_channel(latents)? else {
            return Ok(((latents / self.factor)? + self.shift)?);
        };
        let spread = (latents.broadcast_mul(&deviations)? / self.factor)?;
        Ok(spread.broadcast_add(&means)?)
    }

    /// Means and deviations, [1, channels, 1, 1].
    fn by_channel(&self, latents: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        let Some(channels) = &self.channels else {
            return Ok(None);
        };
        let row = |of: fn(&(f64, f64)) -> f64| -> Result<Tensor> {
            let numbers: Vec<f32> = channels.iter().map(|c| of(c) as f32).collect();
            let row = Tensor::from_vec(numbers, (1, channels.len(), 1, 1), latents.device())?;
            Ok(row.to_dtype(latents.dtype())?)
        };
        Ok(Some((row(|c| c.0)?, row(|c| c.1)?)))
    }
}

fn numbers(fields: &Fields, name: &str, channels: usize) -> Result<Option<Vec<f64>>> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    let list = value.as_array().filter(|list| list.len() == channels);
    let numbers: Option<Vec<f64>> =
        list.and_then(|list| list.iter().map(|value| value.as_f64()).collect());
    match numbers {
        Some(numbers) => Ok(Some(numbers)),
        None => {
            let message = format!("{value} is not a list of {channels} numbers");
            Err(fields.fault(name, message).into())
        }
    }
}
