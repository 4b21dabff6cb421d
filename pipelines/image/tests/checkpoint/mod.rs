//! Checkpoints of random weights that Python and Rust make alike (`random-checkpoints`), so that fixtures hold names, shapes and what
//! the reference computed. Apart from that crate's own fixtures, because here a rule gives a tensor's spread
//! (tests/fixtures/random_weights.py). The file that is written is read by the crate's own reader.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use chandler_image::layers::Placement;
use chandler_nn::fields::Fields;
use chandler_nn::weights::{HostTensor, Snapshot, TensorSource};
use flate2::read::GzDecoder;
use random_checkpoints::{Stored, names, safetensors};
use serde_json::{Value, json};

use crate::on_device;

const FILE: &str = "diffusion_pytorch_model.safetensors";

/// What a packed description says.
pub fn packed(file: &Path) -> Value {
    let file = std::fs::File::open(file).unwrap();
    serde_json::from_reader(GzDecoder::new(file)).unwrap()
}

/// One fixture: a model's config, its weights, inputs and what the reference made of them.
pub struct Checkpoint {
    pub about: Value,
    seed: u64,
    gains: Vec<(String, f64)>,
    outputs: HashMap<String, Tensor>,
}

impl Checkpoint {
    /// `folder`/`name` of the fixtures.
    pub fn open(folder: &str, name: &str) -> Self {
        let file = |end: &str| -> PathBuf {
            let folder = on_device::fixtures().join(folder);
            folder.join(format!("{name}.{end}"))
        };
        let about = packed(&file("json.gz"));
        Self {
            seed: about["seed"].as_u64().unwrap(),
            gains: serde_json::from_value(about["gains"].clone()).unwrap(),
            outputs: candle_core::safetensors::load(file("safetensors"), &Device::Cpu).unwrap(),
            about,
        }
    }

    /// A part of a whole pipeline: what is listed of it, and no outputs.
    pub fn part(about: Value) -> Self {
        Self {
            seed: about["seed"].as_u64().unwrap(),
            gains: serde_json::from_value(about["gains"].clone()).unwrap(),
            outputs: HashMap::new(),
            about,
        }
    }

    /// Its config.json with some fields changed.
    pub fn fields(&self, change: Value) -> Fields {
        let mut config = self.about["config"].clone();
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        Fields::of("config.json", config)
    }

    /// The weights, read from a file in f16.
    pub fn weights(&self) -> Arc<dyn TensorSource> {
        self.weights_named(|name| name.to_owned())
    }

    /// The same under other names.
    pub fn weights_named(&self, rename: impl Fn(&str) -> String) -> Arc<dyn TensorSource> {
        let dir = tempfile::tempdir().unwrap();
        self.write(&dir.path().join(FILE), rename);
        let snapshot = Snapshot::dir(dir.path()).unwrap();
        // Mapped: the name may go.
        snapshot.weights_named(FILE).unwrap()
    }

    /// A file of them.
    pub fn write(&self, file: &Path, rename: impl Fn(&str) -> String) {
        let tensors = self.tensors().into_iter();
        let renamed = tensors.map(|(name, tensor)| (rename(&name), tensor));
        save(file, &renamed.collect(), json!({}));
    }

    /// All of them by name.
    pub fn tensors(&self) -> BTreeMap<String, HostTensor> {
        let mut tensors = BTreeMap::new();
        let lines = self.about["tensors"].as_array().unwrap();
        for (name, shape) in names(lines.iter().map(|line| line.as_str().unwrap())).unwrap() {
            let shape: Vec<usize> = shape[0].split('x').map(|n| n.parse().unwrap()).collect();
            let spread = self.spread(&name, &shape);
            let made = numbers(self.seed, &name, shape, spread);
            let changed = self.changed(&name, made);
            tensors.insert(name, changed);
        }
        tensors
    }

    /// What the script multiplies and moves after it made it.
    fn changed(&self, name: &str, tensor: HostTensor) -> HostTensor {
        let change = &self.about["change"][name];
        let (Some(factor), Some(offset)) = (change[0].as_f64(), change[1].as_f64()) else {
            return tensor;
        };
        let bytes = tensor.to_f32().unwrap().into_iter();
        let bytes = bytes
            .flat_map(|x| (x * factor as f32 + offset as f32).to_le_bytes())
            .collect();
        let shape = tensor.shape().to_vec();
        let wide = HostTensor::from_bytes(name, DType::F32, shape, bytes).unwrap();
        wide.to_dtype(DType::F16).unwrap()
    }

    fn spread(&self, name: &str, shape: &[usize]) -> (f64, f64) {
        let rounded = |amplitude: f64| (amplitude * 65536.0 + 0.5).floor() / 65536.0;
        let gain = self.gains.iter().find(|(part, _)| name.contains(part));
        let gain = gain.map_or(1.0, |(_, gain)| *gain);
        match shape {
            [_] if name.ends_with("weight") => (1.0, 0.5),
            [_] => (0.0, rounded(gain * 0.25)),
            _ => {
                let fan_in: usize = shape[1..].iter().product();
                (0.0, rounded(gain * (3.0 / fan_in as f64).sqrt()))
            }
        }
    }

    /// An input by name, in f32.
    pub fn input(&self, name: &str) -> Tensor {
        let (shape, amplitude): (Vec<usize>, f64) =
            serde_json::from_value(self.about["inputs"][name].clone()).unwrap();
        given(self.seed, name, (shape, amplitude))
    }

    /// What the reference made.
    pub fn output(&self, name: &str) -> &Tensor {
        &self.outputs[name]
    }

    /// Numbers in all its tensors.
    pub fn parameters(&self) -> u64 {
        let lines = self.about["tensors"].as_array().unwrap().iter();
        let shapes = lines.map(|line| line.as_str().unwrap().rsplit('|').next().unwrap());
        shapes
            .map(|shape| {
                shape
                    .split('x')
                    .map(|n| n.parse::<u64>().unwrap())
                    .product::<u64>()
            })
            .sum()
    }
}

/// An input, as `given` of random_weights.py makes it, in f32.
pub fn given(seed: u64, name: &str, (shape, amplitude): (Vec<usize>, f64)) -> Tensor {
    let name = format!("input/{name}");
    let stored = numbers(seed, &name, shape, (0.0, amplitude));
    stored.to_tensor(&Device::Cpu, DType::F32).unwrap()
}

/// f16, as `numbers` of random_weights.py makes them.
fn numbers(seed: u64, name: &str, shape: Vec<usize>, spread: (f64, f64)) -> HostTensor {
    let numbers = random_checkpoints::numbers(seed, name, shape.iter().product(), spread);
    let bytes = random_checkpoints::DType::F16.bytes(&numbers);
    HostTensor::from_bytes(name, DType::F16, shape, bytes).unwrap()
}

/// Writes tensors of f16 and f32, and texts about them where there are any.
pub fn save(file: &Path, tensors: &BTreeMap<String, HostTensor>, texts: Value) {
    let stored = tensors.iter().map(|(name, tensor)| {
        let stored = Stored {
            dtype: tensor.stored().name().to_uppercase(),
            shape: tensor.shape().to_vec(),
            bytes: tensor.bytes().to_vec(),
        };
        (name.clone(), stored)
    });
    std::fs::write(file, safetensors(&stored.collect(), texts)).unwrap();
}

/// Where the tests compute.
pub fn placement() -> Placement {
    Placement {
        device: on_device::device(),
        dtype: on_device::dtype(),
        roster: None,
    }
}

/// max|a − b| / max|b|
pub fn error(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let a = on_device::back(a);
    let largest = |x: &Tensor| {
        let x = x.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        x.to_scalar::<f32>().unwrap()
    };
    let error = largest(&(a - b).unwrap()) / largest(b);
    assert!(error.is_finite());
    error
}

/// The numbers' bits.
pub fn bits(x: &Tensor) -> Vec<u32> {
    let numbers = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    numbers.into_iter().map(f32::to_bits).collect()
}
