//! How fast the CPU layers are: bandwidth of decode against the machine's roof, arithmetic of prefill, and attention.
//! `cargo run --release -p chandler-nn --example kernel_speed [decode|batch|prefill|layer|attention|small|quantized [FORMAT]]`

#[path = "kernel_speed/quantized.rs"]
mod quantized;

use candle_core::{DType, Device, Tensor};
use chandler_nn::activation::silu_mul;
use chandler_nn::attention::{AttentionConfig, Span, paged_attention};
use chandler_nn::error::Result;
use chandler_nn::kv_cache::{BlockPool, BlockTable, CacheShape, KvCache};
use chandler_nn::linear::Linear;
use chandler_nn::norm::{Norm, NormConfig, NormKind};
use chandler_nn::weights::HostTensor;
use std::hint::black_box;
use std::time::Instant;

const SHAPES: [(usize, usize); 4] = [(1024, 1024), (2816, 1024), (1024, 2816), (32000, 1024)];
const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// Larger than any cache.
const WORKING_SET: usize = 1_200_000_000;

fn main() -> Result<()> {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{threads} threads, {:?}", chandler_nn::isa());
    let roof = read_bandwidth(threads);
    println!("read bandwidth, sum over 1 GB: {roof:.1} GB/s");
    if wanted("decode") {
        println!("m=1: GB/s and share of the roof");
        for dtype in DTYPES {
            for (outputs, inputs) in SHAPES {
                let layers = layers(outputs, inputs, dtype, WORKING_SET)?;
                let seconds = per_layer(&layers, 1)?;
                let speed = layers[0].bytes() as f64 / seconds / 1e9;
                println!(
                    "  {dtype:?} {outputs}x{inputs}: {speed:.1} GB/s, {:.0} %",
                    100.0 * speed / roof
                );
            }
        }
    }
    if wanted("batch") {
        println!("time of a batch over the time of one row");
        for dtype in DTYPES {
            for (outputs, inputs) in SHAPES {
                let layers = layers(outputs, inputs, dtype, WORKING_SET)?;
                let one = per_layer(&layers, 1)?;
                let batch = |rows| -> Result<f64> { Ok(per_layer(&layers, rows)? / one) };
                println!(
                    "  {dtype:?} {outputs}x{inputs}: m=2 {:.2}, m=4 {:.2}, m=8 {:.2}, m=16 {:.2}",
                    batch(2)?,
                    batch(4)?,
                    batch(8)?,
                    batch(16)?
                );
            }
        }
    }
    if wanted("prefill") {
        println!("GFLOP/s");
        for dtype in DTYPES {
            for (outputs, inputs) in [(1024, 1024), (2816, 1024), (1024, 2816), (2048, 2048)] {
                let layers = layers(outputs, inputs, dtype, 50_000_000)?;
                print!("  {dtype:?} {outputs}x{inputs}:");
                for rows in [32, 128, 512, 2048] {
                    let work = 2.0 * (rows * outputs * inputs) as f64;
                    print!(" m={rows} {:.0}", work / per_layer(&layers, rows)? / 1e9);
                }
                if dtype == DType::F32 {
                    let x = Tensor::rand(-1f32, 1f32, (512, inputs), &Device::Cpu)?;
                    let weight = Tensor::rand(-1f32, 1f32, (outputs, inputs), &Device::Cpu)?.t()?;
                    let mut best = f64::INFINITY;
                    for _ in 0..9 {
                        let start = Instant::now();
                        black_box(x.matmul(&weight)?);
                        best = best.min(start.elapsed().as_secs_f64());
                    }
                    let work = 2.0 * (512 * outputs * inputs) as f64;
                    print!("; candle m=512 {:.0}", work / best / 1e9);
                }
                println!();
            }
        }
    }
    if wanted("small") {
        println!("overhead: one layer out of the caches, µs");
        for (outputs, inputs) in [(48, 48), (256, 256), (512, 512), (1024, 512)] {
            let layers = layers(outputs, inputs, DType::F32, 4 * outputs * inputs)?;
            println!("  {outputs}x{inputs}: {:.1}", 1e6 * per_layer(&layers, 1)?);
        }
    }
    if wanted("layer") {
        layer()?;
    }
    if wanted("attention") {
        attention()?;
    }
    if wanted("quantized") {
        quantized::run(std::env::args().nth(2).as_deref(), roof)?;
    }
    Ok(())
}

/// Where a prompt's time goes: the parts of one decoder layer of the 314 M shape, 512 tokens, best of 15 each.
fn layer() -> Result<()> {
    const ROWS: usize = 512;
    println!("a layer of a prompt of {ROWS} tokens, ms (multiply-adds at GFLOP/s)");
    // Weights of three layers in turn, so that they come out of memory.
    let products = |shapes: &[(usize, usize)]| -> Result<Vec<Vec<Linear>>> {
        (0..3)
            .map(|_| {
                let one = |(outputs, inputs): &(usize, usize)| {
                    Ok(layers(*outputs, *inputs, DType::F32, 1)?.remove(0))
                };
                shapes.iter().map(one).collect()
            })
            .collect()
    };
    let mut total = 0.0;
    let mut report = |name: &str, work: usize, seconds: f64| {
        total += seconds;
        let rate = 2.0 * work as f64 / seconds / 1e9;
        println!("  {name}: {:.2} ({rate:.0})", 1e3 * seconds);
    };
    for (name, shapes) in [
        ("q, k, v", &[(1024, 1024), (256, 1024), (256, 1024)][..]),
        ("output", &[(1024, 1024)]),
        ("gate, up", &[(2816, 1024), (2816, 1024)]),
        ("down", &[(1024, 2816)]),
    ] {
        let sets = products(shapes)?;
        let x = Tensor::rand(-1f32, 1f32, (ROWS, shapes[0].1), &Device::Cpu)?;
        let work = shapes.iter().map(|(n, k)| ROWS * n * k).sum();
        let mut turn = sets.iter().cycle();
        let seconds = best_of(15, || {
            let set: Vec<&Linear> = turn.next().into_iter().flatten().collect();
            black_box(Linear::forward_many(&set, &x)?);
            Ok(())
        })?;
        report(name, work, seconds);
    }
    let (gate, up) = (
        Tensor::rand(-1f32, 1f32, (ROWS, 2816), &Device::Cpu)?,
        Tensor::rand(-1f32, 1f32, (ROWS, 2816), &Device::Cpu)?,
    );
    let seconds = best_of(15, || {
        black_box(silu_mul(&gate, &up)?);
        Ok(())
    })?;
    report("activation", 0, seconds);
    let x = Tensor::rand(-1f32, 1f32, (ROWS, 1024), &Device::Cpu)?;
    let weight = HostTensor::from_bytes("n", DType::F32, vec![1024], vec![0; 4096])?;
    let config = NormConfig {
        kind: NormKind::Rms,
        eps: 1e-5,
    };
    let norm = Norm::new(config, weight, &Device::Cpu, DType::F32)?;
    let seconds = best_of(15, || {
        black_box(norm.forward_residual(&x, &x)?);
        black_box(norm.forward_residual(&x, &x)?);
        Ok(())
    })?;
    report("two norms", 0, seconds);
    println!("  together {:.2}; attention is measured apart", 1e3 * total);
    Ok(())
}

/// Seconds of the fastest of some runs.
fn best_of(runs: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// The sum of 1 GB by all threads, each its own part, best of seven.
fn read_bandwidth(threads: usize) -> f64 {
    let numbers = vec![1u64; 125_000_000];
    let part = numbers.len().div_ceil(threads);
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in numbers.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    1.0 / best
}

/// Eight streams at once, as many as a kernel reads: one alone does not keep the memory busy.
fn sum(part: &[u64]) -> u64 {
    let streams: Vec<&[u64]> = part.chunks_exact(part.len() / 8).collect();
    let mut sums = [0u64; 8];
    for at in (0..streams[0].len() - 8).step_by(8) {
        for stream in &streams[..8] {
            let line = &stream[at..at + 8];
            for (sum, x) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(*x);
            }
        }
    }
    sums.iter().sum()
}

/// As many layers of one shape as fill `bytes`.
fn layers(outputs: usize, inputs: usize, dtype: DType, bytes: usize) -> Result<Vec<Linear>> {
    let size = outputs * inputs * dtype.size_in_bytes();
    (0..bytes.div_ceil(size))
        .map(|index| {
            let pattern: [u8; 2] = [0x11 + (index % 7) as u8, 0x2c];
            let weight = HostTensor::from_bytes(
                "w",
                dtype,
                vec![outputs, inputs],
                pattern.repeat(size / 2),
            )?;
            Linear::new(weight, None, &Device::Cpu, dtype)
        })
        .collect()
}

/// Seconds of a layer, in a loop over distinct ones: the best of seven loops, since other work on the machine only ever adds.
fn per_layer(layers: &[Linear], rows: usize) -> Result<f64> {
    let inputs = layers[0].inputs();
    let numbers = (0..rows * inputs)
        .map(|i| (i % 13) as f32 * 0.1)
        .collect::<Vec<_>>();
    let x = Tensor::from_vec(numbers, (rows, inputs), &Device::Cpu)?;
    let loops = if layers.len() == 1 { 1000 } else { 1 };
    let mut times = Vec::new();
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..loops {
            for layer in layers {
                black_box(layer.forward(&x)?);
            }
        }
        times.push(start.elapsed().as_secs_f64() / (layers.len() * loops) as f64);
    }
    Ok(times.into_iter().fold(f64::INFINITY, f64::min))
}

fn attention() -> Result<()> {
    let (heads, kv_heads, head_dim) = (16, 4, 64);
    println!("attention, {heads} heads over {kv_heads} of {head_dim}");
    for context in [512usize, 2048, 8192] {
        let shape = CacheShape {
            layers: 1,
            blocks: context.div_ceil(32),
            block_size: 32,
            kv_heads,
            head_dim,
        };
        let mut cache = KvCache::new(shape, &Device::Cpu, DType::F32)?;
        let mut pool = BlockPool::new(shape.blocks, 32)?;
        let mut table = BlockTable::new();
        let slots = pool.append(&mut table, context)?.slots;
        let tensor = |rows: usize, heads: usize| {
            Tensor::rand(-1f32, 1f32, (rows, heads, head_dim), &Device::Cpu)
        };
        let (k, v) = (tensor(context, kv_heads)?, tensor(context, kv_heads)?);
        let start = Instant::now();
        cache.write(0, &k, &v, &slots)?;
        let write = start.elapsed().as_secs_f64();
        let config = AttentionConfig::causal(head_dim);
        for rows in [1, 512] {
            let q = tensor(rows, heads)?;
            let spans = [Span {
                rows: 0..rows,
                context,
                blocks: table.blocks(),
            }];
            let mut times = Vec::new();
            for _ in 0..7 {
                let start = Instant::now();
                black_box(paged_attention(&q, &cache, 0, &spans, &config)?);
                times.push(start.elapsed().as_secs_f64());
            }
            let best = times.into_iter().fold(f64::INFINITY, f64::min);
            let keys = (context - rows) * rows + rows * (rows + 1) / 2;
            let (work, bytes) = (
                4 * keys * heads * head_dim,
                8 * context * kv_heads * head_dim,
            );
            println!(
                "  context {context}, {rows} rows: {:.0} µs, {:.0} GFLOP/s, {:.1} GB/s of keys and values (write {:.0} µs)",
                best * 1e6,
                work as f64 / best / 1e9,
                bytes as f64 / best / 1e9,
                write * 1e6
            );
        }
        pool.free(table);
    }
    Ok(())
}
