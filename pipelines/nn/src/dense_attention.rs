//! Attention without a cache: every query of a sample over every key of the same sample, as image models and their text encoders
//! have it. Apart from `attention` and `full_attention`, whose keys lie in the blocks of a cache.

use crate::error::{NnError, Result};
use candle_core::{D, DType, Tensor};

/// softmax(q·kᵀ·scale + bias)·v for each head.
///
/// `q` [batch, queries, heads · head_dim], `k` and `v` [batch, keys, heads · head_dim], as linear layers give them; `bias`, where
/// there is one, [1 or batch, 1 or heads, queries, keys]. Gives [batch, queries, heads · head_dim]. Softmax is in f32 whatever the
/// dtype. On the CPU what one of the batch gives has the same bits whatever else is in the batch.
///
/// # Errors
/// [`NnError::Input`] when the shapes do not go together.
pub fn dense_attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let (keys_batch, keys, keys_width) = k.dims3()?;
    let fits = heads > 0
        && width.is_multiple_of(heads)
        && (keys_batch, keys_width) == (batch, width)
        && k.dims() == v.dims()
        && keys > 0;
    if !fits {
        return Err(NnError::Input {
            what: "attention",
            reason: format!(
                "queries of shape {:?}, keys {:?} and values {:?} in {heads} heads",
                q.dims(),
                k.dims(),
                v.dims()
            ),
        });
    }
    let by_head = |x: &Tensor, rows: usize| -> Result<Tensor> {
        let x = x.reshape((batch, rows, heads, width / heads))?;
        Ok(x.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (by_head(q, queries)?, by_head(k, keys)?, by_head(v, keys)?);
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? * scale)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(&bias.to_dtype(DType::F32)?)?,
        None => scores,
    };
    let largest = scores.max_keepdim(D::Minus1)?;
    let weights = scores.broadcast_sub(&largest)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    let out = weights.to_dtype(v.dtype())?.matmul(&v)?;
    Ok(out
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, queries, width))?)
}
