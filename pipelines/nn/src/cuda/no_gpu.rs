//! In a build without CUDA no tensor is on a GPU.

use candle_core::{DType, Device, Result as Candle, Shape, Tensor};

use super::work::Work;
use crate::error::{NnError, Result};
use crate::parking::Memory;

/// Nothing is sent anywhere.
pub(crate) fn upload(_: &[u8], _: DType, _: &Shape, _: &Device) -> Candle<Option<Tensor>> {
    Ok(None)
}

/// There is no GPU to park anything of.
pub(crate) fn pinned_memory(_: &Device) -> Option<Box<dyn Memory>> {
    None
}

pub(crate) fn overwrite(_: &Tensor, _: &[u32]) -> Result<()> {
    Err(NnError::Device(
        "this build has no CUDA: no tensor is on a GPU".to_owned(),
    ))
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

/// Nothing is recorded.
pub(crate) enum Graph {}

impl Graph {
    pub(crate) fn is_possible(_: &Device) -> bool {
        false
    }

    pub(crate) fn record<T, E: From<NnError>>(
        _: &Device,
        _: &[(&[u32], usize, &Tensor)],
        work: &mut dyn FnMut() -> std::result::Result<T, E>,
    ) -> std::result::Result<(T, std::result::Result<Self, E>), E> {
        let none = NnError::Device("this build has no CUDA: nothing is recorded".to_owned());
        Ok((work()?, Err(none.into())))
    }

    pub(crate) fn launch(&mut self) -> Result<()> {
        match *self {}
    }
}

/// There is none.
pub(super) enum Gpu {}

impl Gpu {
    pub(super) fn of(_: &[&Tensor]) -> Result<Option<Self>> {
        Ok(None)
    }

    pub(super) fn on(_: &Device) -> Result<Option<Self>> {
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
