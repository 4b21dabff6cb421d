//! Attention over the blocks of a cache and without one.

use candle_core::{DType, Device};

use super::emulator::{Float, assert_close, compute, noise};
use crate::attention::{AttentionConfig, Span, paged_attention_plain};
use crate::cuda::Attention;
use crate::cuda::work::suffix;
use crate::dense_attention::dense_attention_plain;
use crate::full_attention::full_attention_plain;
use crate::kv_cache::{CacheShape, KvCache};

fn name(float: Float) -> &'static str {
    suffix(float.dtype()).unwrap()
}

/// One sequence: its new rows, and the keys that the last of them sees.
type Lengths = (usize, usize);

struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    block_size: usize,
    lengths: Vec<Lengths>,
    config: AttentionConfig,
}

impl Case {
    fn new(
        (heads, kv_heads, head_dim): (usize, usize, usize),
        block_size: usize,
        lengths: &[Lengths],
    ) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            block_size,
            lengths: lengths.to_vec(),
            config: AttentionConfig::causal(head_dim),
        }
    }

    /// Blocks interleaved and from the end, so that no sequence has them in order.
    fn tables(&self) -> (usize, Vec<Vec<u32>>) {
        let needed: Vec<usize> = self
            .lengths
            .iter()
            .map(|(_, context)| context.div_ceil(self.block_size))
            .collect();
        let blocks: usize = needed.iter().sum::<usize>() + 2;
        let mut next = blocks as u32;
        let mut tables = vec![vec![]; needed.len()];
        for turn in 0..needed.iter().copied().max().unwrap_or(0) {
            for (table, needed) in tables.iter_mut().zip(&needed) {
                if turn < *needed {
                    next -= 1;
                    table.push(next);
                }
            }
        }
        (blocks, tables)
    }

    /// Runs it by the kernels and by candle, for a GPU of so many multiprocessors; gives the kernels that ran.
    fn check(&self, float: Float, causal: bool, multiprocessors: usize) -> Vec<String> {
        let (blocks, tables) = self.tables();
        let shape = CacheShape {
            layers: 1,
            blocks,
            block_size: self.block_size,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
        };
        let slots = blocks * self.block_size;
        let sizes = [slots, self.kv_heads, self.head_dim];
        let (k, v) = (noise(&sizes, 1, float), noise(&sizes, 2, float));
        let mut cache = KvCache::plain(shape, &Device::Cpu, DType::F32).unwrap();
        cache
            .write(0, &k, &v, &(0..slots as u32).collect::<Vec<_>>())
            .unwrap();
        let mut row = 0;
        let mut spans = vec![];
        for ((rows, context), blocks) in self.lengths.iter().zip(&tables) {
            spans.push(Span {
                rows: row..row + rows,
                context: *context,
                blocks,
            });
            row += rows;
        }
        let q = noise(&[row, self.heads, self.head_dim], 3, float);
        let attention = Attention {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            block_size: self.block_size,
            spans: &spans,
            causal,
            window: self.config.window,
            scale: self.config.scale,
            softcap: self.config.softcap,
        };
        let work = attention.work(float.dtype(), multiprocessors).unwrap();
        let found = compute(&work, float, &[&q, &k, &v]);
        let expected = match causal {
            true => paged_attention_plain(&q, &cache, 0, &spans, &self.config),
            false => full_attention_plain(&q, &cache, 0, &spans, self.config.scale),
        };
        assert_close(
            &found,
            &expected.unwrap(),
            float,
            &format!("{:?}", self.lengths),
        );
        work.launches
            .into_iter()
            .map(|launch| launch.kernel)
            .collect()
    }
}

#[test]
fn decoding_shares_out_the_keys() {
    let lengths = [(1, 1), (1, 64), (1, 65), (1, 700), (2, 333)];
    let case = Case::new((8, 2, 64), 16, &lengths);
    for float in [Float::Bf16, Float::F16] {
        let few = format!("few_{}_64", name(float));
        // With one multiprocessor there is enough to do for all thread blocks without sharing keys out.
        assert_eq!(case.check(float, true, 1), std::slice::from_ref(&few));
        assert_eq!(
            case.check(float, true, 132),
            [few, format!("join_{}", name(float))]
        );
    }
}

#[test]
fn prompts_and_decoding_side_by_side() {
    let lengths = [(70, 70), (1, 40), (0, 12), (33, 150), (5, 5)];
    for (sizes, float) in [
        ((6, 3, 128), Float::Bf16),
        ((4, 4, 80), Float::F16),
        ((3, 1, 40), Float::F16),
    ] {
        let kernels = Case::new(sizes, 32, &lengths).check(float, true, 4);
        let size = if sizes.2 > 64 { 128 } else { 64 };
        for kind in ["many", "few"] {
            let kernel = format!("{kind}_{}_{size}", name(float));
            assert!(
                kernels.contains(&kernel),
                "{kernel} is not among {kernels:?}"
            );
        }
    }
}

#[test]
fn windows_caps_and_large_heads() {
    for (window, softcap) in [(Some(37), None), (Some(100), Some(2.0)), (None, Some(5.0))] {
        let mut case = Case::new((4, 2, 256), 16, &[(60, 200), (1, 300), (3, 3)]);
        (case.config.window, case.config.softcap) = (window, softcap);
        // On a large GPU prompts are few queries, too.
        assert_eq!(
            case.check(Float::F16, true, 2),
            ["few_f16_256", "many_f16_256"]
        );
        let kernels = case.check(Float::F16, true, 64);
        assert!(
            kernels.iter().all(|name| !name.starts_with("many")),
            "{kernels:?}"
        );
    }
}

#[test]
fn every_query_over_all_keys() {
    // More queries than keys, as pictures over a prompt; blocks of odd sizes, as an encoder's windows.
    let case = Case::new((5, 5, 64), 77, &[(100, 77), (4, 50)]);
    for float in [Float::Bf16, Float::F16] {
        case.check(float, false, 8);
    }
}

#[test]
fn a_batch_of_samples_is_a_block_each() {
    let (batch, queries, keys, heads, head_dim) = (2, 66, 129, 3, 72);
    let float = Float::F16;
    let of = |rows, seed| noise(&[batch, rows, heads * head_dim], seed, float);
    let (q, k, v) = (of(queries, 4), of(keys, 5), of(keys, 6));
    let samples = crate::dense_attention::samples(batch, queries, keys);
    let spans = samples.spans();
    let attention = samples.attention((heads, head_dim), 0.1, &spans);
    let work = attention.work(float.dtype(), 8).unwrap();
    let found = compute(&work, float, &[&q, &k, &v]);
    let expected = dense_attention_plain((&q, &k, &v), heads, 0.1, None).unwrap();
    assert_close(&found, &expected, float, "samples");
}

#[test]
fn sizes_and_dtypes_without_a_kernel_are_left() {
    for head_dim in [0, 20, 264, 512] {
        let attention = Attention {
            heads: 1,
            kv_heads: 1,
            head_dim,
            block_size: 16,
            spans: &[],
            causal: true,
            window: None,
            scale: 1.0,
            softcap: None,
        };
        assert!(attention.work(DType::F16, 1).is_none(), "{head_dim}");
    }
}

/// What a recorded pass depends on.
#[test]
fn sequences_that_grow_change_their_launches_a_few_times() {
    let blocks: Vec<u32> = (0..1024).collect();
    let launches = |contexts: [usize; 2]| {
        let spans: Vec<Span<'_>> = (0..)
            .zip(contexts)
            .map(|(row, context)| Span {
                rows: row..row + 1,
                context,
                blocks: &blocks,
            })
            .collect();
        let attention = Attention {
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            block_size: 16,
            spans: &spans,
            causal: true,
            window: None,
            scale: 0.1,
            softcap: None,
        };
        let work = attention.work(DType::BF16, 132).unwrap();
        (work.launches, work.numbers)
    };
    let (one, two) = (launches([1200, 40]), launches([1300, 90]));
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1);
    let mut seen = vec![];
    for context in 1..16_000 {
        let (launches, _) = launches([context, 7]);
        if !seen.contains(&launches) {
            seen.push(launches);
        }
    }
    assert!((2..=6).contains(&seen.len()), "{}", seen.len());
}
