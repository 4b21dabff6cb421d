//! In a build without CUDA no tensor is on a GPU.

use candle_core::{Shape, Tensor};

use super::work::Work;
use crate::error::Result;

/// There is none.
pub(super) enum Gpu {}

impl Gpu {
    pub(super) fn of(_: &[&Tensor]) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn has_matrix_units(&self) -> bool {
        match *self {}
    }

    pub(super) fn multiprocessors(&self) -> usize {
        match *self {}
    }

    pub(super) fn compute(&self, _: &Work, _: &[&Tensor], _: &Shape) -> Result<Tensor> {
        match *self {}
    }

    pub(super) fn write(&self, _: &Work, _: &[&Tensor]) -> Result<()> {
        match *self {}
    }
}
