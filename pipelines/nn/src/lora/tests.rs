//! Adapters written for these tests: which layers they mean, what is refused by name, and that rows keep to themselves.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::error::Result;
use crate::linear::Linear;
use crate::weights::{HostTensor, TensorSource};

const IN: usize = 5;
const OUT: usize = 7;
const EMBEDDING: &str = "model.embed_tokens.weight";

/// The layers of a model of two: two square-less projections each, and a head.
fn modules() -> Vec<Module> {
    let module = |name: String, head| Module {
        names: vec![name],
        inputs: IN,
        outputs: OUT,
        head,
    };
    let mut modules: Vec<Module> = (0..2)
        .flat_map(|layer| {
            ["self_attn.q_proj", "mlp.up_proj"]
                .map(|name| module(format!("model.layers.{layer}.{name}"), false))
        })
        .collect();
    modules.push(module("lm_head".to_owned(), true));
    modules
}

fn numbers(seed: usize, shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count)
        .map(|i| (((i + 1) * (seed * 7 + 3)) % 23) as f32 / 11.0 - 1.0)
        .collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// A pair of rank 2 for one module, under peft's names.
fn pair(module: &str) -> Vec<(String, Tensor)> {
    let key = |half: &str| format!("base_model.model.{module}.{half}.weight");
    vec![
        (key("lora_A"), numbers(module.len(), &[2, IN])),
        (key("lora_B"), numbers(module.len() + 1, &[OUT, 2])),
    ]
}

fn config(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 3, "bias": "none",
        "target_modules": ["q_proj"], "lora_dropout": 0.1, "init_lora_weights": true, "use_dora": false,
        "modules_to_save": null, "rank_pattern": {}, "qalora_group_size": 16, "megatron_core": "megatron.core",
    });
    change(&mut config);
    config
}

fn written(config: &Value, tensors: Vec<(String, Tensor)>) -> (TempDir, Snapshot) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CONFIG_FILE), config.to_string()).unwrap();
    let file = dir.path().join(WEIGHTS_FILE);
    candle_core::safetensors::save(&tensors.into_iter().collect(), file).unwrap();
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    (dir, snapshot)
}

/// A model of which only the embedding counts.
fn base() -> (TempDir, Arc<dyn TensorSource>) {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [(EMBEDDING.to_owned(), numbers(29, &[4, 3]))];
    let file = dir.path().join("model.safetensors");
    candle_core::safetensors::save(&tensors.into_iter().collect(), file).unwrap();
    let weights = Snapshot::dir(dir.path()).unwrap().weights().unwrap();
    (dir, weights)
}

fn read(config: &Value, tensors: Vec<(String, Tensor)>) -> Result<Adapter> {
    let (_dir, snapshot) = written(config, tensors);
    Adapter::read(&snapshot, &modules(), base().1.as_ref())
}

fn pairs(names: &[&str]) -> Vec<(String, Tensor)> {
    names.iter().flat_map(|name| pair(name)).collect()
}

/// Which of the model's layers a configuration means.
fn targeted(change: impl FnOnce(&mut Value)) -> Vec<usize> {
    let (_dir, snapshot) = written(&config(change), Vec::new());
    let config = AdapterConfig::from_snapshot(&snapshot).unwrap();
    let modules = modules();
    (0..modules.len())
        .filter(|i| config.is_for(&modules[*i]).unwrap())
        .collect()
}

#[test]
fn layers_are_named_as_peft_names_them() {
    assert_eq!(targeted(|_| {}), [0, 2]);
    assert_eq!(
        targeted(|c| c["target_modules"] = json!(["proj"])),
        [0usize; 0]
    );
    let whole = "model.layers.1.mlp.up_proj";
    assert_eq!(targeted(|c| c["target_modules"] = json!([whole])), [3]);
    assert_eq!(
        targeted(|c| c["target_modules"] = json!("all-linear")),
        [0, 1, 2, 3]
    );
    assert_eq!(
        targeted(|c| c["target_modules"] = json!(["lm_head", "up_proj"])),
        [1, 3, 4]
    );
    // A pattern is for the whole path, and may look ahead as Python's may.
    assert_eq!(
        targeted(|c| c["target_modules"] = json!("q_proj")),
        [0usize; 0]
    );
    let ahead = r"^(model)(?!.*(lm_head|mlp)).*";
    assert_eq!(targeted(|c| c["target_modules"] = json!(ahead)), [0, 2]);
    assert_eq!(targeted(|c| c["layers_to_transform"] = json!(1)), [2]);
    assert_eq!(targeted(|c| c["layers_to_transform"] = json!([0, 5])), [0]);
    let pattern = |pattern: &'static str| {
        targeted(move |c| {
            c["layers_to_transform"] = json!([1]);
            c["layers_pattern"] = json!(pattern);
        })
    };
    assert_eq!((pattern("layers"), pattern("h")), (vec![2], vec![]));
    let excluded = targeted(|c| {
        c["target_modules"] = json!("all-linear");
        c["exclude_modules"] = json!(r".*\.0\..*");
    });
    assert_eq!(excluded, [2, 3]);
}

#[test]
fn ranks_and_scales_follow_patterns_and_rslora() {
    let of = |change: &dyn Fn(&mut Value)| {
        let (_dir, snapshot) = written(&config(change), Vec::new());
        let config = AdapterConfig::from_snapshot(&snapshot).unwrap();
        modules()[..2]
            .iter()
            .map(|module| config.rank_and_scale(module).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&|_| {}), [(2, 1.5), (2, 1.5)]);
    let patterned = of(&|c| {
        c["rank_pattern"] = json!({"up_proj": 4});
        c["alpha_pattern"] = json!({r"layers\.0\.mlp\.up_proj": 8, "up_proj": 1});
    });
    assert_eq!(patterned, [(2, 1.5), (4, 2.0)]);
    let rooted = of(&|c| {
        c["use_rslora"] = json!(true);
        c["rank_pattern"] = json!({"q_proj": 9});
    });
    assert_eq!(rooted[0], (9, 1.0));
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    let cases = [
        ("peft_type", json!("IA3"), "IA3"),
        ("task_type", json!("SEQ_CLS"), "SEQ_CLS"),
        ("use_dora", json!(true), "DoRA"),
        ("bias", json!("lora_only"), "lora_only"),
        ("modules_to_save", json!(["lm_head"]), "lm_head"),
        ("init_lora_weights", json!("pissa_niter_4"), "pissa_niter_4"),
        ("layer_replication", json!([[0, 2]]), "layers"),
        ("trainable_token_indices", json!([3]), "embedding"),
        ("a_field_of_tomorrow", json!("on"), "\"on\""),
        ("r", json!(0), "1 or more"),
        ("rank_pattern", json!({"q_proj": 0}), "q_proj"),
        ("target_modules", Value::Null, "all-linear"),
        ("target_modules", json!("(q_proj"), "(q_proj"),
    ];
    for (field, value, word) in cases {
        let error = read(
            &config(|c| c[field] = value),
            pairs(&["model.layers.0.self_attn.q_proj"]),
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains(CONFIG_FILE), "{text}");
        assert!(
            text.contains(field) && text.contains(word),
            "{field}: {text}"
        );
    }
}

const BOTH: [&str; 2] = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.self_attn.q_proj",
];

#[test]
fn every_key_belongs_to_a_layer_and_every_layer_has_its_pair() {
    assert!(read(&config(|_| {}), pairs(&BOTH)).is_ok());
    let complaint = |tensors| read(&config(|_| {}), tensors).unwrap_err().to_string();
    let text = complaint(pairs(&BOTH[..1]));
    assert!(text.contains("layers.1.self_attn.q_proj"), "{text}");
    let text = complaint(pairs(&[BOTH[0], BOTH[1], "model.layers.0.mlp.up_proj"]));
    assert!(
        text.contains("up_proj") && text.contains("target"),
        "{text}"
    );
    let text = complaint(pairs(&[
        BOTH[0],
        BOTH[1],
        "model.layers.2.self_attn.q_proj",
    ]));
    assert!(
        text.contains("layers.2") && text.contains("up_proj"),
        "{text}"
    );
    let text = complaint(pairs(&BOTH)[..3].to_vec());
    assert!(text.contains("only one"), "{text}");
    for key in [
        "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
    ] {
        let mut tensors = pairs(&BOTH);
        tensors.push((key.to_owned(), numbers(1, &[3])));
        let text = complaint(tensors);
        assert!(
            text.contains(key) && text.contains("not supported"),
            "{text}"
        );
    }
}

#[test]
fn copies_of_the_models_own_weights_change_nothing_and_others_are_refused() {
    for (key, seed, fits) in [
        ("base_model.model.model.embed_tokens.weight", 29, true),
        (
            "base_model.model.model.embed_tokens.base_layer.weight",
            29,
            true,
        ),
        // The model has no head of its own: it is the embedding.
        ("base_model.model.lm_head.base_layer.weight", 29, true),
        ("base_model.model.model.embed_tokens.weight", 28, false),
    ] {
        let mut tensors = pairs(&BOTH);
        tensors.push((key.to_owned(), numbers(seed, &[4, 3])));
        assert_eq!(read(&config(|_| {}), tensors).is_ok(), fits, "{key}");
    }
}

#[test]
fn shapes_are_checked_against_rank_and_layer() {
    let with = |at: usize, shape: &[usize]| {
        let mut tensors = pairs(&BOTH);
        tensors[at].1 = numbers(1, shape);
        read(&config(|_| {}), tensors).unwrap_err().to_string()
    };
    for (at, shape) in [
        (0, vec![3, IN]),
        (0, vec![2, IN + 1]),
        (1, vec![OUT - 1, 2]),
        (3, vec![OUT]),
    ] {
        let text = with(at, &shape);
        assert!(
            text.contains(&format!("{shape:?}")) && text.contains("q_proj.lora_"),
            "{text}"
        );
    }
}

#[test]
fn keys_with_the_adapters_name_and_without_the_wrappers_are_the_same() {
    let tensors = pairs(&BOTH).into_iter().map(|(key, tensor)| {
        let key = key.replace(".weight", ".default.weight");
        (key.replace("base_model.model.", ""), tensor)
    });
    assert!(read(&config(|_| {}), tensors.collect()).is_ok());
    let mut twice = pairs(&BOTH);
    twice.push((
        twice[0].0.replace(".weight", ".default.weight"),
        twice[0].1.clone(),
    ));
    let text = read(&config(|_| {}), twice).unwrap_err().to_string();
    assert!(text.contains("two names"), "{text}");
}

#[test]
fn a_directory_without_an_adapter_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    let text = Adapter::read(&snapshot, &modules(), base().1.as_ref())
        .unwrap_err()
        .to_string();
    assert!(text.contains(CONFIG_FILE), "{text}");
    std::fs::write(dir.path().join(CONFIG_FILE), config(|_| {}).to_string()).unwrap();
    std::fs::write(dir.path().join("adapter_model.bin"), "x").unwrap();
    let text = Adapter::read(&snapshot, &modules(), base().1.as_ref())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("pickle") && text.contains(WEIGHTS_FILE),
        "{text}"
    );
}

fn host(name: &str, tensor: &Tensor) -> HostTensor {
    let bytes = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes = bytes
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    HostTensor::from_bytes(name, DType::F32, tensor.dims().to_vec(), bytes).unwrap()
}

fn part(module: usize, outputs: Range<usize>) -> Part {
    Part {
        module: Arc::new(modules()[module].clone()),
        outputs,
    }
}

const CPU: (&Device, DType) = (&Device::Cpu, DType::F32);

/// A layer with adapters 0 and 2 beside it, the same pair at two scales.
fn projection(plain: bool) -> Projection {
    let weight = host("w", &numbers(5, &[OUT, IN]));
    let linear = match plain {
        true => Linear::plain(weight, None, &Device::Cpu, DType::F32),
        false => Linear::new(weight, None, &Device::Cpu, DType::F32),
    };
    let mut projection = Projection::new(linear.unwrap(), part(2, 0..OUT));
    let adapter = read(&config(|_| {}), pairs(&BOTH)).unwrap();
    let other = config(|c| c["lora_alpha"] = json!(-5));
    let other = read(&other, pairs(&BOTH)).unwrap();
    projection.attach(0, &other, CPU).unwrap();
    projection.attach(2, &adapter, CPU).unwrap();
    projection
}

fn rows(of: &[Option<u32>]) -> AdapterRows {
    let spans = of.iter().enumerate().map(|(i, of)| (i..i + 1, *of));
    AdapterRows::new(spans, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_vec2().unwrap()
}

#[test]
fn a_row_has_the_same_bits_beside_any_others() {
    for plain in [false, true] {
        let projection = projection(plain);
        let x = numbers(11, &[6, IN]);
        // Adapter 1 has no pair for this layer.
        let of = [Some(2), None, Some(0), Some(2), Some(1), None];
        let together = values(&projection.forward(&x, &rows(&of)).unwrap());
        let bare = values(&projection.linear().forward(&x).unwrap());
        for (row, of) in of.into_iter().enumerate() {
            let alone = x.narrow(0, row, 1).unwrap();
            let alone = values(&projection.forward(&alone, &rows(&[of])).unwrap());
            assert_eq!(together[row], alone[0], "row {row}, plain {plain}");
            let adapted = matches!(of, Some(0 | 2));
            assert_eq!(together[row] != bare[row], adapted, "row {row}");
        }
    }
}

#[test]
fn the_pair_is_added_with_its_scale() {
    let projection = projection(false);
    let x = numbers(13, &[2, IN]);
    let found = projection.forward(&x, &rows(&[Some(2), Some(2)])).unwrap();
    let [(_, a), (_, b)] = &pair(BOTH[1])[..] else {
        panic!("a pair is two")
    };
    let merged = (numbers(5, &[OUT, IN]) + (b.matmul(a).unwrap() * 1.5).unwrap()).unwrap();
    let wanted = x.matmul(&merged.t().unwrap()).unwrap();
    let difference = (found - wanted).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f32>().unwrap() < 1e-5);
}

#[test]
fn parts_of_a_layer_take_their_part_of_the_pair() {
    let adapter = read(&config(|_| {}), pairs(&BOTH)).unwrap();
    let weight = host("w", &numbers(5, &[OUT, IN]));
    let x = numbers(13, &[3, IN]);
    let of = rows(&[Some(0), None, Some(0)]);
    let of_outputs = |outputs: Range<usize>| {
        let weight = weight.rows(outputs.start, outputs.len()).unwrap();
        let linear = Linear::new(weight, None, &Device::Cpu, DType::F32).unwrap();
        let mut projection = Projection::new(linear, part(0, outputs));
        projection.attach(0, &adapter, CPU).unwrap();
        projection
    };
    let whole = values(&of_outputs(0..OUT).forward(&x, &of).unwrap());
    let (first, second) = (of_outputs(0..3), of_outputs(3..OUT));
    let parts = Projection::forward_many(&[&first, &second], &x, &of).unwrap();
    let joined = values(&Tensor::cat(&parts, 1).unwrap());
    for (whole, joined) in whole.iter().flatten().zip(joined.iter().flatten()) {
        assert!((whole - joined).abs() < 1e-5);
    }
}

#[test]
fn rows_that_are_gone_on_with_keep_their_adapters() {
    let of = [None, Some(2), Some(2), Some(0)];
    let selected = rows(&of).select(&[1, 3], &Device::Cpu).unwrap();
    let projection = projection(false);
    let x = numbers(17, &[4, IN]);
    let all = values(&projection.forward(&x, &rows(&of)).unwrap());
    let picked = x.index_select(&Tensor::new(&[1u32, 3], &Device::Cpu).unwrap(), 0);
    let some = values(&projection.forward(&picked.unwrap(), &selected).unwrap());
    assert_eq!(some, [all[1].clone(), all[3].clone()]);
}
