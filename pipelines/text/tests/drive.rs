//! Pipelines over the fixtures, requests for them, and a loop that runs requests to their ends: what the tests of the
//! batch have in common.

use chandler_core::{
    Admission, Collected, Events, Input, Limits, Pipeline, Prompt, RequestId, Sampling, TextInput,
    Ticket,
};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::weights::{Activations, Snapshot};
use chandler_text::error::TextError;
use chandler_text::{BatchLimits, TextOptions, TextPipeline};

use crate::on_device;
use crate::parity::fixture;

pub const LIMITS: BatchLimits = BatchLimits {
    max_rows: 16,
    prefill_chunk: 48,
    prefix_cache: true,
    speculate: 0,
    drawing: None,
};

/// Bytes of 14 blocks of 16 tokens of llama2-f32: a handful of requests at a time, so that the youngest are put back
/// again and again.
pub const FEW_BLOCKS: u64 = 14 * 16 * 3 * 3 * 16 * 2 * 4;

pub fn options(limits: BatchLimits, cache_bytes: Option<u64>) -> TextOptions {
    TextOptions {
        device: DeviceChoice::Cpu.into(),
        dtype: DTypeChoice::F32,
        max_model_len: None,
        limits,
        cache_bytes,
        quantize: None,
        activations: Activations::F32,
        clock: std::sync::Arc::new(|| chandler_text::chat::CivilTime::from_unix_seconds(0)),
        adapters: Vec::new(),
    }
}

/// A model with adapters.
pub fn load_with(
    name: &str,
    limits: BatchLimits,
    adapters: Vec<(String, Snapshot)>,
) -> Result<TextPipeline, TextError> {
    let options = TextOptions {
        adapters,
        ..options(limits, None)
    };
    TextPipeline::load(&Snapshot::dir(fixture(name)).unwrap(), options, &|_| {})
}

pub fn load(name: &str, limits: BatchLimits, cache_bytes: Option<u64>) -> TextPipeline {
    load_as(name, options(limits, cache_bytes))
}

/// Of candle tensors, as models are on other devices; on such a device where the tests are told of one.
pub fn plain(name: &str, adapters: Vec<(String, Snapshot)>) -> TextPipeline {
    let mut options = options(LIMITS, None);
    options.device = on_device::options();
    options.device.plain = true;
    options.dtype = on_device::dtype_choice();
    options.adapters = adapters;
    load_as(name, options)
}

fn load_as(name: &str, options: TextOptions) -> TextPipeline {
    let own = fixture(name);
    if own.join("tokenizer.json").exists() {
        return TextPipeline::load(&Snapshot::dir(own).unwrap(), options, &|_| {}).unwrap();
    }
    // A family's checkpoint without a tokenizer borrows one: these tests give and compare ids.
    let whole = tempfile::tempdir().unwrap();
    let lender = fixture("llama2-f32").join("tokenizer.json");
    std::fs::copy(lender, whole.path().join("tokenizer.json")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(own.join(file), whole.path().join(file)).unwrap();
    }
    TextPipeline::load(&Snapshot::dir(whole.path()).unwrap(), options, &|_| {}).unwrap()
}

/// A greedy request of so many tokens.
pub fn tokens(ids: &[u32], max_tokens: u32) -> TextInput {
    TextInput {
        prompt: Prompt::Tokens(ids.to_vec()),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: Some(max_tokens),
            ignore_eos: true,
            ..Limits::default()
        },
        ..TextInput::default()
    }
}

/// The same, drawn.
pub fn drawn(ids: &[u32], max_tokens: u32, seed: u64) -> TextInput {
    let mut input = tokens(ids, max_tokens);
    input.sampling.temperature = Some(0.9);
    input.sampling.seed = Some(seed);
    input
}

/// Runs requests together to their ends.
pub fn run(pipeline: &mut TextPipeline, inputs: Vec<TextInput>) -> Vec<Collected> {
    let preparer = pipeline.preparer();
    let mut waiting: Vec<_> = inputs
        .into_iter()
        .enumerate()
        .map(|(i, input)| (i as u64, preparer.prepare(Input::Text(input)).unwrap()))
        .rev()
        .collect();
    let mut answers = vec![Collected::default(); waiting.len()];
    let mut events = Events::default();
    let mut open = waiting.len();
    let mut steps = 0;
    while open > 0 {
        steps += 1;
        assert!(steps < 5_000, "{open} requests never end");
        while let Some((id, prepared)) = waiting.pop() {
            if let Admission::Full(back) = pipeline.admit(Ticket::new(id), prepared) {
                waiting.push((id, back));
                break;
            }
        }
        let step = pipeline.step(&mut events).unwrap();
        assert!(step.work <= pipeline.step_bound());
        for (RequestId(id), event) in events.drain() {
            open -= usize::from(answers[id as usize].add(event).unwrap());
        }
    }
    answers
}

pub fn ids(answer: &Collected) -> Vec<u32> {
    answer.rows[0].tokens.iter().map(|t| t.id).collect()
}

/// What was said, without what it cost: usage tells of the cache.
pub fn said(answers: &[Collected]) -> Vec<&[chandler_core::RowOutput]> {
    answers
        .iter()
        .map(|answer| answer.rows.as_slice())
        .collect()
}
