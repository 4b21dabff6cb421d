//! A GGUF file's tensors under their names in the Hugging Face layout. Apart from the file, which knows no model, and from the
//! decoder, which knows no GGUF. Nothing is copied but what the converter changed: small norms, and GPT-2's matrices.

use std::collections::HashMap;

use candle_core::DType;
use chandler_nn::error::NnError;
use chandler_nn::weights::gguf::GgufFile;
use chandler_nn::weights::{HostTensor, TensorSource};

use super::architectures::{Architecture, Change, Renamed};
use crate::error::Result;

/// Tensors that say what the configuration already has from them, or that llama.cpp itself no longer reads.
const NOT_WEIGHTS: [&str; 4] = [
    "rope_freqs",
    "rope_factors_short",
    "rope_factors_long",
    "attn_rot_embd",
];
/// The most experts of a layer; the largest models in use have some hundred.
const MOST_EXPERTS: usize = 1 << 14;

/// The tensors of a GGUF file, by the names that the decoder asks for.
pub(super) struct GgufWeights {
    file: GgufFile,
    places: HashMap<String, Place>,
}

/// Where a tensor is.
struct Place {
    /// Its name in the file.
    name: String,
    /// Its number in a stack of experts.
    expert: Option<usize>,
    change: Change,
}

impl GgufWeights {
    /// Names every tensor of a file.
    ///
    /// # Errors
    /// For a tensor that the architecture does not have: without it, the answers would be another model's.
    pub(super) fn new(file: GgufFile, row: &Architecture) -> Result<Self> {
        let mut places = HashMap::new();
        for name in file.names() {
            let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
            if NOT_WEIGHTS.contains(&stem.rsplit('.').next().unwrap_or(stem)) {
                continue;
            }
            let Some((hugging_face, change)) = renamed(row, stem) else {
                return Err(NnError::WeightFile {
                    file: file.path().to_owned(),
                    reason: format!(
                        "tensor `{name}` is not one that {} has here: without it the answers would be another model's",
                        row.name
                    ),
                }
                .into());
            };
            let place = |expert| Place {
                name: name.clone(),
                expert,
                change,
            };
            match hugging_face.split_once('*') {
                None => {
                    places.insert(format!("{hugging_face}.{ending}"), place(None));
                }
                Some((before, after)) => {
                    let experts = file.shape(&name).and_then(|shape| shape.first().copied());
                    for expert in 0..experts.unwrap_or(0).min(MOST_EXPERTS) {
                        let one = format!("{before}{expert}{after}.{ending}");
                        places.insert(one, place(Some(expert)));
                    }
                }
            }
        }
        Ok(Self { file, places })
    }
}

/// A name without its ending in the Hugging Face layout, and what happened to the tensor.
fn renamed(row: &Architecture, stem: &str) -> Option<(String, Change)> {
    let find = |table: &[Renamed], name: &str| table.iter().find(|row| row.gguf == name).copied();
    if let Some(found) = find(row.outer, stem) {
        return Some((found.hugging_face.to_owned(), found.change));
    }
    let (layer, leaf) = stem.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let found = row.inner.iter().find_map(|table| find(table, leaf))?;
    Some((
        format!("{}{layer}.{}", row.layers, found.hugging_face),
        found.change,
    ))
}

impl TensorSource for GgufWeights {
    fn tensor(&self, name: &str) -> Result<HostTensor, NnError> {
        let Some(place) = self.places.get(name) else {
            return Err(NnError::MissingTensor {
                name: name.to_owned(),
                hint: format!(
                    ": {} has no tensor that llama.cpp's converter makes of it",
                    self.file.path().display()
                ),
            });
        };
        let tensor = self.file.tensor(&place.name)?;
        let tensor = match place.expert {
            Some(expert) => tensor.at(expert)?,
            None => tensor,
        };
        // A bias keeps its shape whatever happens to the matrix.
        match (place.change, tensor.shape()) {
            (Change::PlusOne, shape) => {
                let shape = shape.to_vec();
                let numbers = tensor.to_f32()?.into_iter().map(|number| number - 1.0);
                floats(tensor.name(), shape, numbers)
            }
            (Change::Transposed, [_, _]) => tensor.transposed(),
            _ => Ok(tensor),
        }
    }

    fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.places.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    fn total_bytes(&self) -> u64 {
        self.file.total_bytes()
    }

    fn stamp(&self) -> String {
        self.file.stamp()
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<(), NnError> {
        self.file.prefetch(progress)
    }
}

fn floats(
    name: &str,
    shape: Vec<usize>,
    numbers: impl Iterator<Item = f32>,
) -> Result<HostTensor, NnError> {
    let bytes = numbers.flat_map(f32::to_le_bytes).collect();
    HostTensor::from_bytes(name, DType::F32, shape, bytes)
}
