//! Exchanges what lies behind a tensor. All clones and views of a tensor share one storage, so that a layer finds another one there
//! without being told. Apart from parking, which says what is exchanged for what, and why.

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CudaStorage, InplaceOp1, Layout, MetalStorage, Result as Candle, Storage, Tensor,
};

/// The other storage: first the one that is to be put in, then the one that was there.
struct Exchange(Mutex<Storage>);

impl Exchange {
    fn with(&self, swap: impl FnOnce(&mut Storage) -> bool) -> Candle<()> {
        let mut other = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match swap(&mut other) {
            true => Ok(()),
            false => {
                candle_core::bail!("a tensor's storage is exchanged for one of another device")
            }
        }
    }
}

impl InplaceOp1 for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Candle<()> {
        self.with(|other| match other {
            Storage::Cpu(other) => {
                std::mem::swap(storage, other);
                true
            }
            _ => false,
        })
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Candle<()> {
        self.with(|other| match other {
            Storage::Cuda(other) => {
                std::mem::swap(storage, other);
                true
            }
            _ => false,
        })
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, _: &Layout) -> Candle<()> {
        self.with(|other| match other {
            Storage::Metal(other) => {
                std::mem::swap(storage, other);
                true
            }
            _ => false,
        })
    }
}

/// Puts a storage behind each tensor, and gives those that were there; all of them, or nothing has changed.
pub(super) fn exchange(tensors: &[Tensor], storages: Vec<Storage>) -> Candle<Vec<Storage>> {
    let mut before = Vec::with_capacity(storages.len());
    for (tensor, storage) in tensors.iter().zip(storages) {
        match one(tensor, storage) {
            Ok(there) => before.push(there),
            Err(error) => {
                // These are of the right device: they have just come from there.
                for (tensor, there) in tensors.iter().zip(before) {
                    one(tensor, there)?;
                }
                return Err(error);
            }
        }
    }
    Ok(before)
}

fn one(tensor: &Tensor, storage: Storage) -> Candle<Storage> {
    let exchange = Exchange(Mutex::new(storage));
    tensor.inplace_op1(&exchange)?;
    Ok(exchange
        .0
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner))
}
