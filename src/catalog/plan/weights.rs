//! What weights take where they are computed with: on a GPU all numbers in one dtype, on a CPU as they are stored, or quantised.
//! The rules are the pipelines' (pipelines/nn device/dtype.rs and weights/quantize, pipelines/text load.rs, pipelines/image load.rs).

use super::PlanError;
use super::asked::{Asked, Dtype, Scheme};
use super::facts::Facts;
use super::measure::{Measured, Part};
use super::tensor::{Stored, Tensor};

/// Where, and in which dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub gpu: bool,
    pub dtype: Dtype,
}

impl Placed {
    /// As the worker decides it: `bf16` says whether the GPU computes in bf16.
    pub(super) fn new(measured: &Measured, asked: &Asked, bf16: bool) -> Self {
        let dtype = match (asked.dtype, asked.gpu) {
            (Dtype::Auto, true) => auto(measured, bf16),
            (Dtype::Auto, false) => Dtype::F32,
            (chosen, _) => chosen,
        };
        Self {
            gpu: asked.gpu,
            dtype,
        }
    }

    /// In what activations and caches are.
    pub(super) fn activations(self) -> Dtype {
        match self.gpu {
            true => self.dtype,
            false => Dtype::F32,
        }
    }
}

/// f16 stays f16; else bf16 where the GPU has it; before that bf16 becomes f16 (Gemma f32, which overflows f16) and f32 stays.
fn auto(measured: &Measured, bf16: bool) -> Dtype {
    let gemma =
        matches!(&measured.facts, Facts::Text(text) if text.architecture.starts_with("Gemma"));
    match (stored(measured), bf16) {
        (Stored::F16, _) => Dtype::F16,
        (_, true) => Dtype::Bf16,
        (Stored::Bf16, false) if gemma => Dtype::F32,
        (Stored::Bf16 | Stored::Blocks(_), false) => Dtype::F16,
        (_, false) => Dtype::F32,
    }
}

/// How the model is stored: as most of its numbers are, in its denoiser where it has one.
pub(super) fn stored(measured: &Measured) -> Stored {
    let denoiser = |part: &&Part| matches!(part.name.as_str(), "unet" | "transformer");
    let part = measured.parts.iter().find(denoiser);
    let tensors: Vec<&Tensor> = match part {
        Some(part) => part.tensors.iter().collect(),
        None => measured
            .parts
            .iter()
            .flat_map(|part| &part.tensors)
            .collect(),
    };
    most(tensors.into_iter())
}

fn most<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Stored {
    let mut counts = std::collections::BTreeMap::new();
    for tensor in tensors.filter(|tensor| tensor.stored.is_weight()) {
        *counts.entry(tensor.stored).or_insert(0) += tensor.elements();
    }
    let most = counts.into_iter().max_by_key(|(_, elements)| *elements);
    most.map_or(Stored::Other, |(stored, _)| stored)
}

/// What a part's weights take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub bytes: u64,
    /// In words and numbers.
    pub how: String,
}

/// What a part takes where it is placed.
///
/// # Errors
/// [`PlanError::Asked`] for a model that cannot be quantised.
pub(super) fn held(
    (part, measured): (&Part, &Measured),
    asked: &Asked,
    placed: Placed,
) -> Result<Held, PlanError> {
    let weights = || {
        part.tensors
            .iter()
            .filter(|tensor| tensor.stored.is_weight())
    };
    let elements: u64 = weights().map(Tensor::elements).sum();
    let stored = most(weights());
    let scheme = match asked.quantize {
        None => None,
        Some(scheme) => Some(quantisable(measured, scheme)?),
    };
    if placed.gpu {
        let wide = wide(part, measured, placed);
        let dtype = if wide { Dtype::F32 } else { placed.dtype };
        let widened = if wide { 0 } else { kept_wide(part, placed) };
        let why = match (scheme, stored) {
            (Some(_), _) | (None, Stored::Blocks(_)) => {
                ", unpacked while loading: blocks save no GPU memory"
            }
            _ if wide => ", as its force_upcast has it",
            _ => "",
        };
        let more = match widened {
            0 => String::new(),
            numbers => format!(" + {numbers} kept in f32 x 2 B"),
        };
        let width = dtype.bytes();
        return Ok(Held {
            bytes: elements * width + 2 * widened,
            how: format!(
                "{elements} numbers x {width} B in {}{more}; stored as {stored}{why}",
                dtype.as_str()
            ),
        });
    }
    let Some(scheme) = scheme else {
        let bytes = part.tensors.iter().map(|tensor| tensor.bytes).sum();
        return Ok(Held {
            bytes,
            how: format!("{elements} numbers stay as they are stored ({stored}), mapped"),
        });
    };
    let Facts::Text(text) = &measured.facts else {
        return Err(not_quantised("hears"));
    };
    let (layers, tied) = (text.layers, text.tied);
    let of = |tensor: &Tensor| quantised(tensor, scheme, role(&tensor.name, layers, tied));
    let bytes = part.tensors.iter().map(of).sum();
    Ok(Held {
        bytes,
        how: format!(
            "{elements} numbers, matrices in blocks (--quantize), the rest as stored ({stored})"
        ),
    })
}

fn not_quantised(does: &str) -> PlanError {
    PlanError::Asked {
        field: "quantize",
        reason: format!("what becomes of a model that {does} is not reckoned here; leave it out"),
    }
}

fn quantisable(measured: &Measured, scheme: Scheme) -> Result<Scheme, PlanError> {
    match (&measured.facts, stored(measured)) {
        (Facts::Picture(_), _) => Err(PlanError::Asked {
            field: "quantize",
            reason: "image models are not quantised; leave it out".to_owned(),
        }),
        (_, Stored::Blocks(name)) => Err(PlanError::Asked {
            field: "quantize",
            reason: format!("the model is quantised already ({name}); leave it out"),
        }),
        _ => Ok(scheme),
    }
}

/// Whether it is an autoencoder that is computed in f32 beside parts in f16.
fn wide(part: &Part, measured: &Measured, placed: Placed) -> bool {
    let upcast = matches!(&measured.facts, Facts::Picture(picture) if picture.upcast);
    upcast && part.name == "vae" && placed.dtype == Dtype::F16
}

/// Numbers of a T5 in f16 that stay f32: the feed-forward layers' outputs.
fn kept_wide(part: &Part, placed: Placed) -> u64 {
    let outputs = |tensor: &&Tensor| tensor.name.ends_with("DenseReluDense.wo.weight");
    match placed.dtype {
        Dtype::F16 => part
            .tensors
            .iter()
            .filter(outputs)
            .map(Tensor::elements)
            .sum(),
        _ => 0,
    }
}

/// What a tensor is to quantise-on-load, as in pipelines/text quantize.rs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Matrix,
    Sensitive,
    Head,
    Kept,
}

fn role(name: &str, layers: u64, tied: bool) -> Role {
    let Some(stem) = name.strip_suffix(".weight") else {
        return Role::Kept;
    };
    match stem.rsplit('.').next().unwrap_or(stem) {
        "lm_head" => Role::Head,
        "embed_tokens" if tied => Role::Head,
        "v_proj" | "down_proj" | "w2" if sensitive(stem, layers) => Role::Sensitive,
        "q_proj" | "k_proj" | "v_proj" | "o_proj" | "qkv_proj" | "gate_proj" | "up_proj"
        | "gate_up_proj" | "down_proj" | "w1" | "w2" | "w3" => Role::Matrix,
        _ => Role::Kept,
    }
}

/// The first and the last eighth of the layers, and every third between.
fn sensitive(stem: &str, layers: u64) -> bool {
    let number = || {
        stem.split_once("layers.")?
            .1
            .split('.')
            .next()?
            .parse::<u64>()
            .ok()
    };
    let eighth = layers / 8;
    number()
        .is_some_and(|layer| layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2)
}

/// Bytes of a tensor in its blocks: Q4_K has 144 bytes for 256 numbers, Q6_K 210, Q8_0 34 for 32.
fn quantised(tensor: &Tensor, scheme: Scheme, role: Role) -> u64 {
    let wanted = match (scheme, role) {
        (_, Role::Kept) => None,
        (Scheme::Q8, _) => Some((32, 34)),
        (Scheme::Q4k, Role::Matrix) => Some((256, 144)),
        (Scheme::Q4k, Role::Sensitive | Role::Head) => Some((256, 210)),
    };
    let Some(wanted) = wanted.filter(|_| tensor.shape.len() >= 2) else {
        return tensor.bytes;
    };
    // A row that is no whole number of blocks gets smaller ones, and else stays.
    let fits = |(block, _): &(u64, u64)| tensor.columns().is_multiple_of(*block);
    match [wanted, (32, 34)].into_iter().find(fits) {
        Some((block, bytes)) => tensor.elements() / block * bytes,
        None => tensor.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        let elements: u64 = shape.iter().product();
        Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            stored: Stored::Bf16,
            bytes: 2 * elements,
        }
    }

    #[test]
    fn blocks_have_llama_cpps_sizes() {
        let of = |name: &str, columns, scheme| {
            let tensor = tensor(name, &[2, columns]);
            quantised(&tensor, scheme, role(name, 16, false))
        };
        let gate = "model.layers.5.mlp.gate_proj.weight";
        assert_eq!(of(gate, 256, Scheme::Q4k), 2 * 144);
        assert_eq!(of(gate, 256, Scheme::Q8), 2 * 8 * 34);
        // Layer 0 is sensitive; a row of 288 is nine blocks of 32; one of 30 stays.
        assert_eq!(
            of("model.layers.0.self_attn.v_proj.weight", 256, Scheme::Q4k),
            2 * 210
        );
        assert_eq!(of(gate, 288, Scheme::Q4k), 2 * 9 * 34);
        assert_eq!(of(gate, 30, Scheme::Q4k), 2 * 30 * 2);
        assert_eq!(
            of("model.embed_tokens.weight", 256, Scheme::Q4k),
            2 * 256 * 2
        );
        assert_eq!(of("lm_head.weight", 256, Scheme::Q4k), 2 * 210);
    }
}
