//! Attention through flash-attn's kernels, where they apply: they keep no matrix of scores, and take a whole ragged batch at once.
//! Apart from `attention` and `dense_attention`, which ask here first, because only builds with the feature `flash-attn` have it.

use crate::attention::{self, AttentionConfig, Span};
use crate::dense_attention;
use crate::device;
use crate::error::Result;
use crate::kv_cache::{KvCache, Storage};
use crate::page_table::PageTable;
use candle_core::{DType, Tensor};
use candle_flash_attn::{flash_attn, flash_attn_varlen_paged_windowed};

/// The largest heads that there are kernels for, paged and not (`HEADDIM_SWITCH` in static_switch.h, `run_mha_fwd` in flash_api.cu).
const LARGEST_HEAD: usize = 512;
/// Keys that the paged kernel takes at a time, all from one block (`run_mha_fwd_splitkv_paged_dispatch`).
const PAGE: usize = 32;

/// [`attention::paged_attention`], or `None` where the kernels do not apply.
///
/// # Errors
/// As for [`attention::paged_attention`].
pub(crate) fn paged(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    config: &AttentionConfig,
) -> Result<Option<Tensor>> {
    let (rows, heads, head_dim) = attention::check(q, cache, layer, spans, config)?;
    let Storage::Plain(layers) = cache.storage() else {
        return Ok(None);
    };
    let Some((keys, values)) = layers.get(layer) else {
        return Ok(None);
    };
    let shape = cache.shape();
    if !apply([q, keys], head_dim) || !shape.block_size.is_multiple_of(PAGE) {
        return Ok(None);
    }
    let Some(table) = PageTable::new(spans, shape.block_size, q.device())? else {
        return Ok(None);
    };
    let pages = (shape.blocks, shape.block_size, shape.kv_heads, head_dim);
    // The mask (mask.h) lets row i see keys from i + keys - rows - left to i + keys - rows + right: the last row the last key.
    let (left, right) = (config.window.map(|window| window - 1), Some(0));
    let out = flash_attn_varlen_paged_windowed(
        &q.contiguous()?,
        &keys.reshape(pages)?,
        &values.reshape(pages)?,
        &table.rows,
        &table.keys,
        &table.blocks,
        None,
        table.most_rows,
        table.most_keys,
        config.scale,
        left,
        right,
        shape.block_size,
        config.softcap,
    )?;
    Ok(Some(out.reshape((rows, heads * head_dim))?))
}

/// [`dense_attention::dense_attention`] without a bias, or `None` where the kernels do not apply.
///
/// # Errors
/// As for [`dense_attention::dense_attention`].
pub(crate) fn dense(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    scale: f64,
) -> Result<Option<Tensor>> {
    let shape = dense_attention::Shape::check((q, k, v), heads, None)?;
    if shape.batch * shape.queries == 0 || !apply([q, k, v], shape.head_dim) {
        return Ok(None);
    }
    let by_head = |x: &Tensor, rows| x.reshape((shape.batch, rows, heads, shape.head_dim));
    let (q4, k4, v4) = (
        by_head(q, shape.queries)?,
        by_head(k, shape.keys)?,
        by_head(v, shape.keys)?,
    );
    let out = flash_attn(&q4, &k4, &v4, scale as f32, false)?;
    Ok(Some(out.reshape(q.shape())?))
}

/// Whether there are kernels for tensors of these dtypes, with heads of this size, on their GPU.
fn apply<const N: usize>(tensors: [&Tensor; N], head_dim: usize) -> bool {
    let dtype = tensors[0].dtype();
    matches!(dtype, DType::F16 | DType::BF16)
        && tensors.iter().all(|tensor| tensor.dtype() == dtype)
        && head_dim.is_multiple_of(8)
        && head_dim <= LARGEST_HEAD
        && device::compute_capability(tensors[0].device()).is_some_and(|(major, _)| major >= 8)
}
