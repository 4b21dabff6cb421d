//! GGUF files against `transformers`, which loads the same files: logits and greedy tokens, texts, and the chat template. The
//! expected values are in `fixtures/gguf/`, and `fixture_gguf.py` made them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::DType;
use chandler_nn::error::NnError;
use chandler_nn::weights::gguf::{Announced, GgufFile, Value as Metadata, Writer};
use chandler_nn::weights::quantize::{Quantize, Role, Scheme};
use chandler_nn::weights::{HostTensor, Snapshot, TensorSource};
use chandler_text::config::DecoderConfig;
use chandler_text::gguf;
use chandler_text::tokenizer::Tokenizer;
use serde_json::Value;

use super::on_device::{has_exact_company, is_comparable, tolerance};
use super::parity::{Model, check_step, expected, fixture, relative_error, strided};

const FIXTURES: [&str; 3] = ["gguf/llama-f16", "gguf/llama-q4k", "gguf/qwen2-q8_0"];

/// A file of each further family: what the converter does to it is in `fixture_gguf_families.py`.
const FAMILIES: [&str; 9] = [
    "gguf/mixtral",
    "gguf/qwen3",
    "gguf/qwen3-moe",
    "gguf/gemma2",
    "gguf/gemma3",
    "gguf/phi3",
    "gguf/olmo2",
    "gguf/smollm3",
    "gguf/gpt2",
];

fn all() -> impl Iterator<Item = &'static str> {
    let all = FIXTURES.into_iter().chain(FAMILIES);
    all.filter(|name| is_comparable(name))
}

fn model_file(name: &str) -> PathBuf {
    fixture(name).join("model.gguf")
}

fn described(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixture(name).join("expected.json")).unwrap()).unwrap()
}

#[test]
fn logits_and_tokens_of_a_gguf_are_transformers() {
    for name in all() {
        let snapshot = gguf::open(&model_file(name)).unwrap();
        for prompt in expected(name).0 {
            let mut model = Model::of(&snapshot);
            let mut sequence = [Model::sequence(&prompt.ids)];
            let mut logits = model
                .pass(&mut sequence, &[prompt.ids.len()])
                .pop()
                .unwrap();
            for step in 0..prompt.greedy.len() {
                check_step(name, &prompt, step, &logits);
                sequence[0].tokens.push(prompt.greedy[step]);
                logits = model.pass(&mut sequence, &[1]).pop().unwrap();
            }
        }
    }
}

#[test]
fn every_position_of_a_prompt_agrees_however_it_is_cut() {
    for name in FIXTURES {
        let snapshot = gguf::open(&model_file(name)).unwrap();
        let (prompts, arrays) = expected(name);
        let prompt = prompts.iter().find(|p| p.name == "p23").unwrap();
        let whole: Vec<Vec<f32>> = arrays["prefill.p23"].to_vec2().unwrap();
        let mut first: Option<Vec<Vec<f32>>> = None;
        for chunk in [23, 5, 1] {
            let mut model = Model::of(&snapshot);
            let mut sequence = [Model::sequence(&prompt.ids)];
            let mut found = Vec::new();
            while found.len() < prompt.ids.len() {
                let take = chunk.min(prompt.ids.len() - found.len());
                found.extend(model.pass(&mut sequence, &[take]));
            }
            for (position, (found, expected)) in found.iter().zip(&whole).enumerate() {
                let error = relative_error(&strided(found), expected);
                assert!(
                    error < tolerance(1e-4),
                    "{name} position {position}, chunks of {chunk}: {error:e}"
                );
            }
            assert!(
                *first.get_or_insert_with(|| found.clone()) == found || !has_exact_company(),
                "{name}: other bits in chunks of {chunk}"
            );
        }
    }
}

#[test]
fn texts_and_the_template_are_transformers() {
    for name in all() {
        let snapshot = gguf::open(&model_file(name)).unwrap();
        let tokenizer = Tokenizer::from_snapshot(&snapshot).unwrap();
        let expected = described(name);
        let cases = expected["encode"].as_array().unwrap();
        // transformers loads no file of these two.
        assert!(cases.len() >= 5 || name.ends_with("olmo2") || name.ends_with("smollm3"));
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let add = case["add_special_tokens"].as_bool().unwrap();
            let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
            assert_eq!(
                tokenizer.encode(text, add).unwrap(),
                ids,
                "{name}: {text:?}, {add}"
            );
            assert_eq!(
                tokenizer.decode(&ids, true).unwrap(),
                case["decoded"],
                "{name}: {text:?}"
            );
        }
    }
    let chat = described("gguf/qwen2-q8_0")["chat"].clone();
    let snapshot = gguf::open(&model_file("gguf/qwen2-q8_0")).unwrap();
    let config: Value =
        serde_json::from_slice(&snapshot.read("tokenizer_config.json").unwrap().unwrap()).unwrap();
    assert!(chat.as_str().unwrap().contains("trim wicks"));
    assert!(
        config["chat_template"]
            .as_str()
            .unwrap()
            .contains("trim wicks")
    );
}

#[test]
fn nothing_of_a_llama_is_copied() {
    let file = model_file("gguf/llama-q4k");
    let weights = gguf::open(&file).unwrap().weights().unwrap();
    assert_eq!(
        weights.total_bytes(),
        GgufFile::open(&file).unwrap().total_bytes()
    );
    for name in weights.names() {
        assert!(weights.tensor(&name).unwrap().is_mapped(), "{name}");
    }
    let query = weights
        .tensor("model.layers.0.self_attn.q_proj.weight")
        .unwrap();
    assert_eq!(
        (query.shape(), query.stored().name()),
        (&[256, 256][..], "Q4_K")
    );
    assert!(!weights.contains("lm_head.weight") && !weights.contains("rope_freqs.weight"));
    let hint = weights
        .tensor("model.layers.7.mlp.up_proj.weight")
        .unwrap_err()
        .to_string();
    assert!(hint.contains("model.gguf"), "{hint}");
}

#[test]
fn a_configuration_is_read_off_the_metadata() {
    let config = |name: &str| {
        let snapshot = gguf::open(&model_file(name)).unwrap();
        DecoderConfig::from_snapshot(&snapshot).unwrap()
    };
    let llama = config("gguf/llama-f16");
    assert_eq!(
        (llama.vocab_size, llama.head_dim, llama.kv_heads, llama.tied),
        (515, 16, 2, false)
    );
    assert_eq!(llama.eos, [2]);
    let qwen = config("gguf/qwen2-q8_0");
    // The end of a turn is the file's own; <|endoftext|> is one by its name, as in llama.cpp.
    assert_eq!(
        (qwen.eos.as_slice(), qwen.qkv_bias, qwen.tied),
        (&[507, 509][..], true, true)
    );
}

/// The fixture's metadata with something changed, and its tensors.
fn changed(
    dir: &Path,
    change: impl FnOnce(&mut Vec<(String, Metadata)>, &mut Vec<String>),
) -> PathBuf {
    let file = GgufFile::open(model_file("gguf/qwen2-q8_0")).unwrap();
    let metadata = file.metadata();
    let mut keys: Vec<(String, Metadata)> = metadata
        .keys()
        .map(|key| (key.to_owned(), metadata.get(key).unwrap().clone()))
        .collect();
    let old = file.names();
    let mut names = old.clone();
    change(&mut keys, &mut names);
    let tensors: Vec<_> = old.iter().map(|name| file.tensor(name).unwrap()).collect();
    let announced: Vec<Announced> = tensors
        .iter()
        .zip(names)
        .map(|(tensor, name)| Announced {
            name,
            stored: tensor.stored(),
            shape: tensor.shape().to_vec(),
        })
        .collect();
    let keys: Vec<(&str, Metadata)> = keys
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    let path = dir.join("changed.gguf");
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), &keys, &announced).unwrap();
    for tensor in &tensors {
        writer.tensor(tensor.bytes()).unwrap();
    }
    writer.finish().unwrap();
    path
}

fn set(keys: &mut Vec<(String, Metadata)>, key: &str, value: Metadata) {
    keys.retain(|(other, _)| other != key);
    keys.push((key.to_owned(), value));
}

fn complaint(change: impl FnOnce(&mut Vec<(String, Metadata)>, &mut Vec<String>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = changed(dir.path(), change);
    gguf::open(&path).unwrap_err().to_string()
}

#[test]
fn what_is_not_served_is_named() {
    let text = |value: &str| Metadata::Text(value.to_owned());
    let found = complaint(|keys, _| set(keys, "general.architecture", text("mamba")));
    assert!(
        found.contains("changed.gguf") && found.contains("mamba") && found.contains("qwen2"),
        "{found}"
    );
    let found = complaint(|keys, _| keys.retain(|(key, _)| key != "general.architecture"));
    assert!(found.contains("general.architecture"), "{found}");
    let found = complaint(|keys, _| keys.retain(|(key, _)| key != "qwen2.block_count"));
    assert!(found.contains("qwen2.block_count"), "{found}");
    let found = complaint(|keys, _| set(keys, "qwen2.embedding_length", text("64")));
    assert!(
        found.contains("qwen2.embedding_length") && found.contains("64"),
        "{found}"
    );
    let found = complaint(|keys, _| set(keys, "qwen2.rope.scaling.type", text("wavy")));
    assert!(found.contains("wavy"), "{found}");
    let found = complaint(|keys, _| set(keys, "tokenizer.ggml.pre", text("martian")));
    assert!(
        found.contains("martian") && found.contains("tokenizer.json beside"),
        "{found}"
    );
    let found = complaint(|keys, _| set(keys, "tokenizer.ggml.model", text("t5")));
    assert!(found.contains("t5"), "{found}");
    let found =
        complaint(|keys, _| set(keys, "tokenizer.ggml.eos_token_id", Metadata::Integer(9999)));
    assert!(found.contains("9999"), "{found}");
    let found = complaint(|keys, _| {
        set(
            keys,
            "tokenizer.ggml.token_type",
            Metadata::Integers(vec![1]),
        )
    });
    assert!(
        found.contains("token_type") && found.contains("515"),
        "{found}"
    );
    let found = complaint(|keys, _| {
        set(
            keys,
            "tokenizer.ggml.merges",
            Metadata::Texts(vec!["ab".to_owned()]),
        )
    });
    assert!(found.contains("merges"), "{found}");
    let found = complaint(|keys, _| set(keys, "qwen2.logit_scale", Metadata::Float(0.5)));
    assert!(
        found.contains("qwen2.logit_scale") && found.contains("not served"),
        "{found}"
    );
    let found = complaint(|_, names| names[0] = "blk.0.ssm_a.weight".to_owned());
    assert!(found.contains("blk.0.ssm_a.weight"), "{found}");
}

#[test]
fn a_tokenizer_beside_the_file_wins() {
    let dir = tempfile::tempdir().unwrap();
    // Its own would be an error.
    let path = changed(dir.path(), |keys, _| {
        set(
            keys,
            "tokenizer.ggml.model",
            Metadata::Text("t5".to_owned()),
        )
    });
    let beside = fixture("llama2-f32");
    for file in [
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        std::fs::copy(beside.join(file), dir.path().join(file)).unwrap();
    }
    let snapshot = gguf::open(&path).unwrap();
    let found = Tokenizer::from_snapshot(&snapshot).unwrap();
    let other = Tokenizer::from_snapshot(&Snapshot::dir(&beside).unwrap()).unwrap();
    assert_eq!(
        found.encode("Hello world", true).unwrap(),
        other.encode("Hello world", true).unwrap()
    );
    assert!(snapshot.read("generation_config.json").unwrap().is_some());
}

#[test]
fn a_digit_is_a_word_and_a_named_cut_is_the_models_own() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = |pre: &str, text: &str| {
        let path = changed(dir.path(), |keys, _| {
            set(keys, "tokenizer.ggml.pre", Metadata::Text(pre.to_owned()))
        });
        let tokenizer = Arc::new(Tokenizer::from_snapshot(&gguf::open(&path).unwrap()).unwrap());
        tokenizer.encode(text, false).unwrap()
    };
    // Composed first, as Qwen's tokenizer.json has it and its GGUF does not say.
    assert_eq!(tokens("qwen2", "e\u{301}"), tokens("qwen2", "é"));
    assert_ne!(tokens("gpt-2", "e\u{301}"), tokens("gpt-2", "é"));
    for pre in ["smollm", "qwen2"] {
        let parts: Vec<u32> = "1234"
            .chars()
            .flat_map(|digit| tokens(pre, &digit.to_string()))
            .collect();
        assert_eq!(tokens(pre, "1234"), parts, "{pre}");
    }
}

#[test]
fn a_gguf_is_quantised_only_when_it_is_not() {
    let quantize = |name: &str, scheme: Scheme| {
        let weights = gguf::open(&model_file(name)).unwrap().weights().unwrap();
        let quantize = Quantize {
            scheme,
            cache: None,
        };
        quantize.apply(weights, &|_| Role::Matrix, &|_, _| {})
    };
    let made = quantize("gguf/llama-f16", Scheme::Q8_0).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(made.tensor(name).unwrap().stored().name(), "Q8_0");
    let error = quantize("gguf/llama-q4k", Scheme::Q8_0)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("already"), "{error}");
}

/// The same tensors as plain f32 numbers.
struct Widened(Arc<dyn TensorSource>);

impl TensorSource for Widened {
    fn tensor(&self, name: &str) -> Result<HostTensor, NnError> {
        self.0.tensor(name)?.to_dtype(DType::F32)
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn total_bytes(&self) -> u64 {
        self.0.total_bytes()
    }

    fn prefetch(&self, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<(), NnError> {
        self.0.prefetch(progress)
    }
}

#[test]
fn a_checkpoint_that_was_quantised_here_answers_as_its_blocks_say() {
    let name = "gguf/llama-f16";
    let original = gguf::open(&model_file(name)).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let quantize = Quantize {
        scheme: Scheme::Q8_0,
        cache: Some(cache.path().to_owned()),
    };
    let role = |name: &str| match name.contains("embed_tokens") {
        true => Role::Kept,
        false => Role::Matrix,
    };
    let made = quantize
        .apply(original.weights().unwrap(), &role, &|_, _| {})
        .unwrap();
    let prompt = expected(name)
        .0
        .into_iter()
        .find(|p| p.name == "p23")
        .unwrap();
    let logits = |weights: Arc<dyn TensorSource>| {
        let config = original.read("config.json").unwrap().unwrap();
        let snapshot =
            Snapshot::composed("x", [("config.json".to_owned(), config)].into(), weights);
        let mut sequence = [Model::sequence(&prompt.ids)];
        Model::of(&snapshot)
            .pass(&mut sequence, &[prompt.ids.len()])
            .pop()
            .unwrap()
    };
    let whole = logits(original.weights().unwrap());
    let widened = logits(Arc::new(Widened(made.clone())));
    let blocks = logits(made);
    assert!(relative_error(&blocks, &widened) < tolerance(1e-4));
    let loss = relative_error(&blocks, &whole);
    assert!(loss > 1e-4 && loss < 0.05, "{loss}");
}
