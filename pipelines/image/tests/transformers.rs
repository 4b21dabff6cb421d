//! FLUX's and Stable Diffusion 3's transformers against diffusers, on the checkpoints that `fixtures/make_transformers.py` made.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use chandler_image::layers::Loader;
use chandler_image::transformer::flux::{FluxInput, FluxTransformer};
use chandler_image::transformer::flux_config::FluxConfig;
use chandler_image::transformer::packing;
use chandler_image::transformer::sd3::{Sd3Input, Sd3Transformer};
use chandler_image::transformer::sd3_config::Sd3Config;
use chandler_nn::error::NnError;
use chandler_nn::fields::Fields;
use chandler_nn::weights::{HostTensor, Snapshot, TensorSource};
use serde_json::{Value, json as object};

use crate::checkpoint::placement;
use crate::on_device;
use crate::text::{close, error, fixture, json, numbers, same, tensors};

const TOLERANCE: f32 = 5e-5;
const TIMESTEPS: [f32; 2] = [937.5, 61.25];
const GUIDANCE: [f32; 2] = [3.5, 1.25];
/// Of the packed latents.
const GRID: (usize, usize) = (3, 5);

/// A component's weights under a name of their own, without the tensors that `hidden` names.
struct Weights {
    tensors: HashMap<String, Tensor>,
    hidden: &'static str,
}

impl Weights {
    fn of(name: &str) -> Self {
        Self {
            tensors: tensors(&format!(
                "transformers/{name}/diffusion_pytorch_model.safetensors"
            )),
            hidden: "nothing",
        }
    }
}

impl TensorSource for Weights {
    fn tensor(&self, name: &str) -> Result<HostTensor, NnError> {
        let Some(tensor) = self.tensors.get(name).filter(|_| self.contains(name)) else {
            return Err(NnError::MissingTensor {
                name: name.to_owned(),
                hint: String::new(),
            });
        };
        let numbers = numbers(tensor);
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        HostTensor::from_bytes(name, DType::F32, tensor.dims().to_vec(), bytes)
    }

    fn contains(&self, name: &str) -> bool {
        name != self.hidden && self.tensors.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn total_bytes(&self) -> u64 {
        0
    }

    fn prefetch(&self, _: &(dyn Fn(u64, u64) + Sync)) -> Result<(), NnError> {
        Ok(())
    }
}

fn fields(name: &str) -> Fields {
    let snapshot = Snapshot::dir(fixture("transformers")).unwrap();
    let file = format!("{name}/config.json");
    Fields::read(&snapshot, &file).unwrap().unwrap()
}

fn expected(name: &str) -> HashMap<String, Tensor> {
    let expected = tensors(&format!("transformers/{name}/expected.safetensors")).into_iter();
    expected
        .map(|(name, tensor)| (name, on_device::there(&tensor)))
        .collect()
}

fn flux(name: &str) -> FluxTransformer {
    let placement = placement();
    let weights = Weights::of(name);
    let config = FluxConfig::read(&fields(name)).unwrap();
    FluxTransformer::load(config, &Loader::new(&weights, &placement)).unwrap()
}

fn sd3(name: &str, weights: &Weights) -> Result<Sd3Transformer, String> {
    let placement = placement();
    let config = Sd3Config::read(&fields(name)).unwrap();
    Sd3Transformer::load(config, &Loader::new(weights, &placement)).map_err(|e| e.to_string())
}

fn one(tensor: &Tensor, number: usize) -> Tensor {
    tensor.narrow(0, number, 1).unwrap()
}

#[test]
fn flux_gives_what_diffusers_gives_alone_and_together() {
    for name in ["schnell", "dev"] {
        let (model, expected) = (flux(name), expected(name));
        let positions = packing::positions(GRID.0, GRID.1);
        let input = FluxInput {
            latents: &packing::pack(&expected["latents"]).unwrap(),
            text: &expected["text"],
            pooled: &expected["pooled"],
            timesteps: &TIMESTEPS,
            guidance: model.config().guided.then_some(&GUIDANCE),
            positions: &positions,
            adapters: None,
        };
        let found = model.forward(&input).unwrap();
        close(&found, &expected["output"], TOLERANCE);
        for number in 0..2 {
            let alone = FluxInput {
                latents: &one(input.latents, number),
                text: &one(input.text, number),
                pooled: &one(input.pooled, number),
                timesteps: &TIMESTEPS[number..=number],
                guidance: input.guidance.map(|scales| &scales[number..=number]),
                positions: &positions,
                adapters: None,
            };
            let alone = model.forward(&alone).unwrap();
            same(&alone, &one(&found, number));
        }
        // Each sample has a timestep of its own, and a place.
        let swapped = FluxInput {
            timesteps: &[TIMESTEPS[1], TIMESTEPS[0]],
            ..input
        };
        assert!(error(&model.forward(&swapped).unwrap(), &found) > 0.01);
        let moved: Vec<[f32; 3]> = positions.iter().map(|[a, b, c]| [*a, *c, *b]).collect();
        let moved = FluxInput {
            positions: &moved,
            ..input
        };
        assert!(error(&model.forward(&moved).unwrap(), &found) > 0.01);
        // Neither is guidance forgotten, nor given to a model that takes none.
        let turned = match input.guidance {
            Some(_) => None,
            None => Some(&GUIDANCE[..]),
        };
        let refused = FluxInput {
            guidance: turned,
            ..input
        };
        let error = model.forward(&refused).unwrap_err().to_string();
        assert!(error.contains("guidance embedding"), "{error}");
        let refused = FluxInput {
            timesteps: &TIMESTEPS[..1],
            ..input
        };
        assert!(model.forward(&refused).is_err());
    }
}

#[test]
fn latents_are_packed_as_the_pipeline_packs_them() {
    let expected = expected("schnell");
    let packed = packing::pack(&expected["latents"]).unwrap();
    assert_eq!(numbers(&packed), numbers(&expected["packed"]));
    let back = packing::unpack(&packed, GRID).unwrap();
    assert_eq!(numbers(&back), numbers(&expected["latents"]));
    let positions = packing::positions(GRID.0, GRID.1).concat();
    assert_eq!(positions, numbers(&expected["ids"]));
    assert!(packing::unpack(&packed, (4, 4)).is_err());
    let odd = Tensor::zeros((1, 4, 3, 4), DType::F32, &Device::Cpu).unwrap();
    assert!(packing::pack(&odd).is_err());
}

#[test]
fn stable_diffusion_3_gives_what_diffusers_gives_alone_and_together() {
    for name in ["sd3", "sd35-medium"] {
        let (model, expected) = (sd3(name, &Weights::of(name)).unwrap(), expected(name));
        let input = Sd3Input {
            latents: &expected["latents"],
            text: &expected["text"],
            pooled: &expected["pooled"],
            timesteps: &TIMESTEPS,
            adapters: None,
        };
        let found = model.forward(&input).unwrap();
        close(&found, &expected["output"], TOLERANCE);
        for number in 0..2 {
            let alone = Sd3Input {
                latents: &one(input.latents, number),
                text: &one(input.text, number),
                pooled: &one(input.pooled, number),
                timesteps: &TIMESTEPS[number..=number],
                adapters: None,
            };
            let alone = model.forward(&alone).unwrap();
            same(&alone, &one(&found, number));
        }
        let swapped = Sd3Input {
            timesteps: &[TIMESTEPS[1], TIMESTEPS[0]],
            ..input
        };
        assert!(error(&model.forward(&swapped).unwrap(), &found) > 0.01);
        let odd = input.latents.narrow(2, 0, 5).unwrap();
        let odd = Sd3Input {
            latents: &odd,
            ..input
        };
        assert!(model.forward(&odd).is_err(), "no multiple of the patch");
        let large = Tensor::zeros((2, 3, 48, 6), DType::F32, &Device::Cpu).unwrap();
        let large = Sd3Input {
            latents: &large,
            ..input
        };
        let error = model.forward(&large).unwrap_err().to_string();
        assert!(error.contains("the model has places for"), "{error}");
    }
}

#[test]
fn positions_that_a_checkpoint_lacks_are_computed() {
    for name in ["sd3", "sd35-medium"] {
        let mut weights = Weights::of(name);
        weights.hidden = "pos_embed.pos_embed";
        let (model, expected) = (sd3(name, &weights).unwrap(), expected(name));
        let input = Sd3Input {
            latents: &expected["latents"],
            text: &expected["text"],
            pooled: &expected["pooled"],
            timesteps: &TIMESTEPS,
            adapters: None,
        };
        // The checkpoint's are rounded to f16.
        close(&model.forward(&input).unwrap(), &expected["output"], 5e-3);
        weights.hidden = "pos_embed.proj.weight";
        let error = sd3(name, &weights).err().unwrap();
        assert!(error.contains("pos_embed.proj.weight"), "{error}");
    }
}

#[test]
fn configurations_that_cannot_be_name_the_field() {
    let with = |name: &str, field: &str, value: Value| {
        let mut config = json(&format!("transformers/{name}/config.json"));
        config[field] = value;
        Fields::of("config.json", config)
    };
    let flux = |field: &str, value| match FluxConfig::read(&with("dev", field, value)) {
        Ok(config) => panic!("{config:?}"),
        Err(error) => error.to_string(),
    };
    let sd3 = |field: &str, value| match Sd3Config::read(&with("sd3", field, value)) {
        Ok(config) => panic!("{config:?}"),
        Err(error) => error.to_string(),
    };
    for (field, value) in [
        ("axes_dims_rope", object!([2, 4])),
        ("axes_dims_rope", object!([2, 4, 4])),
        ("axes_dims_rope", object!([1, 3, 4])),
        ("axes_dims_rope", object!("all")),
        ("num_layers", object!(-1)),
        ("in_channels", object!(1 << 20)),
        ("attention_head_dim", object!(1 << 15)),
        ("guidance_embeds", object!("yes")),
    ] {
        let error = flux(field, value);
        assert!(
            error.starts_with(&format!("config.json: {field}: ")),
            "{error}"
        );
    }
    for (field, value) in [
        ("qk_norm", object!("layer_norm")),
        ("caption_projection_dim", object!(13)),
        ("pos_embed_max_size", object!(100_000)),
        ("dual_attention_layers", object!([0, 600])),
        ("sample_size", object!(1)),
        ("patch_size", object!(0)),
    ] {
        let error = sd3(field, value);
        assert!(
            error.starts_with(&format!("config.json: {field}: ")),
            "{error}"
        );
    }
    // Each may be as large alone.
    let mut config = json("transformers/sd3/config.json");
    config["num_attention_heads"] = object!(4096);
    config["pos_embed_max_size"] = object!(1024);
    let error = Sd3Config::read(&Fields::of("config.json", config)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("1024 × 1024 positions of 24576 numbers"),
        "{error}"
    );
}
