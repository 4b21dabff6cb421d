//! The decoder against `transformers`: logits of prefill and of step-by-step decode, alone, in company, and with the
//! prompt cut into chunks. The expected values are in `fixtures/`, and `make_fixtures.py` made them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use chandler_nn::attention::Span;
use chandler_nn::kv_cache::{BlockPool, BlockTable, CacheShape, KvCache};
use chandler_nn::weights::{Activations, Snapshot};
use chandler_text::config::DecoderConfig;
use chandler_text::decoder::{Decoder, Pass, Tokens};
use serde_json::Value;

use crate::on_device::{self, is_comparable, tolerance};

/// max|a−b| / max|b|, as design.md defines it.
const TOLERANCE: f32 = 1e-4;

const EXACT: Activations = Activations::F32;

pub const FIXTURES: [&str; 6] = [
    "llama2-f32",
    "llama3-bf16-sharded",
    "llama-linear-f16",
    "llama-dynamic-f32",
    "llama-yarn-f32",
    "qwen2-f32",
];

/// A checkpoint of each family: what config.json may say of it is in `fixture_families.py`.
const FAMILIES: [&str; 12] = [
    "families/mistral",
    "families/ministral",
    "families/qwen3",
    "families/gemma2",
    "families/gemma3",
    "families/gemma3-vision",
    "families/phi3",
    "families/smollm3",
    "families/mixtral",
    "families/qwen3-moe",
    "families/olmo2",
    "families/gpt2",
];

pub fn all() -> impl Iterator<Item = &'static str> {
    let all = FIXTURES.into_iter().chain(FAMILIES);
    all.filter(|name| is_comparable(name))
}

/// The contexts that a model is served with: a longrope model once within its trained length, and once past it.
fn contexts(name: &str) -> &'static [Option<usize>] {
    match name {
        "families/phi3" => &[None, Some(192)],
        _ => &[None],
    }
}

/// Whether transformers' answer to a prompt is of the model as it is served with this context.
fn answers(name: &str, context: Option<usize>, prompt: &Expected) -> bool {
    name != "families/phi3" || context.is_some() == (prompt.ids.len() > 64)
}

/// The folder of a fixture, its weights included.
pub fn fixture(name: &str) -> PathBuf {
    let own = on_device::fixtures().join(name);
    random_checkpoints::checkpoint(&own, &on_device::scratch()).unwrap()
}

/// Of rows that are not recorded whole, every fifth id's logit is.
pub fn strided(logits: &[f32]) -> Vec<f32> {
    logits.iter().step_by(5).copied().collect()
}

/// One prompt and what `transformers` answered.
#[derive(Clone)]
pub struct Expected {
    pub name: String,
    pub ids: Vec<u32>,
    pub greedy: Vec<u32>,
    /// Which decode steps' logits are recorded, and those logits.
    steps: Vec<usize>,
    logits: Vec<Vec<f32>>,
    /// Of some prompts a part of every step's.
    strided: Vec<Vec<f32>>,
}

pub fn expected(name: &str) -> (Vec<Expected>, HashMap<String, Tensor>) {
    let json: Value =
        serde_json::from_slice(&std::fs::read(fixture(name).join("expected.json")).unwrap())
            .unwrap();
    let arrays =
        candle_core::safetensors::load(fixture(name).join("expected.safetensors"), &Device::Cpu)
            .unwrap();
    let numbers = |v: &Value| -> Vec<u32> {
        v.as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap() as u32)
            .collect()
    };
    let prompts = json["prompts"].as_array().unwrap().iter().map(|p| {
        let name = p["name"].as_str().unwrap().to_owned();
        Expected {
            ids: numbers(&p["ids"]),
            greedy: numbers(&p["greedy"]),
            steps: numbers(&p["steps"])
                .into_iter()
                .map(|s| s as usize)
                .collect(),
            logits: arrays[&format!("logits.{name}")].to_vec2().unwrap(),
            strided: arrays
                .get(&format!("strided.{name}"))
                .map_or_else(Vec::new, |rows| rows.to_vec2().unwrap()),
            name,
        }
    });
    // Past the trained length, transformers' dynamic scaling depends on how a prompt was cut: it has no one answer to hold.
    let prompts = prompts
        .filter(|p| !(name == "llama-dynamic-f32" && p.ids.len() > 64))
        .collect();
    (prompts, arrays)
}

pub struct Model {
    snapshot: Snapshot,
    config: DecoderConfig,
    decoder: Decoder,
    cache: KvCache,
    pool: BlockPool,
}

/// A sequence that is being decoded.
pub struct Sequence {
    table: BlockTable,
    pub tokens: Vec<u32>,
    pub adapter: Option<u32>,
}

impl Model {
    pub fn load(name: &str) -> Self {
        Self::open(&fixture(name), None)
    }

    fn open(dir: &Path, context: Option<usize>) -> Self {
        Self::build(&Snapshot::dir(dir).unwrap(), context, (false, EXACT))
    }

    pub fn of(snapshot: &Snapshot) -> Self {
        Self::with_activations(snapshot, EXACT)
    }

    pub fn with_activations(snapshot: &Snapshot, activations: Activations) -> Self {
        Self::build(snapshot, None, (false, activations))
    }

    /// In candle operations throughout, as on a device that has no kernels of ours.
    pub fn plain(dir: &Path, context: Option<usize>) -> Self {
        Self::build(&Snapshot::dir(dir).unwrap(), context, (true, EXACT))
    }

    fn build(
        snapshot: &Snapshot,
        context: Option<usize>,
        (plain, activations): (bool, Activations),
    ) -> Self {
        let config = DecoderConfig::from_snapshot(snapshot).unwrap();
        let config = config.for_context(context).unwrap();
        let weights = snapshot.weights().unwrap();
        let dtype = [on_device::dtype, on_device::plain_dtype][usize::from(plain)]();
        let device = on_device::device();
        let weights = activations.apply(weights, &device).unwrap();
        let load = [Decoder::load, Decoder::load_plain][usize::from(plain)];
        let decoder = load(&config, weights.as_ref(), &device, dtype).unwrap();
        let shape = CacheShape {
            layers: config.layers.len(),
            blocks: 100,
            block_size: 16,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        Self {
            cache: [KvCache::new, KvCache::plain][usize::from(plain)](shape, &device, dtype)
                .unwrap(),
            pool: BlockPool::new(shape.blocks, shape.block_size).unwrap(),
            snapshot: snapshot.clone(),
            config,
            decoder,
        }
    }

    /// Puts adapters beside the model.
    pub fn attach(&mut self, adapters: &[(String, Snapshot)]) {
        let weights = self.snapshot.weights().unwrap();
        self.decoder
            .attach(adapters, weights.as_ref(), on_device::plain_dtype())
            .unwrap();
    }

    /// Takes the next `take` tokens of each sequence through the model; logits of all rows.
    pub fn pass(&mut self, sequences: &mut [Sequence], take: &[usize]) -> Vec<Vec<f32>> {
        let (mut tokens, mut positions, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let mut ranges = Vec::new();
        for (sequence, take) in sequences.iter_mut().zip(take) {
            let start = sequence.table.len();
            ranges.push(tokens.len()..tokens.len() + take);
            tokens.extend(&sequence.tokens[start..start + take]);
            positions.extend((start..start + take).map(|p| p as u32));
            slots.extend(self.pool.append(&mut sequence.table, *take).unwrap().slots);
        }
        let spans: Vec<Span<'_>> = sequences
            .iter()
            .zip(&ranges)
            .map(|(sequence, rows)| Span {
                rows: rows.clone(),
                context: sequence.table.len(),
                blocks: sequence.table.blocks(),
            })
            .collect();
        let adapters: Vec<Option<u32>> = sequences.iter().map(|s| s.adapter).collect();
        let wanted: Vec<u32> = (0..tokens.len() as u32).collect();
        let pass = Pass {
            tokens: Tokens::Known(&tokens),
            positions: &positions,
            slots: &slots,
            spans: &spans,
            adapters: &adapters,
            wanted: &wanted,
        };
        let logits = self
            .decoder
            .forward(&pass, &mut self.cache)
            .unwrap()
            .unwrap();
        on_device::back(&logits).to_vec2().unwrap()
    }

    pub fn sequence(prompt: &[u32]) -> Sequence {
        Sequence {
            table: BlockTable::new(),
            tokens: prompt.to_vec(),
            adapter: None,
        }
    }
}

pub fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let difference = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    let largest = expected.iter().map(|b| b.abs()).fold(0.0, f32::max);
    difference / largest
}

/// Whether a token is the most likely; where numbers may be off, whether none is more likely by more than two of them may be.
pub fn chooses(logits: &[f32], token: u32) -> bool {
    let largest = logits.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    most - logits[token as usize] <= 2.0 * tolerance(0.0) * largest
}

pub fn check_step(model: &str, prompt: &Expected, step: usize, logits: &[f32]) {
    let check = |found: &[f32], expected: &[f32]| {
        let error = relative_error(found, expected);
        assert!(
            error < tolerance(TOLERANCE),
            "{model} {} step {step}: logits differ by {error:e}",
            prompt.name
        );
    };
    if let Some(at) = prompt.steps.iter().position(|s| *s == step) {
        check(logits, &prompt.logits[at]);
    }
    if let Some(part) = prompt.strided.get(step) {
        check(&strided(logits), part);
    }
    assert!(
        chooses(logits, prompt.greedy[step]),
        "{model} {} step {step}: the token differs",
        prompt.name
    );
}

#[test]
fn prefill_and_decode_agree_with_transformers_alone() {
    for name in all() {
        for context in contexts(name) {
            let (prompts, _) = expected(name);
            for prompt in prompts.iter().filter(|p| answers(name, *context, p)) {
                let mut model = Model::open(&fixture(name), *context);
                let mut sequence = [Model::sequence(&prompt.ids)];
                let mut logits = model
                    .pass(&mut sequence, &[prompt.ids.len()])
                    .pop()
                    .unwrap();
                for step in 0..prompt.greedy.len() {
                    check_step(name, prompt, step, &logits);
                    sequence[0].tokens.push(prompt.greedy[step]);
                    logits = model.pass(&mut sequence, &[1]).pop().unwrap();
                }
            }
        }
    }
}

#[test]
fn prefill_and_decode_agree_with_transformers_in_a_batch_of_mixed_lengths() {
    check_batches(Model::open);
}

#[test]
fn prefill_and_decode_agree_with_transformers_in_candle_operations() {
    check_batches(Model::plain);
}

fn check_batches(open: impl Fn(&Path, Option<usize>) -> Model) {
    for name in all() {
        for context in contexts(name) {
            let (mut prompts, _) = expected(name);
            prompts.retain(|prompt| answers(name, *context, prompt));
            let mut model = open(&fixture(name), *context);
            let mut sequences: Vec<Sequence> =
                prompts.iter().map(|p| Model::sequence(&p.ids)).collect();
            let mut take: Vec<usize> = prompts.iter().map(|p| p.ids.len()).collect();
            for step in 0..32 {
                let logits = model.pass(&mut sequences, &take);
                let mut end = 0;
                for (prompt, (sequence, take)) in
                    prompts.iter().zip(sequences.iter_mut().zip(&mut take))
                {
                    end += *take;
                    check_step(name, prompt, step, &logits[end - 1]);
                    sequence.tokens.push(prompt.greedy[step]);
                    *take = 1;
                }
            }
        }
    }
}

/// The logits of every position of a prompt that is read in pieces of `chunk` tokens.
fn in_chunks(model: &mut Model, prompt: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let mut sequence = [Model::sequence(prompt)];
    let mut found = Vec::new();
    while found.len() < prompt.len() {
        let take = chunk.min(prompt.len() - found.len());
        found.extend(model.pass(&mut sequence, &[take]));
    }
    found
}

#[test]
fn every_position_of_a_prompt_agrees_however_it_is_cut() {
    for name in all() {
        let (prompts, arrays) = expected(name);
        let prompt = prompts.iter().find(|p| p.name == "p23").unwrap();
        let whole: Vec<Vec<f32>> = arrays["prefill.p23"].to_vec2().unwrap();
        for chunk in [1, 5, 16, 23] {
            let found = in_chunks(&mut Model::load(name), &prompt.ids, chunk);
            for (position, (found, expected)) in found.iter().zip(&whole).enumerate() {
                let error = relative_error(&strided(found), expected);
                assert!(
                    error < tolerance(TOLERANCE),
                    "{name} position {position}, chunks of {chunk}: {error:e}"
                );
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_in_company_and_in_chunks() {
    for name in all() {
        let (prompts, _) = expected(name);
        let of = |name: &str| &prompts.iter().find(|p| p.name == name).unwrap().ids;
        let (prompt, other) = (of("p23"), of("p7"));
        let alone = in_chunks(&mut Model::load(name), prompt, 23);
        assert!(
            in_chunks(&mut Model::load(name), prompt, 5) == alone,
            "{name}"
        );
        let mut together = [other, prompt, other].map(|ids| Model::sequence(ids));
        let together = Model::load(name).pass(&mut together, &[7, 23, 7]);
        assert!(together[7..30] == alone, "{name}");
        assert!(together[..7] == together[30..], "{name}");
    }
}

/// A copy of a fixture in which some files may be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

#[test]
fn the_old_spelling_of_a_config_is_the_same_model() {
    for name in all() {
        let (prompts, _) = expected(name);
        let prompt = prompts.iter().find(|p| p.name == "p7").unwrap();
        let dir = copy(name);
        std::fs::copy(
            fixture(name).join("config.v4.json"),
            dir.path().join("config.json"),
        )
        .unwrap();
        let (mut old, new) = (Model::open(dir.path(), None), Model::load(name));
        assert_eq!(
            format!("{:?}", old.config),
            format!("{:?}", new.config),
            "{name}"
        );
        let mut sequence = [Model::sequence(&prompt.ids)];
        let logits = old.pass(&mut sequence, &[prompt.ids.len()]).pop().unwrap();
        check_step(name, prompt, 0, &logits);
    }
}

/// That a fixture with its tensors changed by `change` is the same model to the last bit.
fn check_same(name: &str, change: impl FnOnce(HashMap<String, Tensor>) -> HashMap<String, Tensor>) {
    let dir = copy(name);
    let file = dir.path().join("model.safetensors");
    let tensors = change(candle_core::safetensors::load(&file, &Device::Cpu).unwrap());
    candle_core::safetensors::save(&tensors, &file).unwrap();
    let prompt = [5, 17, 3, 96, 41];
    let found = in_chunks(&mut Model::open(dir.path(), None), &prompt, 5);
    assert!(
        found == in_chunks(&mut Model::load(name), &prompt, 5),
        "{name}"
    );
}

#[test]
fn experts_in_one_tensor_are_the_same_model() {
    let cases = [
        ("families/mixtral", "block_sparse_moe", ["w1", "w3", "w2"]),
        (
            "families/qwen3-moe",
            "mlp",
            ["gate_proj", "up_proj", "down_proj"],
        ),
    ];
    for (name, block, parts) in cases {
        check_same(name, |mut tensors| {
            let layers = 0..4;
            for layer in layers {
                let base = format!("model.layers.{layer}.{block}");
                let mut stacks: [Vec<Tensor>; 3] = Default::default();
                for expert in 0..8 {
                    for (part, stack) in parts.iter().zip(&mut stacks) {
                        let name = format!("{base}.experts.{expert}.{part}.weight");
                        stack.extend(tensors.remove(&name));
                    }
                }
                let [gate, up, down] = stacks;
                if gate.is_empty() {
                    continue;
                }
                let router = tensors.remove(&format!("{base}.gate.weight")).unwrap();
                let [gate, up, down] = [gate, up, down].map(|s| Tensor::stack(&s, 0).unwrap());
                let both = Tensor::cat(&[gate, up], 1).unwrap();
                let base = format!("model.layers.{layer}.mlp");
                tensors.insert(format!("{base}.gate.weight"), router);
                tensors.insert(format!("{base}.experts.gate_up_proj"), both);
                tensors.insert(format!("{base}.experts.down_proj"), down);
            }
            assert!(tensors.keys().any(|name| name.ends_with("gate_up_proj")));
            tensors
        });
    }
}

#[test]
fn a_gpt2_without_its_prefix_is_the_same_model() {
    check_same("families/gpt2", |tensors| {
        let bare = |name: String| name.strip_prefix("transformer.").unwrap().to_owned();
        tensors.into_iter().map(|(k, v)| (bare(k), v)).collect()
    });
}

#[test]
fn the_text_half_of_a_model_that_sees_is_found_under_both_names() {
    check_same("families/gemma3-vision", |tensors| {
        let renamed = |name: String| match name.strip_prefix("model.language_model.") {
            Some(rest) => format!("language_model.model.{rest}"),
            None => match name.strip_prefix("language_model.model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => name,
            },
        };
        tensors.into_iter().map(|(k, v)| (renamed(k), v)).collect()
    });
}
