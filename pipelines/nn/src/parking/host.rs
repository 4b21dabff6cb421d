//! Parking of tensors on the CPU: copies beside the model. Nothing is gained by it; it is here so that everything about parking but
//! the copies to and from a GPU is run by tests.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cpu_backend::CpuDevice;
use candle_core::{CpuStorage, Result as Candle, Shape, Storage, Tensor};

use super::Memory;
use crate::error::Result;

/// Copies by number.
#[derive(Default)]
pub(super) struct Copies(Vec<CpuStorage>);

impl Memory for Copies {
    fn keep(&mut self, tensors: &[Tensor]) -> Result<()> {
        let copy = |tensor: &Tensor| match &*tensor.storage_and_layout().0 {
            Storage::Cpu(storage) => storage.to_cpu_storage(),
            _ => candle_core::bail!("a tensor that is not on the CPU"),
        };
        let copies: Vec<CpuStorage> = tensors.iter().map(copy).collect::<Candle<_>>()?;
        self.0.extend(copies);
        Ok(())
    }

    fn stub(&mut self, number: usize) -> Candle<Storage> {
        let none = CpuDevice.zeros_impl(&Shape::from(0), self.copy(number)?.dtype())?;
        Ok(Storage::Cpu(none))
    }

    fn bring(&mut self, number: usize) -> Candle<Storage> {
        Ok(Storage::Cpu(self.copy(number)?.clone()))
    }

    fn finish(&mut self) -> Candle<()> {
        Ok(())
    }

    fn discard(&mut self, _stubs: Vec<Storage>) {}
}

impl Copies {
    fn copy(&self, number: usize) -> Candle<&CpuStorage> {
        match self.0.get(number) {
            Some(copy) => Ok(copy),
            None => candle_core::bail!("tensor {number} was not kept"),
        }
    }
}
