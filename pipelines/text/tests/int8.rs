//! GGUF files whose layers multiply bytes, against `transformers` with every layer's input rounded the same way
//! (`fixture_int8.py`), and the promises that hold with bytes as they do without.

use candle_core::{Device, Tensor};
use chandler_nn::weights::{Activations, Snapshot};
use chandler_text::gguf;

use super::parity::{Expected, Model, expected, fixture, relative_error, strided};

/// Q4_K, Q5_K and Q6_K in one file, and Q8_0.
const FILES: [&str; 2] = ["gguf/llama-q4k", "gguf/qwen2-q8_0"];

fn opened(name: &str) -> (Snapshot, Expected) {
    let prompts = expected(name).0;
    let prompt = prompts.iter().find(|prompt| prompt.name == "p23").unwrap();
    let file = fixture(name).join("model.gguf");
    (gguf::open(&file).unwrap(), prompt.clone())
}

/// Logits of every position of a prompt that is taken so many tokens at a time.
fn prefill(
    snapshot: &Snapshot,
    activations: Activations,
    ids: &[u32],
    at_once: usize,
) -> Vec<Vec<f32>> {
    let mut model = Model::with_activations(snapshot, activations);
    let mut sequence = [Model::sequence(ids)];
    let mut logits = Vec::new();
    while logits.len() < ids.len() {
        let take = at_once.min(ids.len() - logits.len());
        logits.extend(model.pass(&mut sequence, &[take]));
    }
    logits
}

fn logits(name: &str, file: &str) -> Vec<Vec<f32>> {
    let arrays = candle_core::safetensors::load(fixture(name).join(file), &Device::Cpu).unwrap();
    let rows: &Tensor = &arrays["prefill.p23"];
    rows.to_vec2().unwrap()
}

/// A number that lies between two bytes may be rounded to either, as the last bit before it falls, and takes what follows with it:
/// so much for single positions, and 1e-4 for most.
#[test]
fn logits_of_bytes_are_those_of_rounded_activations() {
    for name in FILES {
        let (snapshot, prompt) = opened(name);
        let found = prefill(&snapshot, Activations::Int8, &prompt.ids, 23);
        let errors = |expected: Vec<Vec<f32>>| -> Vec<f32> {
            let pairs = found.iter().zip(&expected);
            let mut errors: Vec<f32> = pairs
                .map(|(found, expected)| relative_error(&strided(found), expected))
                .collect();
            errors.sort_by(f32::total_cmp);
            errors
        };
        let near = errors(logits(name, "int8.safetensors"));
        assert!(near[15] < 1e-4, "{name}: {near:?}");
        assert!(near[22] < 1e-2, "{name}: {near:?}");
        // What it is not: the exact ones, which are some percent off.
        let exact = errors(logits(name, "expected.safetensors"));
        assert!(exact[0] > 2e-3 && exact[22] < 0.1, "{name}: {exact:?}");
    }
}

#[test]
fn a_prompt_cut_anyhow_has_the_same_bits() {
    for name in FILES {
        let (snapshot, prompt) = opened(name);
        let whole = prefill(&snapshot, Activations::Int8, &prompt.ids, 23);
        for at_once in [1, 5, 9] {
            let cut = prefill(&snapshot, Activations::Int8, &prompt.ids, at_once);
            assert_eq!(cut, whole, "{name}: other bits in pieces of {at_once}");
        }
    }
}

#[test]
fn bytes_without_quantised_weights_are_refused() {
    let snapshot = gguf::open(&fixture("gguf/llama-f16").join("model.gguf")).unwrap();
    let weights = snapshot.weights().unwrap();
    let refused = Activations::Int8.apply(weights, &Device::Cpu);
    let said = refused.err().unwrap().to_string();
    for part in ["activations", "int8", "--quantize"] {
        assert!(said.contains(part), "{said}");
    }
    assert!("int4".parse::<Activations>().unwrap_err().contains("int8"));
}
