//! The key-value cache: who owns which block (`blocks`), which block holds which tokens (`prefix`, used by `reuse`), and
//! the numbers in the blocks (here and in `host`).
//! Apart from attention because the scheduler reserves, forks and truncates without ever reading a key.

mod blocks;
pub(crate) mod host;
mod prefix;
mod reuse;

pub use blocks::{Appended, BlockCopies, BlockPool, BlockTable};

use crate::cuda;
use crate::error::{NnError, Result};
use crate::host::with_f32;
use candle_core::{DType, Device, Tensor};
use host::HostCache;

/// Tokens of a block of a decoder's cache. 16 divides the CPU kernels' key blocks, and flash-attn's take 32 keys at a time; larger
/// ones waste more at every sequence's end.
pub const BLOCK_SIZE: usize = if cfg!(feature = "flash-attn") { 32 } else { 16 };

/// The sizes of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers that have keys of their own.
    pub layers: usize,
    /// Blocks, as the [`BlockPool`] has.
    pub blocks: usize,
    /// Tokens in a block; multiples of 16 waste nothing on the CPU.
    pub block_size: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// Bytes of all keys and values in `dtype` (f32 on the CPU), without the padding of odd sizes; saturates.
    pub fn bytes(&self, dtype: DType) -> usize {
        [
            self.layers,
            self.blocks,
            self.block_size,
            self.kv_heads,
            self.head_dim,
            dtype.size_in_bytes(),
        ]
        .into_iter()
        .fold(2, usize::saturating_mul)
    }
}

/// Keys and values of every layer, in blocks.
pub struct KvCache {
    shape: CacheShape,
    storage: Storage,
    /// Where it was, and in which dtype, while its memory is given up.
    given_up: Option<(Device, DType)>,
}

pub(crate) enum Storage {
    /// f32, laid out for the kernel.
    Host(HostCache),
    /// Per layer, keys and values [blocks · block_size, kv_heads, head_dim] on a device.
    Plain(Vec<(Tensor, Tensor)>),
}

impl KvCache {
    /// An empty cache: on the CPU f32 whatever `dtype` says, and memory that is only taken when a block is written;
    /// elsewhere tensors of `dtype`.
    ///
    /// # Errors
    /// [`NnError::Input`] for a size of zero, [`NnError::HostMemory`] or [`NnError::Candle`] when there is no memory.
    pub fn new(shape: CacheShape, device: &Device, dtype: DType) -> Result<Self> {
        if !device.is_cpu() {
            return Self::plain(shape, device, dtype);
        }
        shape.check()?;
        Ok(Self::over(shape, Storage::Host(HostCache::new(&shape)?)))
    }

    /// An empty cache in candle tensors, on any device: what [`new`](Self::new) makes off the CPU.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn plain(shape: CacheShape, device: &Device, dtype: DType) -> Result<Self> {
        shape.check()?;
        let sizes = (
            shape.blocks * shape.block_size,
            shape.kv_heads,
            shape.head_dim,
        );
        let layers = (0..shape.layers)
            .map(|_| {
                Ok((
                    Tensor::zeros(sizes, dtype, device)?,
                    Tensor::zeros(sizes, dtype, device)?,
                ))
            })
            .collect::<Result<_>>()?;
        Ok(Self::over(shape, Storage::Plain(layers)))
    }

    fn over(shape: CacheShape, storage: Storage) -> Self {
        Self {
            shape,
            storage,
            given_up: None,
        }
    }

    /// Gives the memory of a cache in candle tensors up, with what is in it, until [`take_up`](Self::take_up). It has no layer
    /// meanwhile. One on the CPU takes memory as it is written, and keeps it.
    pub fn give_up(&mut self) {
        if let Storage::Plain(layers) = &mut self.storage {
            let home = layers.first().map(|(k, _)| (k.device().clone(), k.dtype()));
            self.given_up = self.given_up.take().or(home);
            layers.clear();
        }
    }

    /// Takes the memory again that was given up. The cache is empty then.
    ///
    /// # Errors
    /// [`NnError::Candle`] when there is none: it stays given up.
    pub fn take_up(&mut self) -> Result<()> {
        if let Some((device, dtype)) = &self.given_up {
            *self = Self::plain(self.shape, device, *dtype)?;
        }
        Ok(())
    }

    /// The sizes.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Bytes that the cache takes when every block is in use, padding included.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Host(host) => host.bytes(),
            Storage::Plain(layers) => layers
                .iter()
                .map(|(k, v)| (k.elem_count() + v.elem_count()) * k.dtype().size_in_bytes())
                .sum(),
        }
    }

    /// Writes the keys and values [rows, kv_heads, head_dim] of some tokens to their slots (block · block_size + offset),
    /// as [`BlockPool::append`] numbers them.
    ///
    /// # Errors
    /// [`NnError::Input`] for other shapes, a layer or a slot that is not there.
    pub fn write(&mut self, layer: usize, k: &Tensor, v: &Tensor, slots: &[u32]) -> Result<()> {
        let CacheShape {
            kv_heads, head_dim, ..
        } = self.shape;
        for tensor in [k, v] {
            if tensor.dims() != [slots.len(), kv_heads, head_dim] {
                return Err(input(format!(
                    "keys or values of shape {:?} for {} slots of [{kv_heads}, {head_dim}]",
                    tensor.dims(),
                    slots.len()
                )));
            }
        }
        self.check_layer(layer)?;
        self.check_slots(slots)?;
        if slots.is_empty() {
            return Ok(());
        }
        match &mut self.storage {
            Storage::Host(host) => with_f32(k, "keys", |k| {
                with_f32(v, "values", |v| {
                    host.write(layer, k, v, slots);
                    Ok(())
                })
            }),
            Storage::Plain(layers) => {
                let Some((keys, values)) = layers.get(layer) else {
                    return Ok(());
                };
                if cuda::into_slots(k, keys, slots)? && cuda::into_slots(v, values, slots)? {
                    return Ok(());
                }
                let index = Tensor::new(slots, keys.device())?
                    .reshape((slots.len(), 1, 1))?
                    .broadcast_as(k.shape())?
                    .contiguous()?;
                keys.scatter_set(&index, &k.contiguous()?, 0)?;
                values.scatter_set(&index, &v.contiguous()?, 0)?;
                Ok(())
            }
        }
    }

    /// Copies whole blocks, as (from, to), in every layer: what [`BlockPool::append`] asks for, before the next write.
    ///
    /// # Errors
    /// [`NnError::Input`] for a block that is not there.
    pub fn copy_blocks(&mut self, copies: &[(u32, u32)]) -> Result<()> {
        let CacheShape {
            blocks, block_size, ..
        } = self.shape;
        for block in copies.iter().flat_map(|(from, to)| [*from, *to]) {
            if block as usize >= blocks {
                return Err(input(format!("block {block} of {blocks}")));
            }
        }
        match &mut self.storage {
            Storage::Host(host) => host.copy_blocks(copies),
            Storage::Plain(layers) => {
                for tensor in layers.iter().flat_map(|(k, v)| [k, v]) {
                    for (from, to) in copies {
                        let block = tensor.narrow(0, *from as usize * block_size, block_size)?;
                        tensor.slice_set(&block.copy()?, 0, *to as usize * block_size)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The keys and values of one layer at some slots, each [slots, kv_heads, head_dim].
    ///
    /// # Errors
    /// [`NnError::Input`] for a layer or a slot that is not there.
    pub fn read(&self, layer: usize, slots: &[u32]) -> Result<(Tensor, Tensor)> {
        self.check_layer(layer)?;
        self.check_slots(slots)?;
        let shape = (slots.len(), self.shape.kv_heads, self.shape.head_dim);
        match &self.storage {
            Storage::Host(host) => {
                let (k, v) = host.read(layer, slots);
                let tensor = |numbers| Tensor::from_vec(numbers, shape, &Device::Cpu);
                Ok((tensor(k)?, tensor(v)?))
            }
            Storage::Plain(layers) => {
                let Some((keys, values)) = layers.get(layer) else {
                    return Err(input(format!("layer {layer} of {}", layers.len())));
                };
                let index = Tensor::new(slots, keys.device())?;
                Ok((
                    keys.index_select(&index, 0)?,
                    values.index_select(&index, 0)?,
                ))
            }
        }
    }

    /// The first `len` keys and values in some blocks, each [len, kv_heads, head_dim].
    ///
    /// # Errors
    /// [`NnError::Input`] for a layer or a block that is not there.
    pub(crate) fn read_span(
        &self,
        layer: usize,
        blocks: &[u32],
        len: usize,
    ) -> Result<(Tensor, Tensor)> {
        let size = self.shape.block_size;
        if let (Storage::Plain(layers), [block]) = (&self.storage, blocks)
            && let Some((keys, values)) = layers.get(layer)
        {
            // One block is a stretch of the tensor: no gathering.
            let start = *block as usize * size;
            return Ok((keys.narrow(0, start, len)?, values.narrow(0, start, len)?));
        }
        let slots: Vec<u32> = (0..len)
            .filter_map(|position| {
                let block = blocks.get(position / size)?;
                Some(block * size as u32 + (position % size) as u32)
            })
            .collect();
        self.read(layer, &slots)
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn check_layer(&self, layer: usize) -> Result<()> {
        if self.given_up.is_some() {
            return Err(input("its memory is given up".to_owned()));
        }
        if layer >= self.shape.layers {
            return Err(input(format!("layer {layer} of {}", self.shape.layers)));
        }
        Ok(())
    }

    fn check_slots(&self, slots: &[u32]) -> Result<()> {
        let all = self.shape.blocks * self.shape.block_size;
        match slots.iter().find(|slot| **slot as usize >= all) {
            Some(slot) => Err(input(format!("slot {slot} of {all}"))),
            None => Ok(()),
        }
    }
}

impl CacheShape {
    fn check(&self) -> Result<()> {
        let sizes = [
            self.layers,
            self.blocks,
            self.block_size,
            self.kv_heads,
            self.head_dim,
        ];
        let slots = self.blocks.checked_mul(self.block_size);
        if sizes.contains(&0) || slots.is_none_or(|slots| u32::try_from(slots).is_err()) {
            return Err(input(format!(
                "{self:?}; every size is at least 1, and slots are numbered in 32 bits"
            )));
        }
        Ok(())
    }
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "key-value cache",
        reason,
    }
}
