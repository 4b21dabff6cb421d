//! Attention of new rows over a paged cache, ragged: sequences of any length side by side, without padding.
//! The kernel is in `kernels::attention`; here are its types, its checks, and the plain path in candle operations.

use crate::cuda;
use crate::error::{NnError, Result};
use crate::host::with_f32;
use crate::kernels::Isa;
use crate::kernels::attention::{Attention, attend};
use crate::kv_cache::{KvCache, Storage};
use candle_core::{D, DType, Device, Tensor};
use std::ops::Range;

/// One sequence in a batch.
#[derive(Debug, Clone)]
pub struct Span<'a> {
    /// Its new rows in the queries. Spans follow each other without gaps, from row 0 to the last.
    pub rows: Range<usize>,
    /// Keys that its last row sees, those of the new rows included; all of them are in the cache already.
    pub context: usize,
    /// Its blocks, in order, at least as many as the context needs.
    pub blocks: &'a [u32],
}

/// What a model says about its attention, which is causal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// What scores are multiplied by: 1/√head_dim as a rule.
    pub scale: f32,
    /// A row sees itself and the `window - 1` positions before it.
    pub window: Option<usize>,
    /// Scores become cap·tanh(score / cap), as in Gemma 2.
    pub softcap: Option<f32>,
}

impl AttentionConfig {
    /// Full causal attention with scores over √head_dim.
    pub fn causal(head_dim: usize) -> Self {
        Self {
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: None,
            softcap: None,
        }
    }
}

/// Attends with `q` [rows, heads, head_dim] over one layer of the cache; the result is [rows, heads · head_dim].
///
/// `heads` is a multiple of the cache's kv heads, and head h reads kv head h / (heads / kv_heads). On the CPU, a row's result
/// has the same bits alone, in any batch, and however its prompt was cut into chunks.
///
/// # Errors
/// [`NnError::Input`] for shapes that do not fit, spans with gaps, blocks that are not there or too few.
pub fn paged_attention(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    config: &AttentionConfig,
) -> Result<Tensor> {
    #[cfg(feature = "flash-attn")]
    if let Some(out) = crate::flash_attention::paged(q, cache, layer, spans, config)? {
        return Ok(out);
    }
    match cache.storage() {
        Storage::Host(_) => paged_attention_on(Isa::detect(), q, cache, layer, spans, config),
        Storage::Plain(layers) => {
            let (_, heads, _) = check(q, cache, layer, spans, config)?;
            let attention = fused(cache, heads, spans, (config, true));
            match fused_attention(q, layers, layer, &attention)? {
                Some(out) => Ok(out),
                None => paged_attention_plain(q, cache, layer, spans, config),
            }
        }
    }
}

/// What kernels of ours are told of an attention over a cache, causal or not.
pub(crate) fn fused<'a>(
    cache: &KvCache,
    heads: usize,
    spans: &'a [Span<'a>],
    (config, causal): (&AttentionConfig, bool),
) -> cuda::Attention<'a> {
    let shape = cache.shape();
    cuda::Attention {
        heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        block_size: shape.block_size,
        spans,
        causal,
        window: config.window,
        scale: config.scale,
        softcap: config.softcap,
    }
}

/// The same by kernels of ours, where they can: [rows, heads · head_dim]. The caller has checked the spans.
pub(crate) fn fused_attention(
    q: &Tensor,
    layers: &[(Tensor, Tensor)],
    layer: usize,
    attention: &cuda::Attention<'_>,
) -> Result<Option<Tensor>> {
    let Some((k, v)) = layers.get(layer) else {
        return Err(input(format!("no layer {layer}")));
    };
    let out = cuda::attend((q, k, v), attention)?;
    Ok(out.map(|out| out.flatten_from(1)).transpose()?)
}

/// [`paged_attention`] with the kernels of a given instruction set, for a cache on the CPU.
pub(crate) fn paged_attention_on(
    isa: Isa,
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    config: &AttentionConfig,
) -> Result<Tensor> {
    let Storage::Host(host) = cache.storage() else {
        return Err(input("the kernel reads a cache on the CPU".to_owned()));
    };
    let (rows, heads, head_dim) = check(q, cache, layer, spans, config)?;
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
            config: *config,
            causal: true,
        };
        // SAFETY: `check` has seen that spans are disjoint and that their blocks are there and cover the context.
        unsafe { attend(isa, &attention, spans, &mut out) };
        Ok(out)
    })?;
    Ok(Tensor::from_vec(
        out,
        (rows, heads * head_dim),
        &Device::Cpu,
    )?)
}

/// [`paged_attention`] in candle operations, sequence by sequence: the path of devices without a kernel of ours, and what the
/// kernel is tested against.
///
/// # Errors
/// As for [`paged_attention`].
pub fn paged_attention_plain(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    config: &AttentionConfig,
) -> Result<Tensor> {
    let (rows, heads, head_dim) = check(q, cache, layer, spans, config)?;
    if rows == 0 {
        return Ok(q.reshape((0, heads * head_dim))?);
    }
    let outs = spans
        .iter()
        .filter(|span| !span.rows.is_empty())
        .map(|span| attend_plain(q, cache, layer, span, config))
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&outs, 0)?)
}

/// One sequence: its keys gathered, scores [kv heads, group · rows, context], softmax in f32.
fn attend_plain(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    span: &Span<'_>,
    config: &AttentionConfig,
) -> Result<Tensor> {
    let (_, heads, head_dim) = q.dims3()?;
    let shape = cache.shape();
    let (new, context) = (span.rows.len(), span.context);
    let group = heads / shape.kv_heads;
    let slots: Vec<u32> = (0..context)
        .filter_map(|position| {
            let block = span.blocks.get(position / shape.block_size)?;
            Some(block * shape.block_size as u32 + (position % shape.block_size) as u32)
        })
        .collect();
    let (k, v) = cache.read(layer, &slots)?;
    // [kv heads, context, head_dim]
    let (k, v) = (
        k.transpose(0, 1)?.contiguous()?,
        v.transpose(0, 1)?.contiguous()?,
    );
    let q = q
        .narrow(0, span.rows.start, new)?
        .reshape((new, shape.kv_heads, group, head_dim))?
        .permute((1, 2, 0, 3))?
        .contiguous()?
        .reshape((shape.kv_heads, group * new, head_dim))?;
    let scores = q.matmul(&k.transpose(1, 2)?)?.to_dtype(DType::F32)?;
    let mut scores = (scores * f64::from(config.scale))?;
    if let Some(cap) = config.softcap {
        let cap = f64::from(cap);
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    let masked = (0..new).flat_map(|row| {
        let position = context - new + row;
        let first = config
            .window
            .map_or(0, |w| (position + 1).saturating_sub(w));
        (0..context).map(move |key| {
            if (first..=position).contains(&key) {
                0.0
            } else {
                f32::NEG_INFINITY
            }
        })
    });
    let mask = Tensor::from_vec(masked.collect::<Vec<f32>>(), (1, new, context), q.device())?;
    let scores = scores
        .reshape((shape.kv_heads * group, new, context))?
        .broadcast_add(&mask)?;
    let largest = scores.max_keepdim(D::Minus1)?;
    let weights = scores.broadcast_sub(&largest)?.exp()?;
    let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    let out = weights
        .to_dtype(v.dtype())?
        .reshape((shape.kv_heads, group * new, context))?
        .matmul(&v)?
        .reshape((heads, new, head_dim))?
        .transpose(0, 1)?
        .contiguous()?;
    Ok(out.reshape((new, heads * head_dim))?)
}

/// Checks everything that the kernel relies on; gives back rows, heads and head_dim.
pub(crate) fn check(
    q: &Tensor,
    cache: &KvCache,
    layer: usize,
    spans: &[Span<'_>],
    config: &AttentionConfig,
) -> Result<(usize, usize, usize)> {
    let shape = cache.shape();
    let (rows, heads, head_dim) = q.dims3()?;
    cache.check_layer(layer)?;
    if head_dim != shape.head_dim || heads == 0 || heads % shape.kv_heads != 0 {
        return Err(input(format!(
            "queries of {heads} heads of {head_dim} over keys of {} heads of {}",
            shape.kv_heads, shape.head_dim
        )));
    }
    if config.window == Some(0) || config.softcap.is_some_and(|cap| cap <= 0.0) {
        return Err(input(format!(
            "{config:?}; a window and a softcap are positive"
        )));
    }
    check_spans(cache, rows, spans)?;
    Ok((rows, heads, head_dim))
}

/// That spans follow each other to the last of `rows`, and that their blocks are there and cover their contexts.
pub(crate) fn check_spans(cache: &KvCache, rows: usize, spans: &[Span<'_>]) -> Result<()> {
    let shape = cache.shape();
    let mut next = 0;
    for span in spans {
        let fits = span.rows.start == next
            && span.rows.end >= next
            && span.rows.end <= rows
            && span.context >= span.rows.len()
            && span.context <= span.blocks.len().saturating_mul(shape.block_size)
            && span
                .blocks
                .iter()
                .all(|block| (*block as usize) < shape.blocks);
        if !fits {
            return Err(input(format!(
                "rows {:?} of {rows} after row {next}, with {} keys in {} blocks of {}, numbered below {}",
                span.rows,
                span.context,
                span.blocks.len(),
                shape.block_size,
                shape.blocks
            )));
        }
        next = span.rows.end;
    }
    if next != rows {
        return Err(input(format!("spans end at row {next} of {rows}")));
    }
    Ok(())
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "attention",
        reason,
    }
}
