//! Quantise-on-load: a checkpoint's matrices into blocks, once, kept on disk for the next start.
//! Apart from the formats (`quantized`), because here it is decided what becomes what, and where the result lies.

mod cache;
mod memory;
mod scheme;

use std::path::PathBuf;
use std::sync::Arc;

pub use scheme::{Role, Scheme};

use self::scheme::Chosen;
use super::gguf::GgmlType;
use super::{HostTensor, StoredType, TensorSource, quantize_tensor};
use crate::error::{NnError, Result};

/// Numbers that are widened at a time; what is in memory beside the result is four times as many bytes.
const PIECE: usize = 1 << 24;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantize {
    /// Into which formats.
    pub scheme: Scheme,
    /// The directory in which results are kept; without one they stay in memory and are made at every start.
    pub cache: Option<PathBuf>,
}

impl Quantize {
    /// The same tensors with its matrices quantised: from the cache when they are there, else made now, by all threads, with
    /// `progress(done, total)` in bytes of the checkpoint. `role` tells what a tensor is to the model, by its name.
    ///
    /// A cache that cannot be written is no error: it is said in the log, and the result stays in memory.
    ///
    /// # Errors
    /// [`NnError::Input`] when the checkpoint is quantised already; and what reading it says.
    pub fn apply(
        &self,
        source: Arc<dyn TensorSource>,
        role: &dyn Fn(&str) -> Role,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Arc<dyn TensorSource>> {
        let chosen = choose(source.as_ref(), self.scheme, role)?;
        tell(self.scheme, &chosen);
        let Some(directory) = &self.cache else {
            return Ok(Arc::new(memory::quantized(source, &chosen, progress)?));
        };
        let key = cache::key(source.as_ref(), self.scheme, &chosen)?;
        let path = cache::path(directory, self.scheme, &key);
        if let Some(file) = cache::open(&path, &key, &chosen) {
            tracing::info!(file = %path.display(), "quantised weights found");
            return Ok(Arc::new(file));
        }
        match cache::write(&path, &key, source.as_ref(), &chosen, progress) {
            Ok(()) => {}
            Err(NnError::Io {
                file,
                source: error,
            }) => {
                tracing::warn!(
                    file = %file.display(),
                    %error,
                    "quantised weights cannot be kept, and are made anew at every start: make the cache directory writable"
                );
                return Ok(Arc::new(memory::quantized(source, &chosen, progress)?));
            }
            Err(other) => return Err(other),
        }
        match cache::open(&path, &key, &chosen) {
            Some(file) => {
                tracing::info!(file = %path.display(), "quantised weights are kept");
                Ok(Arc::new(file))
            }
            // Somebody else has put something wrong there at this instant; the model is served all the same.
            None => Ok(Arc::new(memory::quantized(source, &chosen, progress)?)),
        }
    }
}

/// What becomes of every tensor, by name.
fn choose(
    source: &dyn TensorSource,
    scheme: Scheme,
    role: &dyn Fn(&str) -> Role,
) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
    for name in source.names() {
        let tensor = match source.tensor(&name) {
            Ok(tensor) => tensor,
            // Of a dtype that nothing here computes with, or without numbers: no model asks for it.
            Err(NnError::DType { .. } | NnError::WeightFile { .. }) => continue,
            Err(other) => return Err(other),
        };
        if GgmlType::of(tensor.stored()).is_none() {
            // Bytes and the like, which no model here asks for either.
            continue;
        }
        if let StoredType::Quant(kind) = tensor.stored() {
            return Err(NnError::Input {
                what: "quantize",
                reason: format!(
                    "the model is quantised already: `{name}` is {}; leave the setting out, or name a checkpoint in f32, f16 or bf16",
                    kind.name()
                ),
            });
        }
        chosen.push(scheme.choose(&name, &tensor, role(&name)));
    }
    if !chosen.iter().any(|one| one.made()) {
        return Err(NnError::Input {
            what: "quantize",
            reason: "no tensor of this model can be: none is a matrix [out, in] whose rows are multiples of 32 numbers"
                .to_owned(),
        });
    }
    Ok(chosen)
}

/// One line about what is made of what, and why some are not what was asked for.
fn tell(scheme: Scheme, chosen: &[Chosen]) {
    let count = |of: &dyn Fn(&Chosen) -> bool| chosen.iter().filter(|one| of(one)).count();
    let in_type = |name: &str| count(&|one| one.made() && one.stored.name() == name);
    tracing::info!(
        scheme = scheme.name(),
        q4_k = in_type("Q4_K"),
        q6_k = in_type("Q6_K"),
        q8_0 = in_type("Q8_0"),
        kept = count(&|one| !one.made()),
        "quantising the weights"
    );
    let fell_back = count(&|one| one.fell_back);
    if fell_back > 0 {
        let first = chosen.iter().find(|one| one.fell_back);
        tracing::info!(
            tensors = fell_back,
            first = first.map_or("", |one| one.name.as_str()),
            "rows that are no multiples of 256 numbers become Q8_0, and of 32 stay as they are"
        );
    }
}

/// A tensor as it was chosen to be.
fn convert(source: &dyn TensorSource, chosen: &Chosen) -> Result<HostTensor> {
    let tensor = source.tensor(&chosen.name)?;
    let StoredType::Quant(kind) = chosen.stored else {
        return Ok(tensor);
    };
    let rows = tensor.shape().first().copied().unwrap_or(1).max(1);
    let row = (tensor.elements() / rows).max(1);
    let at_once = (PIECE / row).clamp(1, rows);
    let mut bytes = Vec::with_capacity(chosen.stored.byte_len(tensor.shape()).unwrap_or(0));
    for start in (0..rows).step_by(at_once) {
        let piece = tensor.rows(start, at_once.min(rows - start))?;
        bytes.extend_from_slice(quantize_tensor(kind, &piece)?.bytes());
    }
    HostTensor::from_bytes(tensor.name(), chosen.stored, tensor.shape().to_vec(), bytes)
}
