//! Checkpoints of random weights that Python and Rust make alike (`../random_checkpoint.py`, which tells the rule and the form of
//! weights.json), so that a fixture holds names and shapes of tensors and what a reference computed, and not the numbers. A crate
//! of its own because the tests of every modality read such fixtures, and those of the worker, too.

mod fixture;
mod line;
mod numbers;
mod safetensors;

pub use fixture::checkpoint;
pub use line::names;
pub use numbers::{DType, numbers};
pub use safetensors::{Stored, safetensors};
