//! LoRA for image models: adapters that stand beside the denoiser and CLIP's text encoders, for some samples of a batch and not for
//! others. How their files call things is in `key`, `names`, `original` and `flux`; `read` puts a file's tensors in pairs, `attach`
//! puts these beside the layers. What a pair does to a layer's output is `chandler_nn::lora`'s.

mod attach;
mod flux;
mod key;
mod layer;
mod names;
mod original;
mod projection;
mod read;
#[cfg(test)]
mod tests;

pub use attach::{AdapterFile, Part, attach, names};
pub use layer::{Layer, Shape};
pub use projection::Projection;
