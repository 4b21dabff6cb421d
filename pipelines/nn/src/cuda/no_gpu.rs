//! In a build without CUDA no tensor is on a GPU.

use candle_core::Tensor;

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

    pub(super) fn run(&self, _: &Work, _: &[&Tensor]) -> Result<Option<Tensor>> {
        match *self {}
    }
}
