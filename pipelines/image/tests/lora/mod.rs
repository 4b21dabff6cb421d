//! Adapters beside tiny models, against diffusers and peft (tests/fixtures/make_lora.py).

mod files;
mod parity;
mod together;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use chandler_image::AdapterFile;
use chandler_image::layers::Loader;
use chandler_image::lora::{Part, attach};
use chandler_image::text_encoder::clip::ClipTextModel;
use chandler_image::text_encoder::clip_config::{ClipClass, ClipConfig};
use chandler_image::unet::{TextTime, UNet, UNetConfig, UNetInput};
use chandler_nn::lora::AdapterRows;
use chandler_nn::weights::{HostTensor, Snapshot};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkpoint::{Checkpoint, given, placement, save};
use crate::on_device;
use crate::serving::suite;

pub fn fixture(name: &str) -> PathBuf {
    on_device::fixtures().join("lora").join(name)
}

fn about(name: &str) -> Value {
    suite("lora")[name].clone()
}

fn expected(name: &str) -> Tensor {
    let all = candle_core::safetensors::load(fixture("lora.safetensors"), &Device::Cpu).unwrap();
    all[name].clone()
}

/// The tensors of an adapter as make_lora.py made them, and the texts about them.
fn tensors(name: &str) -> (BTreeMap<String, HostTensor>, Value) {
    let about = about(name);
    let mut tensors = Checkpoint::part(about.clone()).tensors();
    if about["alphas"].as_bool().unwrap() {
        let alpha = |(name, tensor): (&String, &HostTensor)| {
            let name = format!("{}.alpha", name.strip_suffix(".lora_down.weight")?);
            let window: usize = tensor.shape()[2..].iter().product();
            let alpha: f32 = if window > 1 { 1.0 } else { 3.0 };
            let bytes = alpha.to_le_bytes().to_vec();
            let tensor = HostTensor::from_bytes(name.clone(), DType::F32, Vec::new(), bytes);
            Some((name, tensor.unwrap()))
        };
        let alphas: Vec<_> = tensors.iter().filter_map(alpha).collect();
        tensors.extend(alphas);
    }
    let texts = match about["metadata"].as_str() {
        Some(text) => json!({"lora_adapter_metadata": text}),
        None => json!({}),
    };
    (tensors, texts)
}

/// A directory with an adapter's file in it, which lives as long as it.
pub struct Written {
    _dir: TempDir,
    pub file: AdapterFile,
}

pub fn written(name: &str, tensors: &BTreeMap<String, HostTensor>, texts: Value) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("{name}.safetensors");
    save(&dir.path().join(&file), tensors, texts);
    Written {
        file: AdapterFile {
            name: name.to_owned(),
            snapshot: Snapshot::dir(dir.path()).unwrap(),
            file,
        },
        _dir: dir,
    }
}

pub fn adapter(name: &str) -> Written {
    let (tensors, texts) = tensors(name);
    written(name, &tensors, texts)
}

/// A pipeline's parts that adapters may be for.
struct Parts {
    unet: UNet,
    texts: Vec<(&'static str, ClipTextModel)>,
}

impl Parts {
    fn of(folder: &str) -> Self {
        let parts = &suite("served")[folder]["parts"];
        let part = |name: &str| Checkpoint::part(parts[name].clone());
        let placement = placement();
        let classes = [
            ("text_encoder", ClipClass::Plain),
            ("text_encoder_2", ClipClass::Projected),
        ];
        let texts = classes
            .into_iter()
            .filter(|(name, _)| parts.get(*name).is_some());
        let texts = texts.map(|(name, class)| {
            let part = part(name);
            let config = ClipConfig::read(&part.fields(json!({})), class).unwrap();
            let weights = part.weights();
            let loader = Loader::new(weights.as_ref(), &placement);
            (name, ClipTextModel::load(config, &loader).unwrap())
        });
        let (texts, unet) = (texts.collect(), part("unet"));
        let config = UNetConfig::of(&unet.fields(json!({}))).unwrap();
        let weights = unet.weights();
        Self {
            texts,
            unet: UNet::load(&Loader::new(weights.as_ref(), &placement), &config).unwrap(),
        }
    }

    fn attach(&mut self, adapters: &[AdapterFile]) -> Result<u64, String> {
        let texts = self.texts.iter_mut().map(|(folder, text)| Part {
            folder,
            layers: text.layers(),
        });
        let mut parts: Vec<Part<'_>> = texts.collect();
        parts.push(Part {
            folder: "unet",
            layers: self.unet.layers(),
        });
        attach(&mut parts, adapters, &placement()).map_err(|error| error.to_string())
    }

    /// What the UNet makes of some of the two samples of a seed, each with its adapters.
    fn unet(&self, seed: u64, samples: &[usize], adapters: Vec<Vec<(u32, f32)>>) -> Tensor {
        let context_width = if seed == 60 { 16 } else { 32 };
        let amplitude = (3f64.sqrt() * 65536.0 + 0.5).floor() / 65536.0;
        let input = |name: &str, shape: Vec<usize>| {
            let both = given(seed, name, (shape, amplitude));
            let rows = samples.iter().map(|n| both.narrow(0, *n, 1).unwrap());
            Tensor::cat(&rows.collect::<Vec<_>>(), 0).unwrap()
        };
        let timesteps: Vec<f64> = samples.iter().map(|n| [421.5, 16.0][*n]).collect();
        let text_embeds = input("text_embeds", vec![2, 10]);
        let ids = vec![vec![22.0, 18.0, 0.0, 0.0, 22.0, 18.0]; samples.len()];
        let text_time = (seed != 60).then_some(TextTime {
            text_embeds: &text_embeds,
            time_ids: &ids,
        });
        let rows = AdapterRows::weighted(adapters, &on_device::device()).unwrap();
        let input = UNetInput {
            latents: &input("latents", vec![2, 4, 9, 7]),
            timesteps: &timesteps,
            context: &input("context", vec![2, 11, context_width]),
            text_time,
            guidance_embed: None,
            residuals: None,
            adapters: Some(&rows),
        };
        self.unet.forward(&input).unwrap()
    }
}

/// Files by name, in this order, and the numbers that a pass calls them by.
fn adapters(names: &[&str]) -> (Vec<Written>, Vec<AdapterFile>) {
    let written: Vec<Written> = names.iter().map(|name| adapter(name)).collect();
    let files = written.iter().map(|written| written.file.clone());
    let files = files.collect();
    (written, files)
}

/// A part's weights as its file has them.
fn stored(file: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(file, &Device::Cpu).unwrap()
}
