//! Penalties and filters against `transformers`' logits processors, one by one and all together.

use candle_core::Tensor;
use chandler_nn::sampling::{History, Sampler};
use serde_json::Value;

use crate::parity::{expected, fixture};

fn numbers(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap() as u32)
        .collect()
}

fn row(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec1().unwrap()
}

#[test]
fn the_distribution_is_that_of_the_logits_processors() {
    let arrays = expected("qwen2-f32").1;
    let json: Value =
        serde_json::from_slice(&std::fs::read(fixture("qwen2-f32").join("expected.json")).unwrap())
            .unwrap();
    let processors = &json["processors"];
    let mut history = History::new(&numbers(&processors["prompt_ids"]));
    numbers(&processors["generated_ids"])
        .into_iter()
        .for_each(|id| history.push(id));
    let cases = processors["cases"].as_array().unwrap();
    assert!(cases.len() >= 8);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let number = |key: &str| case["parameters"][key].as_f64();
        let sampler = Sampler {
            temperature: number("temperature").unwrap_or(1.0) as f32,
            top_k: number("top_k").unwrap_or(0.0) as usize,
            top_p: number("top_p").unwrap_or(1.0),
            min_p: number("min_p").unwrap_or(0.0),
            repetition_penalty: number("repetition_penalty").unwrap_or(1.0) as f32,
            presence_penalty: number("presence_penalty").unwrap_or(0.0) as f32,
            frequency_penalty: number("frequency_penalty").unwrap_or(0.0) as f32,
            ..Sampler::default()
        };
        let known = sampler.clone();
        assert_ne!(
            known,
            Sampler::default(),
            "case {name} sets nothing that is known here"
        );
        let mut logits = row(&arrays["processors.logits"]);
        sampler.adjust(&mut logits, &history, &[]);
        let mut found = vec![0f64; logits.len()];
        for (id, p) in sampler.distribution(&logits) {
            found[id as usize] = p;
        }
        let wanted = row(&arrays[&format!("processors.{name}.probs")]);
        for (id, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            assert_eq!(
                *found == 0.0,
                wanted == 0.0,
                "{name}: token {id} is kept by one and not by the other"
            );
            assert!(
                (found - f64::from(wanted)).abs() < 1e-5,
                "{name} token {id}: {found} and {wanted}"
            );
        }
    }
}
