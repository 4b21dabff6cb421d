//! Paged attention through its public face: the kernel against the plain path, and a row's bits in any company.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use chandler_nn::attention::{AttentionConfig, Span, paged_attention, paged_attention_plain};
use chandler_nn::full_attention::{full_attention, full_attention_plain, full_attention_scores};
use chandler_nn::kv_cache::{BlockPool, BlockTable, CacheShape, KvCache};

const CPU: Device = Device::Cpu;

fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Numbers in -3..3: scores are peaked.
fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let numbers = noise(shape.iter().product(), seed)
        .into_iter()
        .map(|x| 3.0 * x)
        .collect();
    Tensor::from_vec::<_, f32>(numbers, shape, &CPU).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn error(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let largest = b.iter().fold(0f32, |m, x| m.max(x.abs()));
    a.iter()
        .zip(&b)
        .fold(0f32, |m, (a, b)| m.max((a - b).abs()))
        / largest
}

#[derive(Clone, Copy)]
struct Model {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    block_size: usize,
}

/// Sequences of given lengths, all of whose keys are in the cache, in interleaved blocks.
struct Sequences {
    model: Model,
    kernel: KvCache,
    plain: KvCache,
    queries: Vec<Tensor>,
    tables: Vec<BlockTable>,
}

impl Sequences {
    fn new(model: Model, lengths: &[usize]) -> Self {
        let Model {
            heads,
            kv_heads,
            head_dim,
            block_size,
        } = model;
        let blocks = lengths
            .iter()
            .map(|len| len.div_ceil(block_size))
            .sum::<usize>()
            + 3;
        let shape = CacheShape {
            layers: 2,
            blocks,
            block_size,
            kv_heads,
            head_dim,
        };
        let mut kernel = KvCache::new(shape, &CPU, DType::F32).unwrap();
        let mut plain = KvCache::plain(shape, &CPU, DType::F32).unwrap();
        let mut pool = BlockPool::new(blocks, block_size).unwrap();
        let mut tables: Vec<BlockTable> = lengths.iter().map(|_| BlockTable::new()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // Grown a few tokens at a time, so that the blocks of the sequences interleave.
        for start in (0..longest).step_by(7) {
            for (index, table) in tables.iter_mut().enumerate() {
                let end = lengths[index].min(start + 7);
                if start >= end {
                    continue;
                }
                let slots = pool.append(table, end - start).unwrap().slots;
                let seed = (index * 10_000 + start) as u64;
                let k = tensor(&[end - start, kv_heads, head_dim], 2 * seed + 1);
                let v = tensor(&[end - start, kv_heads, head_dim], 2 * seed + 2);
                for cache in [&mut kernel, &mut plain] {
                    cache.write(1, &k, &v, &slots).unwrap();
                }
            }
        }
        let queries = lengths
            .iter()
            .enumerate()
            .map(|(index, len)| tensor(&[*len, heads, head_dim], 77 + index as u64))
            .collect();
        Self {
            model,
            kernel,
            plain,
            queries,
            tables,
        }
    }

    fn config(&self) -> AttentionConfig {
        AttentionConfig::causal(self.model.head_dim)
    }

    /// Attends for rows `parts[i].1` of sequence `parts[i].0`, in one batch.
    fn attend(
        &self,
        parts: &[(usize, std::ops::Range<usize>)],
        config: &AttentionConfig,
    ) -> Tensor {
        self.attend_with(parts, |q, spans| {
            paged_attention(q, &self.kernel, 1, spans, config).unwrap()
        })
    }

    fn attend_with(
        &self,
        parts: &[(usize, std::ops::Range<usize>)],
        attend: impl FnOnce(&Tensor, &[Span<'_>]) -> Tensor,
    ) -> Tensor {
        let mut spans = vec![];
        let mut queries = vec![];
        let mut row = 0;
        for (sequence, rows) in parts {
            queries.push(
                self.queries[*sequence]
                    .narrow(0, rows.start, rows.len())
                    .unwrap(),
            );
            spans.push(Span {
                rows: row..row + rows.len(),
                context: rows.end,
                blocks: self.tables[*sequence].blocks(),
            });
            row += rows.len();
        }
        attend(&Tensor::cat(&queries, 0).unwrap(), &spans)
    }
}

const MODELS: [Model; 5] = [
    Model {
        heads: 6,
        kv_heads: 3,
        head_dim: 20,
        block_size: 16,
    },
    Model {
        heads: 3,
        kv_heads: 3,
        head_dim: 64,
        block_size: 32,
    },
    Model {
        heads: 8,
        kv_heads: 1,
        head_dim: 33,
        block_size: 5,
    },
    Model {
        heads: 7,
        kv_heads: 1,
        head_dim: 128,
        block_size: 16,
    },
    Model {
        heads: 4,
        kv_heads: 2,
        head_dim: 7,
        block_size: 24,
    },
];

#[test]
fn the_kernel_is_the_plain_path() {
    for model in MODELS {
        let sequences = Sequences::new(model, &[1, 70, 150, 13]);
        let causal = sequences.config();
        let configs = [
            causal,
            AttentionConfig {
                window: Some(9),
                ..causal
            },
            AttentionConfig {
                window: Some(70),
                softcap: Some(5.0),
                ..causal
            },
            // Gemma's scale is a setting of its own, and its cap is near what scores reach.
            AttentionConfig {
                scale: 0.9,
                window: None,
                softcap: Some(1.5),
            },
        ];
        for config in configs {
            let parts = [(1, 0..70), (0, 0..1), (2, 100..150), (3, 12..13), (2, 0..3)];
            let ours = sequences.attend(&parts, &config);
            for cache in [&sequences.kernel, &sequences.plain] {
                let plain = sequences.attend_with(&parts, |q, spans| {
                    paged_attention_plain(q, cache, 1, spans, &config).unwrap()
                });
                assert!(error(&ours, &plain) < 1e-5, "{}", error(&ours, &plain));
            }
            // What a cache off the CPU does.
            let dispatched = sequences.attend_with(&parts, |q, spans| {
                paged_attention(q, &sequences.plain, 1, spans, &config).unwrap()
            });
            assert!(error(&ours, &dispatched) < 1e-5);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_company_and_any_cut() {
    for model in MODELS {
        let sequences = Sequences::new(model, &[150, 37]);
        let width = model.heads * model.head_dim;
        for (window, softcap) in [(None, None), (Some(20), None), (Some(65), Some(2.0))] {
            let config = AttentionConfig {
                window,
                softcap,
                ..sequences.config()
            };
            let whole = numbers(&sequences.attend(&[(0, 0..150)], &config));
            for cut in [1, 2, 3, 16, 50, 64, 149] {
                let parts: Vec<_> = (0..150)
                    .step_by(cut)
                    .map(|start| (0, start..150.min(start + cut)))
                    .collect();
                let together = numbers(&sequences.attend(&parts, &config));
                assert!(together == whole, "cut into pieces of {cut}");
                let part = &parts[parts.len() / 2];
                let alone = numbers(&sequences.attend(std::slice::from_ref(part), &config));
                assert!(alone == whole[part.1.start * width..part.1.end * width]);
                let company = [(1, 3..37), part.clone(), (1, 0..3)];
                let among = numbers(&sequences.attend(&company, &config));
                assert!(among[34 * width..][..alone.len()] == alone);
            }
        }
    }
}

#[test]
fn every_row_of_a_full_span_sees_every_key_in_any_company() {
    for model in MODELS {
        let sequences = Sequences::new(model, &[1, 70, 150]);
        let (scale, width) = (sequences.config().scale, model.heads * model.head_dim);
        // More rows than keys, one row, a part of the keys, and the same keys twice.
        let parts = [
            (70, 0, 1),
            (1, 2, 150),
            (33, 1, 70),
            (5, 1, 41),
            (2, 2, 150),
        ];
        let rows = parts.iter().map(|(rows, ..)| rows).sum();
        let q = tensor(&[rows, model.heads, model.head_dim], 5);
        let mut spans = vec![];
        for (rows, sequence, context) in parts {
            let start = spans.last().map_or(0, |s: &Span<'_>| s.rows.end);
            let blocks = sequences.tables[sequence].blocks();
            spans.push(Span {
                rows: start..start + rows,
                context,
                blocks,
            });
        }
        let ours = full_attention(&q, &sequences.kernel, 1, &spans, scale).unwrap();
        for cache in [&sequences.kernel, &sequences.plain] {
            let plain = full_attention_plain(&q, cache, 1, &spans, scale).unwrap();
            assert!(error(&ours, &plain) < 1e-5, "{}", error(&ours, &plain));
        }
        let dispatched = full_attention(&q, &sequences.plain, 1, &spans, scale).unwrap();
        assert!(error(&ours, &dispatched) < 1e-5);
        let ours = numbers(&ours);
        for span in &spans {
            let last = span.rows.end - 1;
            let alone = Span {
                rows: 0..1,
                ..span.clone()
            };
            let q = q.narrow(0, last, 1).unwrap();
            let alone = full_attention(&q, &sequences.kernel, 1, &[alone], scale).unwrap();
            assert_eq!(numbers(&alone), ours[last * width..(last + 1) * width]);
        }
        let scores = full_attention_scores(&q, &sequences.kernel, 1, &spans[2], scale).unwrap();
        assert_eq!(scores.dims(), [model.heads, 33, 70]);
        let no_keys = Span {
            rows: 0..rows,
            context: 0,
            blocks: &[],
        };
        assert!(full_attention(&q, &sequences.kernel, 1, &[no_keys], scale).is_err());
    }
}

#[test]
fn a_fork_reads_what_was_shared_after_its_blocks_are_copied() {
    let shape = CacheShape {
        layers: 1,
        blocks: 4,
        block_size: 4,
        kv_heads: 2,
        head_dim: 6,
    };
    for mut cache in [
        KvCache::new(shape, &CPU, DType::F32).unwrap(),
        KvCache::plain(shape, &CPU, DType::F32).unwrap(),
    ] {
        let mut pool = BlockPool::new(4, 4).unwrap();
        let mut first = BlockTable::new();
        let slots = pool.append(&mut first, 6).unwrap().slots;
        let (k, v) = (tensor(&[6, 2, 6], 1), tensor(&[6, 2, 6], 2));
        cache.write(0, &k, &v, &slots).unwrap();
        let mut second = pool.fork(&first);
        let appended = pool.append(&mut second, 1).unwrap();
        cache.copy_blocks(&appended.copies).unwrap();
        let new = tensor(&[1, 2, 6], 3);
        cache.write(0, &new, &new, &appended.slots).unwrap();
        let slots = |table: &BlockTable| -> Vec<u32> {
            let at = |p: usize| table.blocks()[p / 4] * 4 + (p % 4) as u32;
            (0..table.len()).map(at).collect()
        };
        let (first_k, first_v) = cache.read(0, &slots(&first)).unwrap();
        assert_eq!(
            (numbers(&first_k), numbers(&first_v)),
            (numbers(&k), numbers(&v))
        );
        let (second_k, _) = cache.read(0, &slots(&second)).unwrap();
        assert_eq!(numbers(&second_k), [numbers(&k), numbers(&new)].concat());
        pool.free(first);
        pool.free(second);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let shape = CacheShape {
        layers: 1,
        blocks: 2,
        block_size: 4,
        kv_heads: 2,
        head_dim: 6,
    };
    let mut cache = KvCache::new(shape, &CPU, DType::F32).unwrap();
    let rows = tensor(&[1, 2, 6], 1);
    assert!(cache.write(0, &rows, &rows, &[8]).is_err());
    assert!(cache.write(1, &rows, &rows, &[0]).is_err());
    assert!(cache.write(0, &rows, &rows, &[0, 1]).is_err());
    assert!(cache.write(0, &rows, &tensor(&[1, 2, 7], 1), &[0]).is_err());
    assert!(cache.copy_blocks(&[(0, 2)]).is_err());
    assert!(cache.read(0, &[8]).is_err());
    let causal = AttentionConfig::causal(6);
    let attend = |q: &Tensor, rows, context, blocks: &[u32], config: &AttentionConfig| {
        paged_attention(
            q,
            &cache,
            0,
            &[Span {
                rows,
                context,
                blocks,
            }],
            config,
        )
        .is_ok()
    };
    let q = tensor(&[2, 4, 6], 1);
    assert!(attend(&q, 0..2, 5, &[1, 0], &causal));
    assert!(
        !attend(&q, 0..1, 5, &[1, 0], &causal),
        "a row without a span"
    );
    assert!(
        !attend(&q, 0..3, 5, &[1, 0], &causal),
        "more rows than queries"
    );
    assert!(
        !attend(&q, 0..2, 1, &[1, 0], &causal),
        "fewer keys than rows"
    );
    assert!(!attend(&q, 0..2, 5, &[1], &causal), "too few blocks");
    assert!(
        !attend(&q, 0..2, 5, &[1, 2], &causal),
        "a block that is not there"
    );
    assert!(!attend(
        &q,
        0..2,
        5,
        &[1, 0],
        &AttentionConfig {
            window: Some(0),
            ..causal
        }
    ));
    assert!(
        !attend(&tensor(&[2, 3, 6], 1), 0..2, 5, &[1, 0], &causal),
        "3 heads over 2"
    );
    assert!(
        !attend(&tensor(&[2, 4, 5], 1), 0..2, 5, &[1, 0], &causal),
        "another head size"
    );
    let none = paged_attention(&tensor(&[0, 4, 6], 1), &cache, 0, &[], &causal).unwrap();
    assert_eq!(none.dims(), [0, 24]);
    for zero in [
        CacheShape { blocks: 0, ..shape },
        CacheShape {
            head_dim: 0,
            ..shape
        },
    ] {
        assert!(KvCache::new(zero, &CPU, DType::F32).is_err());
    }
    let huge = CacheShape {
        blocks: 1 << 28,
        layers: 1 << 10,
        kv_heads: 1 << 20,
        ..shape
    };
    assert!(KvCache::new(huge, &CPU, DType::F32).is_err());
}

#[test]
fn a_cache_takes_memory_only_for_blocks_that_are_written() {
    let shape = CacheShape {
        layers: 4,
        blocks: 4096,
        block_size: 16,
        kv_heads: 8,
        head_dim: 64,
    };
    let cache = KvCache::new(shape, &CPU, DType::F32).unwrap();
    assert_eq!(cache.bytes(), shape.bytes(DType::F32));
    assert_eq!(cache.bytes(), 1 << 30);
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<usize>().ok())
            .unwrap_or(0)
            * 4096
    };
    assert!(resident() < 1 << 29);
}
