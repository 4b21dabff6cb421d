//! Attention in which every row of a span sees all of the span's keys: an encoder's self-attention, and a decoder's look at what
//! an encoder has made. The kernel is the causal one's; apart from `attention` because a span may have more rows than keys here.

use crate::attention::{AttentionConfig, Span, fused, fused_attention};
use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::attention::{Attention, attend};
use crate::kv_cache::{KvCache, Storage};
use candle_core::{D, DType, Device, Tensor};

/// Attends with `q` [rows, heads, head_dim] over one layer of the cache; the result is [rows, heads · head_dim]. Every row of a
/// span sees the first `context` keys of its blocks; scores are multiplied by `scale`.
///
/// Spans may share blocks, as the sequences decoded from one window of audio do: rows of one span read them once together. On
/// the CPU a row's result has the same bits alone and in any batch.
///
/// # Errors
/// [`NnError::Input`] for shapes that do not fit, spans with gaps or without keys, blocks that are not there or too few.
pub fn full_attention(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    scale: f32,
) -> Result<Tensor> {
    let (rows, heads, head_dim) = check(q, cache, layer, spans)?;
    let config = AttentionConfig {
        scale,
        window: None,
        softcap: None,
    };
    let host = match cache.storage() {
        Storage::Host(host) => host,
        Storage::Plain(layers) => {
            let attention = fused(cache, heads, spans, (&config, false));
            return match fused_attention(q, layers, layer, &attention)? {
                Some(out) => Ok(out),
                None => full_attention_plain(q, cache, layer, spans, scale),
            };
        }
    };
    let Some((keys, values)) = host.layer(layer) else {
        return Err(input(format!("no layer {layer}")));
    };
    let out = with_f32(q, "queries", |queries| {
        let mut out = vec![0.0; queries.len()];
        let attention = Attention {
            layout: host.layout,
            keys,
            values,
            queries,
            heads,
            config,
            causal: false,
        };
        // SAFETY: `check` has seen that spans are disjoint, that they have keys, and that their blocks are there and cover them.
        unsafe { attend(Isa::detect(), &attention, spans, &mut out) };
        Ok(out)
    })?;
    Ok(Tensor::from_vec(
        out,
        (rows, heads * head_dim),
        &Device::Cpu,
    )?)
}

/// [`full_attention`] in candle operations, span by span: the path of devices without a kernel of ours, and what the kernel is
/// tested against.
///
/// # Errors
/// As for [`full_attention`].
pub fn full_attention_plain(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    scale: f32,
) -> Result<Tensor> {
    let (rows, heads, head_dim) = check(q, cache, layer, spans)?;
    if rows == 0 {
        return Ok(q.reshape((0, heads * head_dim))?);
    }
    let outs = spans
        .iter()
        .filter(|span| !span.rows.is_empty())
        .map(|span| {
            let weights = span_weights(q, cache, layer, span, scale)?;
            let (_, values) = cache.read_span(layer, span.blocks, span.context)?;
            let kv_heads = cache.shape().kv_heads;
            let values = values.transpose(0, 1)?.contiguous()?;
            let new = span.rows.len();
            let out = weights
                .to_dtype(values.dtype())?
                .reshape((kv_heads, heads / kv_heads * new, span.context))?
                .matmul(&values)?
                .reshape((heads, new, head_dim))?;
            Ok(out
                .transpose(0, 1)?
                .contiguous()?
                .reshape((new, heads * head_dim))?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&outs, 0)?)
}

/// What [`full_attention`] multiplies values by: the scores of one span before the softmax, [heads, rows, context] in f32. For
/// those who look at the attention itself, as word timestamps do.
///
/// # Errors
/// As for [`full_attention`].
pub fn full_attention_scores(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    span: &Span<'_>,
    scale: f32,
) -> Result<Tensor> {
    let (_, heads, head_dim) = q.dims3()?;
    let kv_heads = cache.shape().kv_heads;
    check_sizes(heads, head_dim, cache)?;
    check_span(cache, layer, span)?;
    let (keys, _) = cache.read_span(layer, span.blocks, span.context)?;
    let keys = keys.permute((1, 2, 0))?.contiguous()?;
    let new = span.rows.len();
    let group = heads / kv_heads;
    let q = q
        .narrow(0, span.rows.start, new)?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((kv_heads, group * new, head_dim))?;
    let scores = q.matmul(&keys)?.to_dtype(DType::F32)?;
    Ok((scores * f64::from(scale))?.reshape((heads, new, span.context))?)
}

fn span_weights(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    span: &Span<'_>,
    scale: f32,
) -> Result<Tensor> {
    let scores = full_attention_scores(q, cache, layer, span, scale)?;
    let largest = scores.max_keepdim(D::Minus1)?;
    let weights = scores.broadcast_sub(&largest)?.exp()?;
    Ok(weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?)
}

/// Checks everything that the kernel relies on; gives back rows, heads and head_dim.
fn check(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
) -> Result<(usize, usize, usize)> {
    let (rows, heads, head_dim) = q.dims3()?;
    check_sizes(heads, head_dim, cache)?;
    let mut next = 0;
    for span in spans {
        if span.rows.start != next || span.rows.end < next || span.rows.end > rows {
            return Err(input(format!(
                "rows {:?} of {rows} after row {next}",
                span.rows
            )));
        }
        check_span(cache, layer, span)?;
        next = span.rows.end;
    }
    if next != rows {
        return Err(input(format!("spans end at row {next} of {rows}")));
    }
    Ok((rows, heads, head_dim))
}

fn check_sizes(heads: usize, head_dim: usize, cache: &KvCache) -> Result<()> {
    let shape = cache.shape();
    if head_dim != shape.head_dim || heads == 0 || !heads.is_multiple_of(shape.kv_heads) {
        return Err(input(format!(
            "queries of {heads} heads of {head_dim} over keys of {} heads of {}",
            shape.kv_heads, shape.head_dim
        )));
    }
    Ok(())
}

fn check_span(cache: &KvCache, layer: usize, span: &Span<'_>) -> Result<()> {
    let shape = cache.shape();
    cache.check_layer(layer)?;
    let fits = span.context > 0
        && span.context <= span.blocks.len().saturating_mul(shape.block_size)
        && span
            .blocks
            .iter()
            .all(|block| (*block as usize) < shape.blocks);
    if !fits {
        return Err(input(format!(
            "{} keys in {} blocks of {}, numbered below {}; at least one key is wanted",
            span.context,
            span.blocks.len(),
            shape.block_size,
            shape.blocks
        )));
    }
    Ok(())
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "full attention",
        reason,
    }
}
