//! How long Whisper's encoder and decoder take, on random weights in the shape of a published model:
//! `cargo run --release -p chandler-speech --example whisper_speed -- [tiny|base|small] [--q8] [--tokens N]`
//! Prints the machine and medians. Weights are f32, or Q8_0 with `--q8`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use candle_core::DType;
use chandler_nn::error::Result as NnResult;
use chandler_nn::weights::quantize::{Quantize, Scheme};
use chandler_nn::weights::{HostTensor, Snapshot, TensorSource};
use chandler_speech::layers::Placement;
use chandler_speech::whisper::caches::CacheLimits;
use chandler_speech::whisper::decoding::{
    BatchLimits, DecodeJob, DecodingBatch, Job, Outcome, Strategy,
};
use chandler_speech::whisper::model::quantize_role;
use chandler_speech::whisper::rules::Rules;
use chandler_speech::whisper::{Description, Whisper};
use serde_json::json;

/// Width, layers and heads of the published shapes.
const SHAPES: [(&str, [usize; 3]); 3] = [
    ("tiny", [384, 4, 6]),
    ("base", [512, 6, 8]),
    ("small", [768, 12, 12]),
];
const VOCAB: usize = 51_865;
const SOURCE: usize = 1500;
const TARGET: usize = 448;
const MELS: usize = 80;

/// Tensors of random numbers, made once.
struct Random(BTreeMap<String, HostTensor>);

impl Random {
    fn add(&mut self, name: String, shape: &[usize]) {
        let count: usize = shape.iter().product();
        let spread = 1.0 / (shape.iter().skip(1).product::<usize>().max(1) as f32).sqrt();
        let mut state = (name.len() as u64 + count as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut bytes = Vec::with_capacity(4 * count);
        for _ in 0..count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let x = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * spread;
            bytes.extend(x.to_le_bytes());
        }
        let tensor = HostTensor::from_bytes(&name, DType::F32, shape.to_vec(), bytes).unwrap();
        self.0.insert(name, tensor);
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize, bias: bool) {
        self.add(format!("{name}.weight"), &[outputs, inputs]);
        if bias {
            self.add(format!("{name}.bias"), &[outputs]);
        }
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }

    fn layer(&mut self, base: &str, width: usize, attentions: &[&str]) {
        for attention in attentions {
            for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                let name = format!("{base}.{attention}.{part}");
                self.linear(&name, width, width, part != "k_proj");
            }
            self.norm(&format!("{base}.{attention}_layer_norm"), width);
        }
        self.linear(&format!("{base}.fc1"), 4 * width, width, true);
        self.linear(&format!("{base}.fc2"), width, 4 * width, true);
        self.norm(&format!("{base}.final_layer_norm"), width);
    }

    fn whisper([width, layers, _]: [usize; 3]) -> Self {
        let mut all = Self(BTreeMap::new());
        all.add("model.encoder.conv1.weight".into(), &[width, MELS, 3]);
        all.add("model.encoder.conv1.bias".into(), &[width]);
        all.add("model.encoder.conv2.weight".into(), &[width, width, 3]);
        all.add("model.encoder.conv2.bias".into(), &[width]);
        all.add(
            "model.encoder.embed_positions.weight".into(),
            &[SOURCE, width],
        );
        all.add(
            "model.decoder.embed_positions.weight".into(),
            &[TARGET, width],
        );
        all.add("model.decoder.embed_tokens.weight".into(), &[VOCAB, width]);
        all.norm("model.encoder.layer_norm", width);
        all.norm("model.decoder.layer_norm", width);
        for layer in 0..layers {
            all.layer(
                &format!("model.encoder.layers.{layer}"),
                width,
                &["self_attn"],
            );
            let both = ["self_attn", "encoder_attn"];
            all.layer(&format!("model.decoder.layers.{layer}"), width, &both);
        }
        all
    }
}

impl TensorSource for Random {
    fn tensor(&self, name: &str) -> NnResult<HostTensor> {
        Ok(self.0.get(name).expect("a tensor of this shape").clone())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn total_bytes(&self) -> u64 {
        self.0
            .values()
            .map(|tensor| tensor.bytes().len() as u64)
            .sum()
    }

    fn prefetch(&self, _progress: &(dyn Fn(u64, u64) + Sync)) -> NnResult<()> {
        Ok(())
    }
}

/// The JSON files of a model of this shape, with a tokenizer that has special tokens and little else.
fn description([width, layers, heads]: [usize; 3]) -> Description {
    let config = json!({
        "architectures": ["WhisperForConditionalGeneration"], "vocab_size": VOCAB, "num_mel_bins": MELS, "d_model": width,
        "encoder_layers": layers, "encoder_attention_heads": heads, "encoder_ffn_dim": 4 * width,
        "decoder_layers": layers, "decoder_attention_heads": heads, "decoder_ffn_dim": 4 * width,
        "max_source_positions": SOURCE, "max_target_positions": TARGET,
        "decoder_start_token_id": 50_258, "eos_token_id": 50_257,
    });
    let generation = json!({
        "no_timestamps_token_id": 50_363,
        // The transcript is as long as it is asked to be.
        "suppress_tokens": [50_257],
    });
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    });
    let files = [
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer.json", tokenizer),
    ];
    let files = files.map(|(name, value)| (name.to_owned(), serde_json::to_vec(&value).unwrap()));
    let weights = Arc::new(Random(BTreeMap::new()));
    let snapshot = Snapshot::composed("random", files.into_iter().collect(), weights);
    Description::from_snapshot(&snapshot).unwrap()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn frames(seed: usize) -> Vec<f32> {
    (0..2 * SOURCE * MELS)
        .map(|i| ((i * 31 + seed * 7919) as f32 * 0.618).sin())
        .collect()
}

fn encoder(model: &Whisper) {
    let frames = frames(1);
    let times = (0..5).map(|_| {
        let began = Instant::now();
        let mut encoding = model.encoder.begin(&[&frames]).unwrap();
        while !model.encoder.advance(&mut encoding).unwrap() {}
        model.encoder.finish(&encoding).unwrap();
        began.elapsed().as_secs_f64()
    });
    println!("encoder, one window: {:.3} s", median(times.collect()));
}

fn decoder(model: &Whisper, windows: usize, tokens: usize) {
    let limits = BatchLimits {
        caches: CacheLimits {
            windows,
            sequences: windows,
        },
        ..BatchLimits::default()
    };
    let mut batch = DecodingBatch::new(model, limits).unwrap();
    let open: Vec<_> = (0..windows)
        .map(|n| batch.open(frames(n)).unwrap())
        .collect();
    while !batch.step(model).unwrap().is_idle() {}
    let rules = Arc::new(Rules::of_checkpoint(&model.description.generation, false));
    let times = (0..5).map(|_| {
        for id in &open {
            let job = DecodeJob {
                prompt: vec![50_258, 50_259, 50_359, 50_363],
                sot: 0,
                rules: Arc::clone(&rules),
                strategy: Strategy::Greedy,
                max_tokens: tokens,
            };
            batch.submit(model, *id, Job::Decode(job)).unwrap();
        }
        let began = Instant::now();
        let mut answers = 0;
        while answers < windows {
            for (_, outcome) in batch.step(model).unwrap().outcomes {
                assert!(matches!(outcome, Outcome::Decoded(found) if found.tokens.len() == tokens));
                answers += 1;
            }
        }
        began.elapsed().as_secs_f64()
    });
    let time = median(times.collect());
    let each = time / tokens as f64;
    println!(
        "decoder, {windows} windows, {tokens} tokens each: {time:.3} s, {:.2} ms a step",
        each * 1e3
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let tokens = arguments
        .iter()
        .skip_while(|argument| *argument != "--tokens")
        .nth(1);
    let tokens = tokens.map_or(64, |tokens| tokens.parse().unwrap());
    let (name, shape) = SHAPES
        .into_iter()
        .find(|(name, _)| has(name))
        .unwrap_or(SHAPES[0]);
    let description = description(shape);
    let mut source: Arc<dyn TensorSource> = Arc::new(Random::whisper(shape));
    if has("--q8") {
        let quantize = Quantize {
            scheme: Scheme::Q8_0,
            cache: None,
        };
        let config = Arc::clone(&description.config);
        let role = |name: &str| quantize_role(name, &config);
        source = quantize.apply(source, &role, &|_, _| {}).unwrap();
    }
    let model = Whisper::load(description, source.as_ref(), Placement::cpu()).unwrap();
    println!("{}", chandler_nn::device::describe(&model.placement.device));
    println!(
        "{name}, {:.0} MiB of weights",
        model.bytes() as f64 / f64::from(1 << 20)
    );
    encoder(&model);
    for windows in [1, 8] {
        decoder(&model, windows, tokens);
    }
}
