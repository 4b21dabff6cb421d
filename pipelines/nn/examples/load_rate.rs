//! How fast a model gets from a warm page cache into a state in which it computes, against what the same threads copy:
//! `cargo run --release -p chandler-nn --example load_rate -- [MiB] [DIRECTORY]`. Files are made in the directory, in shards of
//! f32, and read once before the clock starts.

// Why: it measures, and a machine on which it cannot is told by a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device};
use chandler_nn::linear::Linear;
use chandler_nn::weights::Snapshot;
use rayon::prelude::*;

const SHARD: usize = 256 << 20;
const ROWS: usize = 2048;
const COLUMNS: usize = 2048;
const TENSOR: usize = ROWS * COLUMNS * 4;
const TIMES: usize = 7;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mib: usize = arguments.next().map_or(1024, |text| text.parse().unwrap());
    let dir = arguments.next().unwrap_or_else(|| "load-rate".to_owned());
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir).unwrap();
    let shards = (mib << 20).div_ceil(SHARD);
    write(dir, shards);
    let bytes = shards * SHARD;
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;

    let from = vec![1u8; bytes];
    let mut to = vec![0u8; bytes];
    to.fill(2); // its pages are there before the clock starts
    let copied = best(|| copy(&from, &mut to));
    let fresh = best(|| drop(copy_fresh(&from)));
    drop((from, to));
    let before = resident();
    let loaded = best(|| drop(load(dir)));
    let touched = best(|| {
        std::hint::black_box(read(dir));
    });
    let model = load(dir);
    let resident = resident() - before;
    println!(
        "{} threads, {bytes} bytes in {shards} shards of f32, best of {TIMES}",
        rayon::current_num_threads()
    );
    println!(
        "memcpy, all threads, into pages that are there   {:6.2} GB/s",
        rate(copied)
    );
    println!(
        "memcpy, all threads, into fresh pages            {:6.2} GB/s",
        rate(fresh)
    );
    println!(
        "page cache to loaded model                       {:6.2} GB/s, {:.0} % of memcpy",
        rate(loaded),
        100.0 * copied / loaded
    );
    println!(
        "the same, and every number read once             {:6.2} GB/s, {:.0} % of memcpy",
        rate(touched),
        100.0 * copied / touched
    );
    println!(
        "resident while loaded                            {:6.2} of the model's size",
        resident as f64 / bytes as f64
    );
    println!("{} layers", model.len());
}

/// Copies with all threads.
fn copy(from: &[u8], to: &mut [u8]) {
    to.par_chunks_mut(4 << 20)
        .zip(from.par_chunks(4 << 20))
        .for_each(|(to, from)| to.copy_from_slice(from));
}

/// Copies with all threads into memory that the system has yet to give.
fn copy_fresh(from: &[u8]) -> Vec<Vec<u8>> {
    from.par_chunks(4 << 20).map(<[u8]>::to_vec).collect()
}

/// Reads every number once, with all threads.
fn read(dir: &Path) -> u64 {
    let weights = Snapshot::dir(dir).unwrap().weights().unwrap();
    weights.prefetch(&|_, _| {}).unwrap();
    let names = weights.names();
    let sum = |name: &String| {
        let tensor = weights.tensor(name).unwrap();
        let words = tensor.bytes().as_chunks::<8>().0;
        words.iter().fold(0u64, |sum, word| {
            sum.wrapping_add(u64::from_le_bytes(*word))
        })
    };
    names.par_iter().map(sum).reduce(|| 0, u64::wrapping_add)
}

/// As a pipeline does it: open, read ahead, make the layers.
fn load(dir: &Path) -> Vec<Linear> {
    let weights = Snapshot::dir(dir).unwrap().weights().unwrap();
    weights.prefetch(&|_, _| {}).unwrap();
    let layer = |name: &String| {
        let tensor = weights.tensor(name).unwrap();
        Linear::new(tensor, None, &Device::Cpu, DType::F32).unwrap()
    };
    weights.names().iter().map(layer).collect()
}

fn best(mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    (0..TIMES).map(once).fold(f64::INFINITY, f64::min)
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// Shards of square matrices, and their index.
fn write(dir: &Path, shards: usize) {
    let per_shard = SHARD / TENSOR;
    let mut map = String::new();
    for shard in 0..shards {
        let file = format!("model-{:05}-of-{shards:05}.safetensors", shard + 1);
        let entries = (0..per_shard).map(|at| {
            let (start, end) = (at * TENSOR, (at + 1) * TENSOR);
            let name = format!("layer.{}.weight", shard * per_shard + at);
            map.push_str(&format!("{}\"{name}\":\"{file}\"", if map.is_empty() { "" } else { "," }));
            format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{ROWS},{COLUMNS}],\"data_offsets\":[{start},{end}]}}")
        });
        let header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
        let mut out = std::io::BufWriter::new(std::fs::File::create(dir.join(&file)).unwrap());
        out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        out.write_all(header.as_bytes()).unwrap();
        let piece = vec![0x3cu8; 1 << 20];
        (0..SHARD >> 20).for_each(|_| out.write_all(&piece).unwrap());
    }
    std::fs::write(
        dir.join("model.safetensors.index.json"),
        format!("{{\"weight_map\":{{{map}}}}}"),
    )
    .unwrap();
}
