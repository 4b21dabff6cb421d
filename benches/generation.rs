//! Speed of the language model in this process: prefill and decode at batch 1 and 8, and the roof they are under.
//! `side_by_side.py` runs it beside `transformers` on the same weights, `quantized.py` beside llama.cpp; alone:
//! `cargo bench --bench generation -- MODEL`, which is a directory or a GGUF file.
//! Without a model it runs once on a tiny one that it is given by CI, or does nothing: a smoke run, never a figure.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // Why: a benchmark may stop at the first surprise.

use std::path::Path;
use std::time::Instant;

use chandler_core::{
    Admission, Event, Events, Input, Limits, Pipeline, Prompt, Sampling, TextInput, Ticket,
};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::weights::Snapshot;
use chandler_text::{BatchLimits, TextOptions, TextPipeline, gguf};
use rayon::prelude::*;

const PREFILL: usize = 512;
const DECODE: u32 = 48;
const RUNS: usize = 5;

fn main() {
    // `cargo bench` adds --bench; cargo test --benches adds nothing.
    let Some(model) = std::env::args().skip(1).find(|a| !a.starts_with("--")) else {
        println!("usage: cargo bench --bench generation -- MODEL");
        return;
    };
    let started = Instant::now();
    let mut pipeline = TextPipeline::load(&snapshot(model.as_ref()), options(), &|_| {}).unwrap();
    let load = started.elapsed().as_secs_f64();
    let window = pipeline.preparer().info().context_length;
    let vocab = pipeline.preparer().info().vocab_size as u32;
    let prefill_tokens = PREFILL.min(window / 2);
    let decode_tokens = DECODE.min((window / 4) as u32);

    generate(&mut pipeline, 1, prompt(16, 0, vocab), 4);
    let prefill = median(RUNS, || {
        prefill_tokens as f64 / generate(&mut pipeline, 1, prompt(prefill_tokens, 1, vocab), 1).0
    });
    let one = median(RUNS, || {
        generate(&mut pipeline, 1, prompt(32, 2, vocab), decode_tokens).1
    });
    let eight = median(RUNS, || {
        generate(&mut pipeline, 8, prompt(32, 3, vocab), decode_tokens).1
    });
    let peak = peak_bytes();
    let weights = pipeline.footprint().host_bytes;
    let (decode, read) = in_turns(&mut pipeline, prompt(32, 2, vocab), decode_tokens);
    drop(pipeline);
    let result = serde_json::json!({
        "load_seconds": load, "prefill_tokens": prefill_tokens, "prefill_tokens_per_second": prefill,
        "decode_tokens_per_second_batch_1": one, "decode_tokens_per_second_batch_8": eight,
        "peak_bytes": peak, "footprint_bytes": weights,
        "in_turns": {"decode_tokens_per_second": decode, "read_bytes_per_second": read},
    });
    println!("{result}");
}

fn snapshot(model: &Path) -> Snapshot {
    if model.extension().is_some_and(|ending| ending == "gguf") {
        gguf::open(model).unwrap()
    } else {
        Snapshot::dir(model).unwrap()
    }
}

fn options() -> TextOptions {
    TextOptions {
        device: DeviceChoice::Cpu.into(),
        dtype: DTypeChoice::F32,
        max_model_len: None,
        limits: BatchLimits {
            max_rows: 32,
            prefill_chunk: 512,
            // What is measured is the reading of prompts, not the finding of them.
            prefix_cache: false,
            speculate: 0,
        },
        cache_bytes: None,
        quantize: None,
        clock: std::sync::Arc::new(|| chandler_text::chat::CivilTime::from_unix_seconds(0)),
        adapters: Vec::new(),
    }
}

fn prompt(len: usize, salt: u32, vocab: u32) -> Vec<u32> {
    (0..len as u32)
        .map(|i| (300 + i * 7919 + salt * 104_729) % vocab)
        .collect()
}

/// Runs `rows` requests: seconds until every row has its first token, and tokens per second after that.
fn generate(pipeline: &mut TextPipeline, rows: u64, prompt: Vec<u32>, tokens: u32) -> (f64, f64) {
    for id in 0..rows {
        admit(pipeline, id, prompt.clone(), tokens);
    }
    let started = Instant::now();
    let (mut first, mut begun, mut ended, mut decoded) = (0.0, 0, 0, 0u64);
    let mut events = Events::default();
    while ended < rows {
        let was_begun = begun == rows;
        pipeline.step(&mut events).unwrap();
        for (_, event) in events.drain() {
            match event {
                Event::Text(_) if was_begun => decoded += 1,
                Event::Text(_) => begun += 1,
                Event::Done(_) => ended += 1,
                _ => {}
            }
        }
        if !was_begun && begun >= rows {
            begun = rows;
            first = started.elapsed().as_secs_f64();
        }
    }
    (
        first,
        decoded as f64 / (started.elapsed().as_secs_f64() - first),
    )
}

fn admit(pipeline: &mut TextPipeline, id: u64, prompt: Vec<u32>, tokens: u32) {
    let input = TextInput {
        prompt: Prompt::Tokens(prompt),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: Some(tokens),
            ignore_eos: true,
            ..Limits::default()
        },
        ..TextInput::default()
    };
    let prepared = pipeline.preparer().prepare(Input::Text(input)).unwrap();
    assert!(matches!(
        pipeline.admit(Ticket::new(id), prepared),
        Admission::Taken
    ));
}

fn median(runs: usize, mut run: impl FnMut() -> f64) -> f64 {
    middle((0..runs).map(|_| run()).collect())
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The most memory this process has had, in bytes.
fn peak_bytes() -> u64 {
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

/// The machine's roof and the model under it, in turns of one token each: a shared machine's memory is not equally fast from
/// one second to the next. Medians of tokens per second at batch 1, and of the bytes per second that all threads together
/// read from memory.
fn in_turns(pipeline: &mut TextPipeline, prompt: Vec<u32>, tokens: u32) -> (f64, f64) {
    let words = vec![1u64; (1 << 30) / 8];
    // Which way of reading is the fastest differs from processor to processor: some want one stream for their prefetcher,
    // some need several to fill the memory's queue.
    let ways = [
        read_pass::<1>,
        read_pass::<2>,
        read_pass::<4>,
        read_pass::<8>,
    ];
    let tried = ways.map(|way| (median(RUNS, || way(&words)), way));
    let (_, best) = tried
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("there are four");
    let mut reads = Vec::new();
    let mut steps = Vec::new();
    admit(pipeline, 0, prompt, tokens);
    let mut events = Events::default();
    let mut ended = false;
    while !ended {
        let started = Instant::now();
        pipeline.step(&mut events).unwrap();
        let step = started.elapsed().as_secs_f64();
        for (_, event) in events.drain() {
            match event {
                Event::Text(_) => steps.push(1.0 / step),
                Event::Done(_) => ended = true,
                _ => {}
            }
        }
        reads.push(best(&words));
    }
    // The first token came with the prompt.
    (middle(steps.split_off(1)), middle(reads))
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
