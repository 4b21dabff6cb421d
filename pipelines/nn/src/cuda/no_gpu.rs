//! In a build without CUDA no tensor is on a GPU.

use candle_core::{DType, Device, Result as Candle, Shape, Tensor};

use super::work::Work;
use crate::error::Result;

/// Nothing is sent anywhere.
pub(crate) fn upload(_: &[u8], _: DType, _: &Shape, _: &Device) -> Candle<Option<Tensor>> {
    Ok(None)
}

/// Nothing comes from there.
#[derive(Debug)]
pub(crate) enum Reading {}

impl Reading {
    pub(crate) fn begin(_: &Tensor) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn wait(self) -> Result<Vec<u32>> {
        match self {}
    }
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
