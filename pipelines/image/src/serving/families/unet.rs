//! Denoisers that are UNets, of the Stable Diffusion families. After `diffusers` pipeline_stable_diffusion.py and
//! pipeline_stable_diffusion_xl.py, and `get_guidance_scale_embedding` of the latter.

use candle_core::{Device, Tensor};
use chandler_nn::fields::Fields;

use super::{
    About, Batch, Context, Defaults, Denoiser, Design, Encoded, Guided, TextLengths, lacking,
};
use crate::error::Result;
use crate::layers::{Loader, Placement};
use crate::lora::Layer;
use crate::prompt::compose;
use crate::serving::reading::Told;
use crate::unet::{TextTime, UNet, UNetConfig, UNetInput};

/// Latents' side, in elements, of a model that does not say: Stable Diffusion 1.
const USUAL_SIDE: usize = 64;
/// Guidance that a latent consistency model is told, when nobody says.
const TOLD_GUIDANCE: f64 = 8.5;
/// Bytes that a row takes for each element of the latents' plane, for a first level of 320 channels: the skips of the way down (some
/// 2000 numbers) and what the widest block works on (some 4000).
const ROW_BYTES: u64 = 4 * 6000;
const ROW_CHANNELS: u64 = 320;

/// A UNet.
struct Model {
    unet: UNet,
    /// Numbers that a distilled one is told guidance by.
    guidance_width: Option<usize>,
    placement: Placement,
}

pub(super) fn design(fields: &Fields, about: &About<'_>, defaults: Defaults) -> Result<Design> {
    let config = UNetConfig::of(fields)?;
    let takes_mask = takes_mask(fields, &config, about.latents)?;
    let guidance_width = config.contracting.time.condition;
    let first = config.contracting.down.first();
    let channels = first.map_or(1, |block| block.channels) as u64;
    let told = match config.contracting.text_time {
        None => Told::Nothing,
        Some(_) if about.index.flag("requires_aesthetics_score")? => Told::SizesAndScore,
        Some(_) => Told::Sizes,
    };
    Ok(Design {
        takes_mask,
        patch: 1,
        usual: config.sample_size.unwrap_or([USUAL_SIDE; 2]),
        most: None,
        row_bytes: (ROW_BYTES * channels).div_ceil(ROW_CHANNELS),
        guided: match guidance_width {
            Some(_) => Guided::ByTelling,
            None => Guided::ByPairs,
        },
        true_guidance: false,
        told,
        text_lengths: TextLengths::Padded(&[]),
        sigmas: None,
        defaults: match guidance_width {
            Some(_) => Defaults {
                guidance: [TOLD_GUIDANCE; 2],
                ..defaults
            },
            None => defaults,
        },
        steered: Some(config.contracting.clone()),
        load: Box::new(move |weights, placement| {
            let unet = UNet::load(&Loader::new(weights, placement), &config)?;
            Ok(Box::new(Model {
                unet,
                guidance_width,
                placement: placement.clone(),
            }))
        }),
    })
}

/// Its channels decide what it can do.
fn takes_mask(fields: &Fields, config: &UNetConfig, latents: usize) -> Result<bool> {
    let takes = config.contracting.in_channels;
    let takes_mask = takes == 2 * latents + 1;
    if (takes == latents || takes_mask) && config.out_channels == latents {
        return Ok(takes_mask);
    }
    let message = format!(
        "{takes}, and out_channels: {}, with latents of {latents} channels; as many of both, or {} in (a mask and a masked picture \
         besides), are supported",
        config.out_channels,
        2 * latents + 1
    );
    Err(fields.fault("in_channels", message).into())
}

impl Denoiser for Model {
    fn context(&self, texts: &Encoded) -> Result<Context> {
        let hidden: Vec<&Tensor> = texts.clip.iter().map(|text| &text.hidden).collect();
        // The second encoder's of SDXL; none was asked for elsewhere.
        let pooled = texts.clip.last().and_then(|text| text.pooled.as_ref());
        Ok(Context {
            words: compose::beside(&hidden)?.unsqueeze(0)?,
            pooled: pooled.map(|pooled| pooled.unsqueeze(0)).transpose()?,
        })
    }

    fn predict(&self, batch: &Batch) -> Result<Tensor> {
        let text_time = match batch.ids.is_empty() {
            true => None,
            false => Some(TextTime {
                text_embeds: batch
                    .pooled
                    .as_ref()
                    .ok_or_else(|| lacking("a pooled text"))?,
                time_ids: &batch.ids,
            }),
        };
        let waves = self.waves(&batch.guidance)?;
        self.unet.forward(&UNetInput {
            latents: &batch.latents,
            timesteps: &batch.timesteps,
            context: &batch.text()?,
            text_time,
            guidance_embed: waves.as_ref(),
            residuals: batch.residuals.as_ref(),
            adapters: Some(&batch.adapters),
        })
    }

    fn layers(&mut self) -> Vec<Layer<'_>> {
        self.unet.layers()
    }

    fn bytes(&self) -> u64 {
        self.unet.bytes()
    }
}

impl Model {
    /// Each row's guidance as waves, [rows, width].
    fn waves(&self, guidance: &[f64]) -> Result<Option<Tensor>> {
        let Some(width) = self.guidance_width.filter(|_| !guidance.is_empty()) else {
            return Ok(None);
        };
        let half = width / 2;
        let steps = half.saturating_sub(1).max(1) as f64;
        let frequency = |n: usize| 1000.0 * (-(10_000f64.ln()) * n as f64 / steps).exp();
        let mut waves = Vec::with_capacity(guidance.len() * width);
        for (row, scale) in guidance.iter().enumerate() {
            let angle = |n: usize| (scale - 1.0) * frequency(n);
            waves.extend((0..half).map(|n| angle(n).sin() as f32));
            waves.extend((0..half).map(|n| angle(n).cos() as f32));
            waves.resize((row + 1) * width, 0.0);
        }
        let waves = Tensor::from_vec(waves, (guidance.len(), width), &Device::Cpu)?;
        Ok(Some(self.placement.move_in(&waves)?))
    }
}
