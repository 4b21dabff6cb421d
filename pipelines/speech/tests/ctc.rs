//! CTC models against transformers: logits, texts and word offsets, alone and together with others of other lengths and languages.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use chandler_nn::weights::Snapshot;
use chandler_speech::ctc::{Adapter, Ctc, CtcConfig, CtcText, Hearing, Vocabularies};
use serde_json::Value;

use crate::on_device::{self, tolerance};
use crate::whisper::{placement, relative_error};

const CHECKPOINTS: [&str; 3] = ["base-f32", "large-f16", "mms-f32"];
const TOLERANCE: f32 = 1e-4;

fn snapshot(name: &str) -> Snapshot {
    Snapshot::dir(on_device::fixtures().join("ctc").join(name)).unwrap()
}

fn load(name: &str, plain: bool) -> Ctc {
    let snapshot = snapshot(name);
    let config = CtcConfig::from_snapshot(&snapshot).unwrap();
    let weights = snapshot.weights().unwrap();
    Ctc::load(config, weights.as_ref(), placement(plain)).unwrap()
}

struct Expected {
    answers: Value,
    tensors: HashMap<String, Tensor>,
}

impl Expected {
    fn of(name: &str) -> Self {
        let snapshot = snapshot(name);
        let answers = snapshot.read("expected.json").unwrap().unwrap();
        let file = format!("{snapshot}/expected.safetensors");
        Self {
            answers: serde_json::from_slice(&answers).unwrap(),
            tensors: candle_core::safetensors::load(file, &Device::Cpu).unwrap(),
        }
    }

    fn languages(&self) -> Vec<String> {
        self.answers.as_object().unwrap().keys().cloned().collect()
    }

    fn samples(&self, n: usize) -> Vec<f32> {
        let samples = self.tensors[&format!("samples.{n}")]
            .to_dtype(DType::F32)
            .unwrap();
        samples.to_vec1().unwrap()
    }

    fn check(&self, language: &str, n: usize, logits: &Tensor, text: &CtcText) {
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let expected = &self.tensors[&format!("{language}.{n}.logits")];
        assert_eq!(logits.dims(), expected.dims());
        let error = relative_error(&numbers(logits), &numbers(expected));
        assert!(error < tolerance(TOLERANCE), "{language} {n}: {error:e}");
        if !on_device::has_steady_choices() {
            return; // another letter may be as likely
        }
        let answer = &self.answers[language][n];
        assert_eq!(text.text, answer["text"].as_str().unwrap());
        let words = answer["words"].as_array().unwrap();
        assert_eq!(text.words.len(), words.len(), "{text:?} {answer}");
        for (word, expected) in text.words.iter().zip(words) {
            assert_eq!(word.text, expected["word"].as_str().unwrap());
            let frames = |name: &str| expected[name].as_u64().unwrap() as usize;
            assert_eq!((word.start, word.end), (frames("start"), frames("end")));
            assert!(word.log_probability <= 0.0);
        }
    }
}

fn adapter(model: &Ctc, name: &str, language: &str) -> Arc<Adapter> {
    match language {
        "" | "eng" => model.own_adapter(),
        other => model.adapter(other, &snapshot(name)).unwrap(),
    }
}

fn hear(model: &Ctc, utterances: &[(&[f32], Arc<Adapter>)]) -> Hearing {
    let mut hearing = model.begin(utterances).unwrap();
    assert!(model.logits(&hearing).is_err(), "not a stage done");
    for stage in 1..=model.stages() {
        assert_eq!(
            model.advance(&mut hearing).unwrap(),
            stage == model.stages()
        );
    }
    hearing
}

#[test]
fn logits_texts_and_words_are_those_of_transformers_alone() {
    for name in CHECKPOINTS {
        let expected = Expected::of(name);
        let vocabularies = Vocabularies::from_snapshot(&snapshot(name)).unwrap();
        for plain in [false, true] {
            let model = load(name, plain);
            for language in expected.languages() {
                let vocabulary = vocabularies.of(&language).unwrap();
                for n in 0..3 {
                    let samples = expected.samples(n);
                    let adapter = adapter(&model, name, &language);
                    let hearing = hear(&model, &[(&samples, adapter)]);
                    let logits = model.logits(&hearing).unwrap();
                    let spoken = model.spoken(&hearing).unwrap();
                    expected.check(&language, n, &logits[0], &vocabulary.text(&spoken[0]));
                }
            }
        }
    }
}

#[test]
fn company_of_other_lengths_and_languages_changes_no_bit() {
    for name in CHECKPOINTS {
        let expected = Expected::of(name);
        let model = load(name, false);
        let mut utterances = Vec::new();
        for (index, language) in expected.languages().iter().enumerate() {
            let adapter = adapter(&model, name, language);
            for n in 0..3 {
                utterances.push((expected.samples((n + index) % 3), Arc::clone(&adapter)));
            }
        }
        let borrowed: Vec<(&[f32], Arc<Adapter>)> = utterances
            .iter()
            .map(|(samples, adapter)| (samples.as_slice(), Arc::clone(adapter)))
            .collect();
        let together = model.logits(&hear(&model, &borrowed)).unwrap();
        for (one, together) in borrowed.iter().zip(&together) {
            let alone = hear(&model, std::slice::from_ref(one));
            let alone = model.logits(&alone).unwrap();
            let rows = |t: &Tensor| t.to_vec2::<f32>().unwrap();
            assert_eq!(rows(&alone[0]), rows(together), "{name}");
        }
    }
}

#[test]
fn languages_are_those_of_the_files() {
    let vocabularies = Vocabularies::from_snapshot(&snapshot("mms-f32")).unwrap();
    let languages: Vec<&str> = vocabularies.languages().collect();
    assert_eq!(languages, ["azj-script_latin", "eng", "lug"]);
    assert!(vocabularies.is_multilingual());
    assert_eq!(vocabularies.default_language(), "eng");
    let one = Vocabularies::from_snapshot(&snapshot("base-f32")).unwrap();
    assert!(!one.is_multilingual() && one.languages().next().is_none());
    let model = load("mms-f32", false);
    let error = |language: &str| {
        let found = model.adapter(language, &snapshot("mms-f32"));
        found.err().unwrap().to_string()
    };
    assert!(error("../eng").contains("is no language"));
    assert!(error("xyz").contains("adapter.xyz.safetensors"));
    let model = load("base-f32", false);
    let found = model.adapter("eng", &snapshot("base-f32"));
    assert!(
        found
            .err()
            .unwrap()
            .to_string()
            .contains("no languages to choose from")
    );
    assert!(model.begin(&[]).is_err());
    let short = [0.0f32; 30];
    assert!(
        model.begin(&[(&short, model.own_adapter())]).is_err(),
        "no frame"
    );
}

#[test]
fn a_vocabulary_that_is_none_is_named() {
    let said = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vocab.json"), text).unwrap();
        Vocabularies::from_snapshot(&Snapshot::dir(dir.path()).unwrap())
            .unwrap_err()
            .to_string()
    };
    assert!(said("[]").contains("vocab.json"));
    assert!(said("{\"a\": -1}").contains("it has -1 for the id of \"a\""));
    assert!(said("{\"eng\": {\"a\": 1.5}}").contains("eng has 1.5 for the id of \"a\""));
    assert!(said("{}").contains("there is nothing in it"));
    let dir = tempfile::tempdir().unwrap();
    let missing = Vocabularies::from_snapshot(&Snapshot::dir(dir.path()).unwrap());
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("has no vocab.json")
    );
}
