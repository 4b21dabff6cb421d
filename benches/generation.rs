//! Speed of the language model in this process: prefill and decode at batch 1 and 8, and the roof they are under.
//! `side_by_side.py` runs it beside `transformers` on the same weights, `quantized.py` beside llama.cpp; alone:
//! `cargo bench --bench generation -- MODEL [--activations int8]`:
//! the model is a directory or a GGUF file.
//! Without a model it runs once on a tiny one that it is given by CI, or does nothing: a smoke run, never a figure.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // Why: a benchmark may stop at the first surprise.

mod common;

use std::path::Path;
use std::time::Instant;

use chandler_core::{
    Admission, Event, Events, Input, Limits, Pipeline, Prompt, Sampling, TextInput, Ticket,
};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::weights::{Activations, Snapshot};
use chandler_text::{BatchLimits, TextOptions, TextPipeline, gguf};
use common::{Roof, median, middle, peak_bytes};

const PREFILL: usize = 512;
const DECODE: u32 = 48;
const RUNS: usize = 5;

fn main() {
    // `cargo bench` adds --bench; cargo test --benches adds nothing.
    let given: Vec<String> = std::env::args().skip(1).collect();
    let Some(model) = given.iter().find(|a| !a.starts_with("--")) else {
        println!("usage: cargo bench --bench generation -- MODEL [--activations int8]");
        return;
    };
    let activations = given.iter().skip_while(|a| *a != "--activations").nth(1);
    let activations = activations.map_or(Activations::F32, |name| name.parse().unwrap());
    let started = Instant::now();
    let mut pipeline =
        TextPipeline::load(&snapshot(model.as_ref()), options(activations), &|_| {}).unwrap();
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

fn options(activations: Activations) -> TextOptions {
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
            drawing: None,
        },
        cache_bytes: None,
        quantize: None,
        activations,
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

/// The machine's roof and the model under it, in turns of one token each: a shared machine's memory is not equally fast from
/// one second to the next. Medians of tokens per second at batch 1, and of the bytes per second that all threads together
/// read from memory.
fn in_turns(pipeline: &mut TextPipeline, prompt: Vec<u32>, tokens: u32) -> (f64, f64) {
    let roof = Roof::find(RUNS);
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
        reads.push(roof.read());
    }
    // The first token came with the prompt.
    (middle(steps.split_off(1)), middle(reads))
}
