//! What benchmarks share: medians, this process's memory, and the rate at which the machine reads.

#![allow(dead_code)] // Why: not every benchmark uses all of it.

use std::time::Instant;

use rayon::prelude::*;

/// The median of so many runs.
pub fn median(runs: usize, mut run: impl FnMut() -> f64) -> f64 {
    middle((0..runs).map(|_| run()).collect())
}

/// The median.
pub fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The most memory this process has had, in bytes.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM:"))
        .unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// The bytes a second that all threads together read from memory.
pub struct Roof {
    words: Vec<u64>,
    way: fn(&[u64]) -> f64,
}

impl Roof {
    /// Finds the fastest way to read, which differs from processor to processor: some want one stream for their prefetcher, some
    /// need several to fill the memory's queue.
    pub fn find(runs: usize) -> Self {
        let words = vec![1u64; (1 << 30) / 8];
        let ways: [fn(&[u64]) -> f64; 4] = [
            read_pass::<1>,
            read_pass::<2>,
            read_pass::<4>,
            read_pass::<8>,
        ];
        let tried = ways.map(|way| (median(runs, || way(&words)), way));
        let best = tried.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let (_, way) = best.expect("there are four");
        Self { words, way }
    }

    /// Reads once.
    pub fn read(&self) -> f64 {
        (self.way)(&self.words)
    }
}

/// One sum over all words, by all threads, each of which reads `STREAMS` places at once.
fn read_pass<const STREAMS: usize>(words: &[u64]) -> f64 {
    // Places a power of two apart would share the same few lines of every cache.
    const SKEW: usize = 8 * 67;
    let part = words.len() / rayon::current_num_threads().max(1);
    let sum_part = |part: &[u64]| {
        let stream = (part.len() / STREAMS).saturating_sub(SKEW) / 8 * 8;
        let mut sums = [[0u64; 8]; STREAMS];
        for at in (0..stream).step_by(8) {
            for (s, sums) in sums.iter_mut().enumerate() {
                let from = s * (stream + SKEW / STREAMS) + at;
                for (sum, word) in sums.iter_mut().zip(&part[from..from + 8]) {
                    *sum = sum.wrapping_add(*word);
                }
            }
        }
        (
            sums.into_iter().flatten().fold(0, u64::wrapping_add),
            stream * STREAMS,
        )
    };
    let started = Instant::now();
    let (sum, read) = words
        .par_chunks(part)
        .map(sum_part)
        .reduce(|| (0, 0), |a, b| (a.0.wrapping_add(b.0), a.1 + b.1));
    assert!(sum > 0);
    (read * 8) as f64 / started.elapsed().as_secs_f64()
}
