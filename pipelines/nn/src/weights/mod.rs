//! Weight reading: where a model's tensors come from and what they are on the host, before any device is chosen.
//! Apart from the layers, which take a [`HostTensor`] and decide themselves in which form they keep it.

mod convert;
mod host_tensor;

pub use host_tensor::HostTensor;
