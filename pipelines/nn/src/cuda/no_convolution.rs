//! A build without cuDNN has candle's convolutions alone.

use candle_core::Tensor;

use super::Convolution;
use crate::error::Result;

pub(crate) fn convolve(_: &Tensor, _: &Tensor, _: &Convolution) -> Result<Option<Tensor>> {
    Ok(None)
}

#[cfg(feature = "cuda")]
pub(super) fn set_up(_: crate::device::CudaTuning) {}

#[cfg(feature = "cuda")]
pub(crate) fn give_up(_: &candle_core::CudaDevice) {}
