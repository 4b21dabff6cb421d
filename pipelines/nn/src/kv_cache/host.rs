//! Keys and values in the host's memory, in the order in which the attention kernel reads them.
//! Apart from `KvCache` because the layout is the kernel's business: keys lie transposed in strips of sixteen, so that one
//! vector holds the same dimension of sixteen keys and no score needs its lanes added up.

use crate::error::Result;
use crate::kernels::buffer::Buffer;
use crate::kv_cache::CacheShape;

/// Keys in a strip: the lanes of the widest vector.
pub(crate) const STRIP: usize = 16;

/// Where things lie in one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLayout {
    pub(crate) block_size: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl HostLayout {
    /// Strips in a block; the last may be partly used.
    #[inline(always)]
    pub(crate) fn strips(self) -> usize {
        self.block_size.div_ceil(STRIP)
    }

    /// Which strip of its sequence a position is in.
    #[inline(always)]
    pub(crate) fn strip_of(self, position: usize) -> usize {
        position / self.block_size * self.strips() + position % self.block_size / STRIP
    }

    /// Numbers from one value to the next: whole vectors.
    #[inline(always)]
    pub(crate) fn value_width(self) -> usize {
        self.head_dim.next_multiple_of(STRIP)
    }

    /// Keys: [block][kv head][strip][head_dim][16].
    #[inline(always)]
    pub(crate) fn key_strip(self, block: usize, kv_head: usize, strip: usize) -> usize {
        ((block * self.kv_heads + kv_head) * self.strips() + strip) * self.head_dim * STRIP
    }

    /// Values: [block][kv head][block_size][value_width].
    #[inline(always)]
    pub(crate) fn value_row(self, block: usize, kv_head: usize, offset: usize) -> usize {
        ((block * self.kv_heads + kv_head) * self.block_size + offset) * self.value_width()
    }

    fn key_block(self) -> Option<usize> {
        let heads = self.kv_heads.checked_mul(self.strips())?;
        heads.checked_mul(self.head_dim)?.checked_mul(STRIP)
    }

    fn value_block(self) -> Option<usize> {
        let heads = self.kv_heads.checked_mul(self.block_size)?;
        heads.checked_mul(self.head_dim.checked_next_multiple_of(STRIP)?)
    }
}

/// Every layer's keys and values.
pub(crate) struct HostCache {
    pub(crate) layout: HostLayout,
    layers: Vec<(Buffer, Buffer)>,
}

impl HostCache {
    pub(crate) fn new(shape: &CacheShape) -> Result<Self> {
        let layout = HostLayout {
            block_size: shape.block_size,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
        };
        // A size that overflows is asked for as such, and refused.
        let buffer = |block: Option<usize>| {
            let len = block.and_then(|block| block.checked_mul(shape.blocks));
            Buffer::zeroed(len.unwrap_or(usize::MAX))
        };
        let layers = (0..shape.layers)
            .map(|_| Ok((buffer(layout.key_block())?, buffer(layout.value_block())?)))
            .collect::<Result<_>>()?;
        Ok(Self { layout, layers })
    }

    pub(crate) fn bytes(&self) -> usize {
        let numbers =
            |(keys, values): &(Buffer, Buffer)| keys.as_slice().len() + values.as_slice().len();
        self.layers.iter().map(numbers).sum::<usize>() * size_of::<f32>()
    }

    /// A layer's keys and values.
    pub(crate) fn layer(&self, layer: usize) -> Option<(&[f32], &[f32])> {
        let (keys, values) = self.layers.get(layer)?;
        Some((keys.as_slice(), values.as_slice()))
    }

    /// Writes rows [kv_heads, head_dim] of keys and values to their slots, which the caller has checked.
    pub(crate) fn write(&mut self, layer: usize, k: &[f32], v: &[f32], slots: &[u32]) {
        let Some((keys, values)) = self.layers.get_mut(layer) else {
            return;
        };
        let (keys, values) = (keys.as_mut_slice(), values.as_mut_slice());
        let HostLayout {
            block_size,
            kv_heads,
            head_dim,
        } = self.layout;
        let rows = k
            .chunks_exact(head_dim)
            .zip(v.chunks_exact(head_dim))
            .enumerate();
        for (index, (k, v)) in rows {
            let (row, kv_head) = (index / kv_heads, index % kv_heads);
            let slot = slots[row] as usize;
            let (block, offset) = (slot / block_size, slot % block_size);
            let start = self.layout.key_strip(block, kv_head, offset / STRIP) + offset % STRIP;
            for (to, from) in keys[start..].iter_mut().step_by(STRIP).zip(k) {
                *to = *from;
            }
            let start = self.layout.value_row(block, kv_head, offset);
            values[start..start + head_dim].copy_from_slice(v);
        }
    }

    /// Copies whole blocks in every layer, in the order given.
    pub(crate) fn copy_blocks(&mut self, copies: &[(u32, u32)]) {
        let sizes = (self.layout.key_block(), self.layout.value_block());
        let (Some(key_block), Some(value_block)) = sizes else {
            return;
        };
        for (keys, values) in &mut self.layers {
            for (from, to) in copies {
                let (from, to) = (*from as usize, *to as usize);
                keys.as_mut_slice()
                    .copy_within(from * key_block..(from + 1) * key_block, to * key_block);
                values.as_mut_slice().copy_within(
                    from * value_block..(from + 1) * value_block,
                    to * value_block,
                );
            }
        }
    }

    /// The keys and values at some slots, as rows [kv_heads, head_dim]: for the plain path and for tests.
    pub(crate) fn read(&self, layer: usize, slots: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let HostLayout {
            block_size,
            kv_heads,
            head_dim,
        } = self.layout;
        let Some((keys, values)) = self.layer(layer) else {
            return (vec![], vec![]);
        };
        let len = slots.len() * kv_heads * head_dim;
        let (mut k, mut v) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for slot in slots {
            let (block, offset) = (*slot as usize / block_size, *slot as usize % block_size);
            for kv_head in 0..kv_heads {
                let start = self.layout.key_strip(block, kv_head, offset / STRIP) + offset % STRIP;
                k.extend(keys[start..].iter().step_by(STRIP).take(head_dim));
                let start = self.layout.value_row(block, kv_head, offset);
                v.extend(&values[start..start + head_dim]);
            }
        }
        (k, v)
    }
}
