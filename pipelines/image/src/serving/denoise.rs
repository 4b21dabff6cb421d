//! One denoising step of several pictures, each with its own timestep, in one call of the model; then each with its own scheduler.
//! Guidance after Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022); its rescaling after Lin et al., "Common Diffusion Noise
//! Schedules and Sample Steps are Flawed" (2023), section 3.4.

use candle_core::{DType, Device, Tensor};
use chandler_nn::lora::AdapterRows;

use super::controls::{self, Steering};
use super::drawing::{Drawing, Expert, ImagePrepared, Stage};
use super::encoders::Conditions;
use super::families::Batch;
use super::pipeline::Model;
use crate::error::{ImageError, Result};
use crate::noise::Draw;
use crate::unet::Residuals;

/// A picture that takes part, with its request.
pub(super) struct Member<'a> {
    pub(super) request: &'a ImagePrepared,
    pub(super) index: usize,
}

impl Member<'_> {
    fn drawing(&self) -> Result<&Drawing> {
        self.request.drawings.get(self.index).ok_or_else(lost)
    }

    fn conditions(&self) -> Result<&Conditions> {
        let expert = self.drawing()?.expert();
        let conditions = self.request.conditions.get(expert as usize);
        conditions.ok_or_else(lost)
    }
}

/// What a model is given for all members: a row for each, and another, before it, for what it is guided away from.
#[derive(Default)]
struct Rows<'a> {
    latents: Vec<f32>,
    /// The same without a mask and what it leaves, where somebody steers.
    plain: Vec<f32>,
    timesteps: Vec<f64>,
    words: Vec<Tensor>,
    pooled: Vec<Tensor>,
    ids: Vec<Vec<f64>>,
    guidance: Vec<f64>,
    adapters: Vec<Vec<(u32, f32)>>,
    /// What steers each row.
    steering: Vec<Vec<(&'a Steering, f64)>>,
}

/// Gives pictures that are new the latents that they begin with.
pub(super) fn begin(model: &Model, request: &mut ImagePrepared, index: usize) -> Result<()> {
    let len = request.asked.latent.iter().product();
    let Some(drawing) = request.drawings.get_mut(index) else {
        return Ok(());
    };
    if !matches!(drawing.stage, Stage::New) {
        return Ok(());
    }
    drawing.latents = match &request.start {
        Some(start) => start.begin(drawing, &model.coder)?,
        None => {
            let sigma = drawing.sampler.init_noise_sigma();
            let noise = drawing.noise(Draw::Initial, len).into_iter();
            noise.map(|x| (f64::from(x) * sigma) as f32).collect()
        }
    };
    drawing.stage = match drawing.sampler.call() {
        Some(_) => Stage::Denoising,
        None => Stage::Decoding(None),
    };
    Ok(())
}

/// What the model says of all members' noise, guided; in their order.
pub(super) fn predict(model: &Model, members: &[Member<'_>]) -> Result<Vec<Vec<f32>>> {
    let Some(first) = members.first() else {
        return Ok(Vec::new());
    };
    let [_, height, width] = first.request.asked.latent;
    let mut rows = Rows::default();
    for member in members {
        rows.add(model, member)?;
    }
    let count = rows.timesteps.len();
    let residuals = rows.residuals(model, [count, height, width])?;
    let channels = rows.latents.len() / (count * height * width).max(1);
    let latents = Tensor::from_vec(rows.latents, (count, channels, height, width), &Device::Cpu)?;
    let expert = model.expert(first.drawing()?.expert())?;
    let out = expert.denoiser.predict(&Batch {
        latents: model.placement.move_in(&latents)?,
        timesteps: rows.timesteps,
        words: rows.words,
        pooled: match rows.pooled.as_slice() {
            [] => None,
            pooled => Some(Tensor::cat(pooled, 0)?),
        },
        ids: rows.ids,
        guidance: rows.guidance,
        residuals,
        adapters: AdapterRows::weighted(rows.adapters, &model.placement.device)?,
    })?;
    let out = out.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let out: Vec<f32> = out.flatten_all()?.to_vec1()?;
    let mut each = out.chunks_exact(out.len() / count.max(1));
    members
        .iter()
        .map(|member| {
            let asked = &member.request.asked;
            let mut next = || each.next().ok_or_else(lost);
            match asked.guidance {
                None => Ok(next()?.to_vec()),
                Some(scale) => {
                    let (away, towards) = (next()?, next()?);
                    Ok(guided(away, towards, scale, asked.rescale))
                }
            }
        })
        .collect()
}

impl<'a> Rows<'a> {
    fn add(&mut self, model: &Model, member: &Member<'a>) -> Result<()> {
        let (drawing, conditions) = (member.drawing()?, member.conditions()?);
        let call = drawing.sampler.call().ok_or_else(lost)?;
        let told = match &member.request.start {
            Some(start) => start.told(drawing, &model.coder)?,
            None => None,
        };
        // ControlNets and adapters are the base model's.
        let is_base = drawing.expert() == Expert::Base;
        let controls = member.request.controls.iter().filter(|_| is_base);
        let loras = match is_base {
            true => member.request.asked.loras.as_slice(),
            false => &[],
        };
        let steering = controls.filter_map(|one| Some((one, one.now(drawing.sampler.calls())?)));
        let steering: Vec<_> = steering.collect();
        for side in conditions.sides() {
            let scale = |x: &f32| (f64::from(*x) * call.input_scale) as f32;
            self.latents.extend(drawing.latents.iter().map(scale));
            if !model.controls.is_empty() {
                self.plain.extend(drawing.latents.iter().map(scale));
            }
            self.steering.push(steering.clone());
            self.latents.extend(told.iter().flatten());
            self.timesteps.push(call.timestep);
            self.words.push(side.context.words.clone());
            self.pooled.extend(side.context.pooled.clone());
            self.ids.extend(side.ids.clone());
            self.guidance.extend(member.request.asked.told_guidance);
            self.adapters.push(loras.to_vec());
        }
        Ok(())
    }
}

impl Rows<'_> {
    /// What ControlNets say of all rows.
    fn residuals(
        &self,
        model: &Model,
        [count, height, width]: [usize; 3],
    ) -> Result<Option<Residuals>> {
        if self.steering.iter().all(Vec::is_empty) {
            return Ok(None);
        }
        let channels = self.plain.len() / (count * height * width).max(1);
        let shape = (count, channels, height, width);
        let latents = Tensor::from_slice(&self.plain, shape, &Device::Cpu)?;
        model.controls.residuals(&controls::Rows {
            latents: &model.placement.move_in(&latents)?,
            timesteps: &self.timesteps,
            words: &self.words,
            pooled: &self.pooled,
            ids: &self.ids,
            steering: &self.steering,
        })
    }
}

/// `away` + `scale` · (`towards` − `away`), and a part of `towards`' spread brought back.
fn guided(away: &[f32], towards: &[f32], scale: f64, rescale: f64) -> Vec<f32> {
    let scale = scale as f32;
    let pairs = away.iter().zip(towards);
    let mut out: Vec<f32> = pairs.map(|(a, t)| a + scale * (t - a)).collect();
    if rescale > 0.0 {
        let factor = deviation(towards) / deviation(&out);
        let factor = (rescale * factor + 1.0 - rescale) as f32;
        for x in &mut out {
            *x *= factor;
        }
    }
    out
}

/// The standard deviation with Bessel's correction, as torch's `std` has it.
fn deviation(x: &[f32]) -> f64 {
    let count = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2));
    (squares.sum::<f64>() / (count - 1.0)).sqrt()
}

/// A member's picture a step further. Nothing of the member itself has changed: when a step fails, all are where they were.
pub(super) fn advanced(model: &Model, member: &Member<'_>, predicted: &[f32]) -> Result<Drawing> {
    let mut drawing = member.drawing()?.copy();
    let [before, _] = drawing.steps();
    drawing.advance(predicted)?;
    if let Some(start) = &member.request.start
        && let Some(kept) = start.keep(&drawing, &model.coder)?
    {
        drawing.latents = kept;
    }
    let [step, _] = drawing.steps();
    if step > before && member.request.asked.previews.contains(&step) {
        drawing.preview = Some((step as u32, drawing.sampler.predicted_original().to_vec()));
    }
    if !drawing.hand_on()? {
        drawing.preview = None;
        drawing.stage = Stage::Decoding(None);
    }
    Ok(drawing)
}

fn lost() -> ImageError {
    ImageError::Input("a picture is not where it was put".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guidance_goes_past_the_prompt_and_rescaling_brings_its_spread_back() {
        let (away, towards) = ([0.0, 1.0, -2.0, 4.0], [1.0, 1.0, -4.0, 3.0]);
        assert_eq!(guided(&away, &towards, 1.0, 0.0), towards);
        assert_eq!(guided(&away, &towards, 3.0, 0.0), [3.0, 1.0, -8.0, 1.0]);
        let spread = deviation(&guided(&away, &towards, 3.0, 1.0));
        assert!((spread - deviation(&towards)).abs() < 1e-5);
        assert!((deviation(&[1.0, 2.0, 3.0, 4.0]) - 1.290_994).abs() < 1e-6);
    }
}
