//! UNets against diffusers' UNet2DConditionModel (tests/fixtures/make_unet.py).

mod config;
mod control;
mod parity;

use candle_core::Tensor;
use chandler_image::layers::Loader;
use chandler_image::unet::{TextTime, UNet, UNetConfig, UNetInput};
use serde_json::json;

use crate::checkpoint::{Checkpoint, placement};

const ALL: [&str; 7] = [
    "sd1",
    "sd2",
    "sdxl",
    "refiner",
    "lcm",
    "inpainting",
    "distilled",
];

fn load(checkpoint: &Checkpoint) -> UNet {
    let config = UNetConfig::of(&checkpoint.fields(json!({}))).unwrap();
    let (weights, placement) = (checkpoint.weights(), placement());
    UNet::load(&Loader::new(weights.as_ref(), &placement), &config).unwrap()
}

/// What goes in beside latents and residuals.
struct Conditions {
    timesteps: Vec<f64>,
    context: Tensor,
    text_embeds: Option<Tensor>,
    time_ids: Vec<Vec<f64>>,
    guidance_embed: Option<Tensor>,
}

impl Conditions {
    fn of(checkpoint: &Checkpoint) -> Self {
        let has = |name: &str| checkpoint.about["inputs"].get(name).is_some();
        let maybe = |name: &str| has(name).then(|| checkpoint.input(name));
        let ids = checkpoint.about.get("time_ids").cloned();
        Self {
            timesteps: serde_json::from_value(checkpoint.about["timesteps"].clone()).unwrap(),
            context: checkpoint.input("context"),
            text_embeds: maybe("text_embeds"),
            time_ids: serde_json::from_value(ids.unwrap_or(json!([]))).unwrap(),
            guidance_embed: maybe("guidance_embed"),
        }
    }

    /// Those of some samples, in another order.
    fn only(&self, samples: &[usize]) -> Self {
        Self {
            timesteps: samples.iter().map(|n| self.timesteps[*n]).collect(),
            context: rows(&self.context, samples),
            text_embeds: self.text_embeds.as_ref().map(|x| rows(x, samples)),
            time_ids: match self.time_ids.is_empty() {
                true => Vec::new(),
                false => samples.iter().map(|n| self.time_ids[*n].clone()).collect(),
            },
            guidance_embed: self.guidance_embed.as_ref().map(|x| rows(x, samples)),
        }
    }

    fn input<'a>(&'a self, latents: &'a Tensor) -> UNetInput<'a> {
        UNetInput {
            latents,
            timesteps: &self.timesteps,
            context: &self.context,
            text_time: self.text_embeds.as_ref().map(|text_embeds| TextTime {
                text_embeds,
                time_ids: &self.time_ids,
            }),
            guidance_embed: self.guidance_embed.as_ref(),
            residuals: None,
            adapters: None,
        }
    }
}

/// Some rows of a batch, in another order.
fn rows(x: &Tensor, samples: &[usize]) -> Tensor {
    let rows: Vec<Tensor> = samples
        .iter()
        .map(|n| x.narrow(0, *n, 1).unwrap())
        .collect();
    Tensor::cat(&rows, 0).unwrap()
}
