//! Attention without a cache: every query of a sample over every key of the same sample, as image models and their text encoders
//! have it. On the CPU no matrix of scores is ever in memory. Apart from `attention` and `full_attention`, whose keys lie in the
//! blocks of a cache.

use crate::attention::Span;
use crate::cuda::{self, Attention};
use crate::error::{NnError, Result};
use crate::host::{with_f32, written};
use crate::kernels::Isa;
use crate::kernels::dense_attention::{Bias, DenseAttention, attend};
use candle_core::{D, DType, Device, Tensor};

/// Scores at a time in candle's operations: 256 MiB of f32, of which three copies live at once.
const PLAIN_SCORES: usize = 1 << 26;

/// softmax(q·kᵀ·scale + bias)·v for each head.
///
/// `q` [batch, queries, heads · head_dim], `k` and `v` [batch, keys, heads · head_dim], as linear layers give them; `bias`, where
/// there is one, [1 or batch, 1 or heads, queries, keys]. Gives [batch, queries, heads · head_dim]. Softmax is in f32 whatever the
/// dtype. On the CPU what one of the batch gives has the same bits whatever else is in the batch.
///
/// # Errors
/// [`NnError::Input`] when the shapes do not go together; on the CPU, when a tensor is not f32.
pub fn dense_attention(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    #[cfg(feature = "flash-attn")]
    if bias.is_none()
        && let Some(out) = crate::flash_attention::dense((q, k, v), heads, scale)?
    {
        return Ok(out);
    }
    match q.device().is_cpu() {
        true => on_host(Isa::detect(), (q, k, v), (heads, scale), bias),
        false => match on_gpu((q, k, v), heads, scale, bias)? {
            Some(out) => Ok(out),
            None => dense_attention_plain((q, k, v), heads, scale, bias),
        },
    }
}

/// By the kernels of a cache's attention, where they can: the keys of a sample are one block. They know no bias.
fn on_gpu(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Option<Tensor>> {
    let shape = Shape::check((q, k, v), heads, bias)?;
    if bias.is_some() {
        return Ok(None);
    }
    let samples = samples(shape.batch, shape.queries, shape.keys);
    let spans = samples.spans();
    let attention = samples.attention((heads, shape.head_dim), scale as f32, &spans);
    cuda::attend((q, k, v), &attention)
}

/// The samples of a batch as sequences of a cache.
pub(crate) struct Samples {
    queries: usize,
    keys: usize,
    /// 0, 1, 2, ...: the block of each.
    blocks: Vec<u32>,
}

pub(crate) fn samples(batch: usize, queries: usize, keys: usize) -> Samples {
    Samples {
        queries,
        keys,
        blocks: (0..batch as u32).collect(),
    }
}

impl Samples {
    pub(crate) fn spans(&self) -> Vec<Span<'_>> {
        let rows = |sample| sample * self.queries..(sample + 1) * self.queries;
        self.blocks
            .chunks(1)
            .enumerate()
            .map(|(sample, blocks)| Span {
                rows: rows(sample),
                context: self.keys,
                blocks,
            })
            .collect()
    }

    pub(crate) fn attention<'a>(
        &self,
        (heads, head_dim): (usize, usize),
        scale: f32,
        spans: &'a [Span<'a>],
    ) -> Attention<'a> {
        Attention {
            heads,
            kv_heads: heads,
            head_dim,
            block_size: self.keys,
            spans,
            causal: false,
            window: None,
            scale,
            softcap: None,
        }
    }
}

/// [`dense_attention`] in candle operations: the path of devices without a kernel of ours, and what the kernel is tested against.
///
/// # Errors
/// As for [`dense_attention`].
pub fn dense_attention_plain(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    scale: f64,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let Shape {
        batch,
        queries,
        keys,
        head_dim,
        ..
    } = Shape::check((q, k, v), heads, bias)?;
    let by_head = |x: &Tensor, rows: usize| -> Result<Tensor> {
        let x = x.reshape((batch, rows, heads, head_dim))?;
        Ok(x.transpose(1, 2)?.contiguous()?)
    };
    let (q, k, v) = (by_head(q, queries)?, by_head(k, keys)?, by_head(v, keys)?);
    // Some queries at a time: all scores of a picture of a megapixel would fill a GPU.
    let at_once = (PLAIN_SCORES / (batch * heads * keys).max(1)).clamp(1, queries.max(1));
    let mut outs = Vec::with_capacity(queries.div_ceil(at_once));
    for start in (0..queries).step_by(at_once) {
        let count = at_once.min(queries - start);
        let some = q.narrow(2, start, count)?.contiguous()?;
        let scores = (some.matmul(&k.t()?)?.to_dtype(DType::F32)? * scale)?;
        let scores = match bias {
            Some(bias) => {
                scores.broadcast_add(&bias.narrow(2, start, count)?.to_dtype(DType::F32)?)?
            }
            None => scores,
        };
        let largest = scores.max_keepdim(D::Minus1)?;
        let weights = scores.broadcast_sub(&largest)?.exp()?;
        let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        outs.push(weights.to_dtype(v.dtype())?.matmul(&v)?);
    }
    let out = Tensor::cat(&outs, 2)?;
    Ok(out
        .transpose(1, 2)?
        .contiguous()?
        .reshape((batch, queries, heads * head_dim))?)
}

/// Sizes that go together.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) head_dim: usize,
    /// Samples and heads that the bias has, if there is one.
    bias: (usize, usize),
}

impl Shape {
    pub(crate) fn check(
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        heads: usize,
        bias: Option<&Tensor>,
    ) -> Result<Self> {
        let (batch, queries, width) = q.dims3()?;
        let (keys_batch, keys, keys_width) = k.dims3()?;
        let fits = heads > 0
            && width > 0
            && width.is_multiple_of(heads)
            && (keys_batch, keys_width) == (batch, width)
            && k.dims() == v.dims()
            && keys > 0;
        if !fits {
            return Err(input(format!(
                "queries of shape {:?}, keys {:?} and values {:?} in {heads} heads",
                q.dims(),
                k.dims(),
                v.dims()
            )));
        }
        let (samples, bias_heads) = match bias.map(Tensor::dims) {
            None => (1, 1),
            Some(&[samples, of_heads, rows, columns])
                if (samples == 1 || samples == batch)
                    && (of_heads == 1 || of_heads == heads)
                    && (rows, columns) == (queries, keys) =>
            {
                (samples, of_heads)
            }
            Some(other) => {
                return Err(input(format!(
                    "bias of shape {other:?}; [1 or {batch}, 1 or {heads}, {queries}, {keys}] is wanted"
                )));
            }
        };
        Ok(Self {
            batch,
            queries,
            keys,
            head_dim: width / heads,
            bias: (samples, bias_heads),
        })
    }
}

fn on_host(
    isa: Isa,
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    (heads, scale): (usize, f64),
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let shape = Shape::check((q, k, v), heads, bias)?;
    let matrix = shape.queries * shape.keys;
    let (samples, of_heads) = shape.bias;
    let bias = match bias {
        // A mask may come in another dtype, as it does to candle's operations.
        Some(bias) => Some(bias.to_dtype(DType::F32)?),
        None => None,
    };
    let run = |q: &[f32], k: &[f32], v: &[f32], bias: Option<&[f32]>| {
        let attention = DenseAttention {
            q,
            k,
            v,
            batch: shape.batch,
            queries: shape.queries,
            keys: shape.keys,
            heads,
            head_dim: shape.head_dim,
            scale: scale as f32,
            bias: bias.map(|numbers| Bias {
                numbers,
                sample: if samples > 1 { of_heads * matrix } else { 0 },
                head: if of_heads > 1 { matrix } else { 0 },
            }),
        };
        // SAFETY: `check` has seen that shapes go together, and `with_f32` hands out all numbers; the output is as long as q, and
        // every query's is written.
        unsafe { written(q.len(), |out| attend(isa, &attention, out)) }
    };
    let read = |what: &Tensor, then: &dyn Fn(&[f32]) -> Result<Vec<f32>>| {
        with_f32(what, "attention", then)
    };
    let numbers = read(q, &|q| {
        read(k, &|k| {
            read(v, &|v| match &bias {
                Some(bias) => read(bias, &|bias| run(q, k, v, Some(bias))),
                None => run(q, k, v, None),
            })
        })
    })?;
    Ok(Tensor::from_vec(numbers, q.shape(), &Device::Cpu)?)
}

fn input(reason: String) -> NnError {
    NnError::Input {
        what: "attention",
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], seed: f32, size: f32) -> Tensor {
        let numbers: Vec<f32> = (0..shape.iter().product())
            .map(|i: usize| (i as f32 * 12.9898 + seed).sin() * size)
            .collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Batch, queries, keys, heads, head_dim.
    const CASES: [[usize; 5]; 8] = [
        [1, 1, 1, 1, 1],
        [2, 77, 77, 3, 8],
        [3, 5, 300, 2, 17],
        [2, 200, 129, 2, 40],
        [1, 50, 131, 1, 80],
        [2, 33, 9, 5, 3],
        [1, 17, 128, 1, 160],
        [1, 400, 3, 1, 4],
    ];

    fn qkv([batch, queries, keys, heads, head_dim]: [usize; 5]) -> (Tensor, Tensor, Tensor) {
        let width = heads * head_dim;
        // Large enough that softmax is peaked.
        (
            tensor(&[batch, queries, width], 1.0, 3.0),
            tensor(&[batch, keys, width], 2.0, 2.0),
            tensor(&[batch, keys, width], 3.0, 1.0),
        )
    }

    #[test]
    fn the_kernel_gives_what_candles_operations_give() {
        for case in CASES {
            let [batch, queries, keys, heads, head_dim] = case;
            let (q, k, v) = qkv(case);
            let scale = (head_dim as f64).powf(-0.5);
            let biases = [
                None,
                Some([1, 1]),
                Some([1, heads]),
                Some([batch, 1]),
                Some([batch, heads]),
            ];
            for of in biases {
                let bias = of.map(|[b, h]| tensor(&[b, h, queries, keys], 4.0, 2.0));
                let expected =
                    dense_attention_plain((&q, &k, &v), heads, scale, bias.as_ref()).unwrap();
                for isa in Isa::all_available() {
                    let found = on_host(isa, (&q, &k, &v), (heads, scale), bias.as_ref()).unwrap();
                    assert_eq!(found.dims(), expected.dims());
                    for (a, b) in flat(&found).iter().zip(&flat(&expected)) {
                        assert!((a - b).abs() < 1e-5, "{isa:?} {case:?} {of:?}: {a}, {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn masked_keys_are_not_seen() {
        let case = [2, 70, 300, 2, 8];
        let (q, k, v) = qkv(case);
        // Only the last few keys: blocks before them are masked as a whole.
        let seen = 290;
        let mask: Vec<f32> = (0..70 * 300)
            .map(|i| {
                if i % 300 < seen {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(mask, (1, 1, 70, 300), &Device::Cpu).unwrap();
        let some = |x: &Tensor| x.narrow(1, seen, 10).unwrap();
        let expected = dense_attention_plain((&q, &some(&k), &some(&v)), 2, 0.5, None).unwrap();
        for isa in Isa::all_available() {
            let found = on_host(isa, (&q, &k, &v), (2, 0.5), Some(&mask)).unwrap();
            for (a, b) in flat(&found).iter().zip(&flat(&expected)) {
                assert!((a - b).abs() < 1e-5, "{isa:?}: {a}, {b}");
            }
        }
    }

    #[test]
    fn a_sample_and_a_query_have_the_same_bits_alone_and_in_company() {
        for case in CASES {
            let [batch, queries, _, heads, _] = case;
            let (q, k, v) = qkv(case);
            for isa in Isa::all_available() {
                let run = |q: &Tensor, k: &Tensor, v: &Tensor| {
                    flat(&on_host(isa, (q, k, v), (heads, 0.3), None).unwrap())
                };
                let all = run(&q, &k, &v);
                let of = |x: &Tensor| x.narrow(0, batch - 1, 1).unwrap();
                let alone = run(&of(&q), &of(&k), &of(&v));
                assert_eq!(alone, all[all.len() - alone.len()..], "{isa:?} {case:?}");
                let last = of(&q).narrow(1, queries - 1, 1).unwrap();
                let alone = run(&last, &of(&k), &of(&v));
                assert_eq!(alone, all[all.len() - alone.len()..], "{isa:?} {case:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (q, k, v) = qkv([2, 5, 7, 2, 4]);
        let attend = |q, k, v, heads, bias| dense_attention((q, k, v), heads, 1.0, bias);
        assert!(attend(&q, &k, &v, 2, None).is_ok());
        assert!(attend(&q, &k, &v, 3, None).is_err(), "heads");
        assert!(attend(&q, &k, &q, 2, None).is_err(), "values");
        let none = k.narrow(1, 0, 0).unwrap();
        assert!(attend(&q, &none, &none, 2, None).is_err(), "no keys");
        let bias = tensor(&[1, 2, 7, 5], 1.0, 1.0);
        assert!(attend(&q, &k, &v, 2, Some(&bias)).is_err(), "bias");
        let half = q.to_dtype(DType::F16).unwrap();
        assert!(attend(&half, &k, &v, 2, None).is_err(), "half");
        let empty = q.narrow(1, 0, 0).unwrap();
        let made = attend(&empty, &k, &v, 2, None).unwrap();
        assert_eq!(made.dims(), [2, 0, 8]);
    }
}
