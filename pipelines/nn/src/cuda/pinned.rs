//! Weights of a GPU in the host's memory, page-locked so that they come back as fast as the bus is. Apart from `upload`, whose few pieces
//! are filled again and again: this is as much memory as the weights are, taken at the first parking and kept, since to lock it takes
//! longer than to copy.
//! Not run on a GPU yet.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::CUresult;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtrMut, DeviceRepr, DriverError, PinnedHostSlice, result,
};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice};
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result as Candle, Storage, Tensor};

use super::gpu::{address_of, wrapped};
use crate::error::{NnError, Result};
use crate::parking::Memory;

/// Neither write-combined nor mapped: the processor does not read or write it either way, and memory that is taken out of the caches
/// costs the kernel its large pages.
const FLAGS: u32 = 0;
/// Where each tensor begins in a block: what copies are aligned to at best.
const ALIGNED: usize = 256;
/// Of what stands in a parked tensor's place: the smallest piece that the driver gives.
const STUB_BYTES: usize = 256;

/// The memory for what is on a GPU.
pub(crate) fn pinned_memory(device: &Device) -> Option<Box<dyn Memory>> {
    let Device::Cuda(cuda) = device else {
        return None;
    };
    Some(Box::new(Pinned {
        cuda: cuda.clone(),
        blocks: Vec::new(),
        kept: Vec::new(),
        locks: true,
    }))
}

struct Pinned {
    cuda: CudaDevice,
    blocks: Vec<Block>,
    kept: Vec<Kept>,
    /// Whether memory can be locked, as far as is known.
    locks: bool,
}

enum Block {
    Locked(PinnedHostSlice<u8>),
    /// Where no more could be locked: the driver copies through memory of its own.
    Pageable(Vec<u8>),
}

/// Where a tensor's bytes are.
#[derive(Debug, Clone, Copy)]
struct Kept {
    block: usize,
    at: usize,
    count: usize,
    dtype: DType,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.count * self.dtype.size_in_bytes()
    }
}

impl Memory for Pinned {
    fn keep(&mut self, tensors: &[Tensor]) -> Result<()> {
        let mut end = 0;
        let mut kept = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let one = Kept {
                block: self.blocks.len(),
                at: end,
                count: elements(tensor)?,
                dtype: tensor.dtype(),
            };
            end = (one.at + one.bytes()).next_multiple_of(ALIGNED);
            kept.push(one);
        }
        let mut block = self.block(end)?;
        let stream = self.cuda.cuda_stream();
        let copied = copy_out(tensors, &kept, block.bytes_mut()?, &stream);
        // Before the block may be dropped: what was begun still writes to it.
        awaited(&stream)?;
        copied?;
        self.blocks.push(block);
        self.kept.extend(kept);
        Ok(())
    }

    /// Not of the pool that weights come from: a byte in a piece of it keeps all of the piece.
    fn stub(&mut self, number: usize) -> Candle<Storage> {
        let dtype = self.at(number)?.dtype;
        let stream = self.cuda.cuda_stream();
        stream.context().bind_to_thread().map_err(wrapped)?;
        // SAFETY: the thread has this GPU's context.
        let address = unsafe { result::malloc_sync(STUB_BYTES) }.map_err(wrapped)?;
        // SAFETY: there is room for a number of any dtype at the address, which nothing else owns.
        let slice = unsafe {
            match dtype {
                DType::F16 => CudaStorageSlice::F16(stream.upgrade_device_ptr(address, 1)),
                DType::BF16 => CudaStorageSlice::BF16(stream.upgrade_device_ptr(address, 1)),
                _ => CudaStorageSlice::F32(stream.upgrade_device_ptr(address, 1)),
            }
        };
        Ok(Storage::Cuda(CudaStorage {
            slice,
            device: self.cuda.clone(),
        }))
    }

    fn bring(&mut self, number: usize) -> Candle<Storage> {
        let kept = self.at(number)?;
        let storage = match kept.dtype {
            DType::F16 => self.copy_in::<half::f16>(kept)?,
            DType::BF16 => self.copy_in::<half::bf16>(kept)?,
            _ => self.copy_in::<f32>(kept)?,
        };
        Ok(Storage::Cuda(storage))
    }

    fn finish(&mut self) -> Candle<()> {
        awaited(&self.cuda.cuda_stream())
    }

    fn discard(&mut self, stubs: Vec<Storage>) {
        for stub in stubs {
            let Storage::Cuda(storage) = stub else {
                continue;
            };
            let address = match storage.slice {
                CudaStorageSlice::F16(slice) => slice.leak(),
                CudaStorageSlice::BF16(slice) => slice.leak(),
                CudaStorageSlice::F32(slice) => slice.leak(),
                // No stub is of another dtype; its own drop knows what to do.
                _ => continue,
            };
            // SAFETY: it came of `malloc_sync`, and the slice that owned it has let go of it.
            if let Err(error) = unsafe { result::free_sync(address) } {
                tracing::warn!(%error, "a place that a parked weight had on the GPU was not freed");
            }
        }
    }
}

impl Pinned {
    fn at(&self, number: usize) -> Candle<Kept> {
        match self.kept.get(number) {
            Some(kept) => Ok(*kept),
            None => candle_core::bail!("tensor {number} was not kept"),
        }
    }

    fn block(&mut self, bytes: usize) -> Result<Block> {
        if self.locks {
            let stream = self.cuda.cuda_stream();
            // SAFETY: what is read of it is written before.
            match unsafe { stream.context().alloc_pinned_with_flags(bytes, FLAGS) } {
                Ok(locked) => return Ok(Block::Locked(locked)),
                Err(error) if is_refusal(error) => {
                    tracing::warn!(%error, bytes, "no more memory can be locked for parked weights: they come back more slowly from memory that is not");
                    self.locks = false;
                }
                Err(error) => return Err(wrapped(error).into()),
            }
        }
        let mut pageable: Vec<u8> = Vec::new();
        let reserved = pageable.try_reserve_exact(bytes);
        reserved.map_err(|_| NnError::HostMemory { bytes })?;
        pageable.resize(bytes, 0);
        Ok(Block::Pageable(pageable))
    }

    fn copy_in<T: CudaDType + DeviceRepr>(&self, kept: Kept) -> Candle<CudaStorage> {
        let stream = self.cuda.cuda_stream();
        let block = match self.blocks.get(kept.block) {
            Some(block) => block.bytes()?,
            None => candle_core::bail!("there is no block {} of parked weights", kept.block),
        };
        let Some(from) = block.get(kept.at..kept.at + kept.bytes()) else {
            candle_core::bail!("a parked weight is not whole")
        };
        // SAFETY: every byte of it is written below, before anything that the stream does afterwards.
        let mut made: CudaSlice<T> = unsafe { self.cuda.alloc(kept.count)? };
        let (address, guard) = made.device_ptr_mut(&stream);
        // SAFETY: there is room for so many bytes at the address. What is copied from stays as it is while this lives, and `finish`
        // waits for the stream before anybody lets go of either.
        let begun = unsafe { result::memcpy_htod_async(address, from, stream.cu_stream()) };
        drop(guard);
        begun.map_err(wrapped)?;
        Ok(CudaStorage::wrap_cuda_slice(made, self.cuda.clone()))
    }
}

impl Block {
    fn bytes(&self) -> Candle<&[u8]> {
        match self {
            Self::Locked(memory) => memory.as_slice().map_err(wrapped),
            Self::Pageable(memory) => Ok(memory),
        }
    }

    fn bytes_mut(&mut self) -> Candle<&mut [u8]> {
        match self {
            Self::Locked(memory) => memory.as_mut_slice().map_err(wrapped),
            Self::Pageable(memory) => Ok(memory),
        }
    }
}

/// Waits for the stream. An error that something given back has left behind is told first: cudarc's wait would not come to waiting.
fn awaited(stream: &CudaStream) -> Candle<()> {
    let left = stream.context().check_err();
    stream.synchronize().and(left).map_err(wrapped)
}

/// Whether it is about locking memory, and not about the device.
fn is_refusal(error: DriverError) -> bool {
    matches!(
        error.0,
        CUresult::CUDA_ERROR_OUT_OF_MEMORY | CUresult::CUDA_ERROR_NOT_SUPPORTED
    )
}

/// Numbers in a tensor's storage, which it has all of.
fn elements(tensor: &Tensor) -> Candle<usize> {
    let (storage, layout) = tensor.storage_and_layout();
    let found = match &*storage {
        Storage::Cuda(storage) => match &storage.slice {
            CudaStorageSlice::F16(slice) => slice.len(),
            CudaStorageSlice::BF16(slice) => slice.len(),
            CudaStorageSlice::F32(slice) => slice.len(),
            _ => candle_core::bail!("a weight of {:?} is not parked", storage.dtype()),
        },
        _ => candle_core::bail!("a weight that is not on the GPU"),
    };
    match layout.shape().elem_count() == found {
        true => Ok(found),
        false => candle_core::bail!("a weight that is part of another is not parked"),
    }
}

/// Begins to copy tensors to their places in a block.
fn copy_out(
    tensors: &[Tensor],
    kept: &[Kept],
    block: &mut [u8],
    stream: &Arc<CudaStream>,
) -> Candle<()> {
    stream.context().bind_to_thread().map_err(wrapped)?;
    for (tensor, kept) in tensors.iter().zip(kept) {
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            candle_core::bail!("a weight that is not on the GPU")
        };
        let Some(to) = block.get_mut(kept.at..kept.at + kept.bytes()) else {
            candle_core::bail!("a weight beyond its block")
        };
        let (address, guard) = address_of(storage, layout, stream)?;
        // SAFETY: so many bytes are at the address, and whoever gave the block waits for the stream before it goes.
        let begun = unsafe { result::memcpy_dtoh_async(to, address, stream.cu_stream()) };
        drop(guard);
        begun.map_err(wrapped)?;
    }
    Ok(())
}
