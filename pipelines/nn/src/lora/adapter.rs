//! adapter_model.safetensors: an adapter's pairs by layer, every key accounted for and every shape checked.
//! Apart from `config`, which says what should be there.

use std::collections::HashMap;

use super::config::AdapterConfig;
use super::{Module, WEIGHTS_FILE, refuse};
use crate::error::Result;
use crate::weights::text::quoted;
use crate::weights::{HostTensor, Snapshot, TensorSource};

/// What peft wraps a model in, and so what its keys begin with.
const WRAPPER: &str = "base_model.model.";

/// An adapter as it lies in its directory.
#[derive(Debug)]
pub struct Adapter {
    /// By a module's first name.
    pairs: HashMap<String, Pair>,
}

/// What runs beside one layer: scale · (x·Aᵀ)·Bᵀ.
#[derive(Debug, Clone)]
pub struct Pair {
    /// [rank, in]
    pub(super) a: HostTensor,
    /// [out, rank]
    pub(super) b: HostTensor,
    pub(super) scale: f64,
}

/// One of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    A,
    B,
}

/// The halves of one layer, as far as they are found.
#[derive(Default)]
struct Halves {
    a: Option<HostTensor>,
    b: Option<HostTensor>,
}

impl Pair {
    /// A pair whose product is multiplied by `scale`: `a` to as many numbers as the rank, `b` from these. Of a linear layer they
    /// are [rank, in] and [out, rank].
    pub fn new(a: HostTensor, b: HostTensor, scale: f64) -> Self {
        Self { a, b, scale }
    }
}

impl Adapter {
    /// Of pairs by their module's first name, whose shapes fit: those of a file in another layout than peft's.
    pub fn new(pairs: HashMap<String, Pair>) -> Self {
        Self { pairs }
    }

    /// Reads an adapter in peft's layout (adapter_config.json, adapter_model.safetensors) for a model that has these layers,
    /// and these weights: peft copies embedding and head beside an adapter of the head, and copies change nothing. Its tensors are
    /// listed where the weights are.
    ///
    /// # Errors
    /// Names the field of adapter_config.json that is not supported, the key that belongs to no layer or to one that
    /// `target_modules` does not mean, the layer whose pair is missing, the tensor whose shape does not fit.
    pub fn read(snapshot: &Snapshot, modules: &[Module], base: &dyn TensorSource) -> Result<Self> {
        let config = AdapterConfig::from_snapshot(snapshot)?;
        let refuse = |reason: String| refuse(snapshot, WEIGHTS_FILE, reason);
        let mut found = halves(snapshot, modules, base)?;
        let mut pairs = HashMap::new();
        for (index, module) in modules.iter().enumerate() {
            let (halves, wanted) = (found.remove(&index), config.is_for(module)?);
            let name = module.name();
            let halves = match (halves, wanted) {
                (None, false) => continue,
                (None, true) => {
                    return Err(refuse(format!(
                        "adapter_config.json targets {name}, and there is no lora_A and lora_B of it"
                    )));
                }
                (Some(_), false) => {
                    return Err(refuse(format!(
                        "it has a pair for {name}, which adapter_config.json does not target"
                    )));
                }
                (Some(halves), true) => halves,
            };
            let (Some(a), Some(b)) = (halves.a, halves.b) else {
                return Err(refuse(format!(
                    "of {name} there is only one of lora_A and lora_B"
                )));
            };
            let (rank, scale) = config.rank_and_scale(module)?;
            let wanted_shapes = [(&a, [rank, module.inputs]), (&b, [module.outputs, rank])];
            for (tensor, wanted) in wanted_shapes {
                if tensor.shape() != wanted {
                    return Err(refuse(format!(
                        "tensor `{}` has shape {:?}; {wanted:?} is wanted: rank {rank} in a layer of {} inputs and {} outputs",
                        tensor.name(),
                        tensor.shape(),
                        module.inputs,
                        module.outputs
                    )));
                }
            }
            let listed = |half: HostTensor| half.with_roster(base.roster().cloned());
            let (a, b) = (listed(a), listed(b));
            pairs.insert(name.to_owned(), Pair { a, b, scale });
        }
        if pairs.is_empty() {
            return Err(refuse(
                "it has no pair, and adapter_config.json targets no layer of this model".to_owned(),
            ));
        }
        Ok(Self { pairs })
    }

    /// The pair of the module whose first name this is.
    pub fn pair(&self, module: &str) -> Option<&Pair> {
        self.pairs.get(module)
    }
}

/// Every tensor of the file, by its module's place in `modules`.
fn halves(
    snapshot: &Snapshot,
    modules: &[Module],
    base: &dyn TensorSource,
) -> Result<HashMap<usize, Halves>> {
    let places: HashMap<&str, usize> = modules
        .iter()
        .enumerate()
        .flat_map(|(index, module)| module.names.iter().map(move |name| (name.as_str(), index)))
        .collect();
    let source = snapshot.weights_named(WEIGHTS_FILE)?;
    let mut found: HashMap<usize, Halves> = HashMap::new();
    for key in source.names() {
        let refuse = |reason: String| refuse(snapshot, WEIGHTS_FILE, reason);
        let (path, half) = match parse(&key) {
            Ok(found) => found,
            Err(_) if is_copy(&source.tensor(&key)?, base)? => continue,
            Err(reason) => return Err(refuse(format!("tensor {}: {reason}", quoted(&key)))),
        };
        let place = places.get(path).ok_or_else(|| {
            refuse(format!(
                "tensor {} is for no linear layer of this model that can be adapted; those are {}",
                quoted(&key),
                known(modules)
            ))
        })?;
        let halves = found.entry(*place).or_default();
        let slot = match half {
            Half::A => &mut halves.a,
            Half::B => &mut halves.b,
        };
        if slot.is_some() {
            return Err(refuse(format!(
                "tensor {} is there under two names",
                quoted(&key)
            )));
        }
        *slot = Some(source.tensor(&key)?);
    }
    Ok(found)
}

/// Whether a tensor has the numbers that the model itself has: under its name, or under another where the model has none of
/// that name, as a tied head.
fn is_copy(tensor: &HostTensor, base: &dyn TensorSource) -> Result<bool> {
    let path = tensor.name();
    let path = path.strip_prefix(WRAPPER).unwrap_or(path);
    let own = path.replace(".base_layer.", ".");
    let candidates = match base.contains(&own) {
        true => vec![own],
        false => base.names(),
    };
    for name in candidates {
        // A tensor of the model that is not read is no copy of one that is.
        let Ok(own) = base.tensor(&name) else {
            continue;
        };
        if own.shape() == tensor.shape()
            && own
                .to_dtype(tensor.dtype())
                .is_ok_and(|own| own.bytes() == tensor.bytes())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A key's module path and half, or what the key is instead.
fn parse(key: &str) -> Result<(&str, Half), &'static str> {
    let path = key.strip_prefix(WRAPPER).unwrap_or(key);
    for (half, middle) in [(Half::A, ".lora_A."), (Half::B, ".lora_B.")] {
        if let Some((module, rest)) = path.split_once(middle) {
            return match rest {
                "weight" | "default.weight" => Ok((module, half)),
                "bias" | "default.bias" => Err("a bias of lora_B (lora_bias) is not supported"),
                _ => Err(
                    "it is neither lora_A.weight nor lora_B.weight, with or without `.default` before `.weight`",
                ),
            };
        }
    }
    Err(if path.contains("lora_embedding_") {
        "an adapted embedding is not supported; train without it, or merge the adapter into the model"
    } else if path.contains("lora_magnitude_vector") {
        "DoRA is not supported; merge the adapter into the model"
    } else {
        "it is neither a lora_A or lora_B nor a copy of the model's own: whole layers (modules_to_save) and trained biases are \
         not supported; merge the adapter into the model"
    })
}

/// The last words of the modules' paths, each once.
fn known(modules: &[Module]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for module in modules {
        let word = module.name().rsplit('.').next().unwrap_or_default();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}
