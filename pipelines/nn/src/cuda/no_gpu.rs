//! In a build without CUDA no tensor is on a GPU.

use candle_core::{DType, Device, Result as Candle, Shape, Tensor};

use super::work::Work;
use crate::error::Result;
use crate::parking::Memory;

/// Nothing is sent anywhere.
pub(crate) fn upload(_: &[u8], _: DType, _: &Shape, _: &Device) -> Candle<Option<Tensor>> {
    Ok(None)
}

/// There is no GPU to park anything of.
pub(crate) fn pinned_memory(_: &Device) -> Option<Box<dyn Memory>> {
    None
}

/// There is none.
pub(super) enum Gpu {}

impl Gpu {
    pub(super) fn of(_: &[&Tensor]) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn has_matrix_units(&self) -> Result<bool> {
        match *self {}
    }

    pub(super) fn multiprocessors(&self) -> Result<usize> {
        match *self {}
    }

    pub(super) fn compute(&self, _: &Work, _: &[&Tensor], _: &Shape) -> Result<Tensor> {
        match *self {}
    }

    pub(super) fn write(&self, _: &Work, _: &[&Tensor]) -> Result<()> {
        match *self {}
    }
}
