//! Adapters beside the decoder against `peft`: each alone, merged by peft, in one batch with the model itself and with each
//! other, and through the pipeline. The expected values are in `fixtures/lora`, and `fixture_lora.py` made them.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use chandler_core::contract::{self, Subject};
use chandler_core::{
    ErrorKind, Input, Limits, Pipeline, Prompt, RequestError, Sampling, TextInput,
};
use chandler_nn::weights::Snapshot;
use chandler_text::{BatchLimits, TextPipeline};
use serde_json::Value;

use crate::batching;
use crate::drive::{load_with, run};
use crate::on_device::{is_comparable, tolerance};
use crate::parity::{Model, Sequence, chooses, fixture, relative_error};

/// max|a−b| / max|b|, as design.md defines it.
const TOLERANCE: f32 = 1e-4;

/// The models with their adapters.
pub const FIXTURES: [(&str, &[&str]); 5] = [
    ("llama2-f32", &["narrow", "wide", "headed"]),
    ("families/gpt2", &["all"]),
    ("families/phi3", &["fused"]),
    ("families/mixtral", &["attention"]),
    ("families/gemma3-vision", &["language"]),
];

/// What peft answers.
struct Expected {
    json: Value,
    arrays: HashMap<String, Tensor>,
}

impl Expected {
    fn read(model: &str) -> Self {
        let dir = fixture("lora").join(model);
        let json = std::fs::read(dir.join("expected.json")).unwrap();
        let arrays = dir.join("expected.safetensors");
        Self {
            json: serde_json::from_slice(&json).unwrap(),
            arrays: candle_core::safetensors::load(arrays, &Device::Cpu).unwrap(),
        }
    }

    fn numbers(value: &Value) -> Vec<u32> {
        let numbers = value.as_array().unwrap().iter();
        numbers.map(|n| n.as_u64().unwrap() as u32).collect()
    }

    fn prompts(&self) -> Vec<(String, Vec<u32>)> {
        let prompts = self.json["prompts"].as_object().unwrap().iter();
        prompts
            .map(|(name, ids)| (name.clone(), Self::numbers(ids)))
            .collect()
    }

    fn greedy(&self, adapter: &str, prompt: &str) -> Vec<u32> {
        Self::numbers(&self.json["greedy"][adapter][prompt])
    }

    /// The logits that a step's token was chosen from, where they were kept.
    fn logits(&self, adapter: &str, prompt: &str, step: usize) -> Option<Vec<f32>> {
        let steps = Self::numbers(&self.json["steps"]);
        let at = steps.iter().position(|kept| *kept as usize == step)?;
        let all = &self.arrays[&format!("{adapter}.logits.{prompt}")];
        Some(all.get(at).unwrap().to_vec1().unwrap())
    }

    /// The prefill's logits of the model that the adapter was merged into.
    fn merged(&self, adapter: &str, prompt: &str) -> Vec<f32> {
        self.arrays[&format!("{adapter}.merged.{prompt}")]
            .to_vec1()
            .unwrap()
    }
}

pub fn snapshots(model: &str, adapters: &[&str]) -> Vec<(String, Snapshot)> {
    let dir = fixture("lora").join(model);
    let adapters = adapters.iter();
    adapters
        .map(|name| (name.to_string(), Snapshot::dir(dir.join(name)).unwrap()))
        .collect()
}

fn sequence(prompt: &[u32], adapter: Option<u32>) -> Sequence {
    let mut sequence = Model::sequence(prompt);
    sequence.adapter = adapter;
    sequence
}

/// Goes along peft's greedy answer and compares the logits on the way.
fn follow(model: &mut Model, fixture: &str, (number, adapter): (u32, &str)) {
    let expected = Expected::read(fixture);
    for (prompt, ids) in expected.prompts() {
        let place = format!("{fixture} {adapter} {prompt}");
        let mut sequence = [sequence(&ids, Some(number))];
        let mut logits = model.pass(&mut sequence, &[ids.len()]).pop().unwrap();
        let error = relative_error(&logits, &expected.merged(adapter, &prompt));
        assert!(
            error < tolerance(TOLERANCE),
            "{place}: merged differs by {error:e}"
        );
        let greedy = expected.greedy(adapter, &prompt);
        assert_eq!(greedy.len(), 32);
        let mut compared = 0;
        for (step, token) in greedy.into_iter().enumerate() {
            if let Some(wanted) = expected.logits(adapter, &prompt, step) {
                let error = relative_error(&logits, &wanted);
                assert!(
                    error < tolerance(TOLERANCE),
                    "{place} step {step}: {error:e}"
                );
                compared += 1;
            }
            assert!(chooses(&logits, token), "{place} step {step}");
            sequence[0].tokens.push(token);
            logits = model.pass(&mut sequence, &[1]).pop().unwrap();
        }
        assert_eq!(compared, 2, "{place}");
    }
}

#[test]
fn an_adapter_beside_the_model_answers_as_peft_does_and_as_merged() {
    for (name, adapters) in FIXTURES.into_iter().filter(|(name, _)| is_comparable(name)) {
        let mut model = Model::load(name);
        model.attach(&snapshots(name, adapters));
        for (number, adapter) in (0..).zip(adapters) {
            follow(&mut model, name, (number, adapter));
        }
    }
}

#[test]
fn in_candle_operations_too() {
    for (name, adapters) in FIXTURES.into_iter().filter(|(name, _)| is_comparable(name)) {
        let mut model = Model::plain(&fixture(name), None);
        model.attach(&snapshots(name, adapters));
        for (number, adapter) in (0..).zip(adapters) {
            follow(&mut model, name, (number, adapter));
        }
    }
}

/// Takes a prompt through the model in pieces and then along `answer`; logits of every row.
fn alone(model: &mut Model, of: &Sequence, answer: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let mut sequence = [sequence(&of.tokens, of.adapter)];
    let mut found = Vec::new();
    while found.len() < of.tokens.len() {
        let take = chunk.min(of.tokens.len() - found.len());
        found.extend(model.pass(&mut sequence, &[take]));
    }
    for token in answer {
        sequence[0].tokens.push(*token);
        found.extend(model.pass(&mut sequence, &[1]));
    }
    found
}

#[test]
fn a_batch_of_the_model_and_its_adapters_has_the_bits_that_each_has_alone() {
    let (name, adapters) = FIXTURES[0];
    let expected = Expected::read(name);
    let ids = &expected.prompts()[0].1;
    let answer = expected.greedy("wide", &expected.prompts()[0].0);
    let answer = &answer[..8];
    let mut model = Model::load(name);
    model.attach(&snapshots(name, adapters));
    let order = [None, Some(1), Some(0), Some(2), None, Some(1)];
    let lengths = [ids.len(), ids.len() - 2, 5, ids.len(), 3, 1];
    let mut sequences: Vec<Sequence> = order
        .iter()
        .zip(lengths)
        .map(|(adapter, len)| sequence(&ids[..len], *adapter))
        .collect();
    let alone: Vec<Vec<Vec<f32>>> = sequences
        .iter()
        .map(|sequence| alone(&mut model, sequence, answer, usize::MAX))
        .collect();
    // Each at its own pace, so that some still read their prompts while others answer.
    let paces = [3, 1, 5, 2, 7, 4];
    let mut together: Vec<Vec<Vec<f32>>> = vec![Vec::new(); order.len()];
    while together.iter().zip(&alone).any(|(t, a)| t.len() < a.len()) {
        let take: Vec<usize> = (0..order.len())
            .map(|i| {
                let done = together[i].len();
                let left = lengths[i].saturating_sub(done);
                if left > 0 {
                    left.min(paces[i])
                } else {
                    usize::from(done < alone[i].len())
                }
            })
            .collect();
        for (i, sequence) in sequences.iter_mut().enumerate() {
            let answered = (together[i].len() + 1).saturating_sub(lengths[i]);
            if take[i] > 0
                && (1..=answer.len()).contains(&answered)
                && together[i].len() >= lengths[i]
            {
                sequence.tokens.push(answer[answered - 1]);
            }
        }
        let mut rows = model.pass(&mut sequences, &take).into_iter();
        for (found, take) in together.iter_mut().zip(take) {
            found.extend(rows.by_ref().take(take));
        }
    }
    for (i, (together, alone)) in together.iter().zip(&alone).enumerate() {
        assert_eq!(together, alone, "sequence {i}, adapter {:?}", order[i]);
    }
    // And without any adapter loaded, the model's own rows are what they are with three.
    let bare = self::alone(&mut Model::load(name), &sequence(ids, None), answer, 4);
    assert_eq!(bare, alone[0]);
    assert_ne!(alone[0], alone[3], "adapters do change rows");
}

const LIMITS: BatchLimits = BatchLimits {
    max_rows: 16,
    prefill_chunk: 20,
    prefix_cache: true,
    speculate: 0,
    drawing: None,
};

fn pipeline(adapters: &[&str]) -> TextPipeline {
    let name = FIXTURES[0].0;
    load_with(name, LIMITS, snapshots(name, adapters)).unwrap()
}

fn input(ids: &[u32], adapter: Option<&str>) -> TextInput {
    TextInput {
        prompt: Prompt::Tokens(ids.to_vec()),
        adapter: adapter.map(str::to_owned),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: Some(32),
            ignore_eos: true,
            ..Limits::default()
        },
        logprobs: Some(0),
        ..TextInput::default()
    }
}

#[test]
fn requests_name_their_adapters_and_share_passes() {
    let expected = Expected::read(FIXTURES[0].0);
    let names = [None, Some("narrow"), Some("headed"), Some("wide")];
    let mut inputs = Vec::new();
    let mut wanted = Vec::new();
    for (prompt, ids) in expected.prompts() {
        for name in names {
            inputs.push(input(&ids, name));
            wanted.push(name.map(|name| expected.greedy(name, &prompt)));
        }
    }
    let mut loaded = pipeline(&["wide", "narrow", "headed"]);
    let together = run(&mut loaded, inputs.clone());
    assert!(loaded.passes() < 50, "{} passes", loaded.passes());
    let mut bare = pipeline(&[]);
    for ((input, wanted), answer) in inputs.into_iter().zip(wanted).zip(&together) {
        let place = input.adapter.clone();
        let tokens: Vec<u32> = answer.rows[0].tokens.iter().map(|t| t.id).collect();
        match wanted {
            Some(wanted) => assert_eq!(tokens, wanted, "{place:?}"),
            None => assert_eq!(run(&mut bare, vec![input.clone()])[0].rows, answer.rows),
        }
        // Its prompt is found again, so that `usage` differs and the numbers do not.
        let alone = &run(&mut loaded, vec![input])[0];
        assert_eq!(alone.rows, answer.rows, "{place:?} alone");
    }
}

#[test]
fn the_model_says_which_adapters_it_has_and_refuses_others() {
    let (with, without) = (pipeline(&["wide", "narrow"]), pipeline(&[]));
    assert_eq!(with.preparer().info().adapters, ["wide", "narrow"]);
    let refuse = |pipeline: &TextPipeline| -> RequestError {
        let input = Input::Text(input(&[1, 2], Some("wode")));
        pipeline.preparer().prepare(input).unwrap_err()
    };
    let error = refuse(&with);
    assert_eq!(
        (error.kind, error.field.as_deref()),
        (ErrorKind::NotFound, Some("model"))
    );
    assert!(
        error.message.contains("wode") && error.message.contains("wide, narrow"),
        "{error}"
    );
    assert!(refuse(&without).message.contains("none is loaded"));
    let bytes = |pipeline: &TextPipeline| pipeline.footprint().host_bytes;
    let pairs = |name: &str| {
        let file = fixture("lora/llama2-f32")
            .join(name)
            .join("adapter_model.safetensors");
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        tensors.values().map(bytes).sum::<usize>() as u64
    };
    assert_eq!(
        bytes(&with) - bytes(&without),
        pairs("wide") + pairs("narrow")
    );
}

#[test]
fn an_adapter_that_does_not_fit_is_named() {
    let load = |adapters| {
        load_with("qwen2-f32", LIMITS, adapters)
            .err()
            .unwrap()
            .to_string()
    };
    let text = load(snapshots(FIXTURES[0].0, &["wide"]));
    assert!(
        text.contains("adapter wide") && text.contains("shape"),
        "{text}"
    );
    let twice = [
        snapshots(FIXTURES[0].0, &["wide"]),
        snapshots(FIXTURES[0].0, &["wide"]),
    ]
    .concat();
    let text = load_with(FIXTURES[0].0, LIMITS, twice)
        .err()
        .unwrap()
        .to_string();
    assert!(text.contains("wide") && text.contains("two"), "{text}");
}

#[test]
fn a_model_with_adapters_keeps_the_contract() {
    let names = [None, Some("wide"), Some("narrow"), Some("headed")];
    let make = || pipeline(&["wide", "narrow", "headed"]);
    let request = |number: u64| {
        let Input::Text(mut input) = batching::contract_input(number) else {
            panic!("a text model takes text")
        };
        input.adapter = names[number as usize % names.len()].map(str::to_owned);
        Input::Text(input)
    };
    contract::check(&Subject {
        make: &make,
        input: &request,
        requests: 24,
        suspend_every: 3,
    });
}

#[test]
fn beside_a_file_with_reordered_rows_an_adapter_is_refused() {
    let dir = fixture("gguf/llama-f16");
    let mut files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    let file = files
        .find(|path| path.extension().is_some_and(|e| e == "gguf"))
        .unwrap();
    let snapshot = chandler_text::gguf::open(&file).unwrap();
    let options = crate::drive::options(LIMITS, None);
    let options = chandler_text::TextOptions {
        adapters: snapshots(FIXTURES[0].0, &["wide"]),
        ..options
    };
    let refused = TextPipeline::load(&snapshot, options, &|_| {}).err();
    let text = refused.unwrap().to_string();
    assert!(
        text.contains("wide") && text.contains("safetensors"),
        "{text}"
    );
}
