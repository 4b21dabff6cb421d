//! A file through the pipeline against openai-whisper's transcribe() of the same file on the same weights: from bytes to segments, words
//! and language. `fixtures/make_served.py` made what is expected.

use std::path::PathBuf;

use chandler_core::{Audio, Belief, Hints, Search, SpeechInput, SpeechTask, Times, Transcript};
use chandler_speech::WhisperPipeline;
use serde_json::Value;

use super::driver::{ask, options, snapshot};
use crate::features::unpacked;

fn served() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/whisper/served")
}

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}

/// What the reference was asked, as a request. It was told the same tokens to leave out: what the checkpoint lists, and the languages.
fn input(asked: &Value, suppress: Vec<i64>) -> SpeechInput {
    let text = |field: &str| asked[field].as_str().map(str::to_owned);
    SpeechInput {
        audio: Audio::File(served().join("sound.flac")),
        language: text("language"),
        task: match asked["task"].as_str() {
            Some("translate") => SpeechTask::Translate,
            _ => SpeechTask::Transcribe,
        },
        times: match (
            asked["word_timestamps"] == true,
            asked["without_timestamps"] == true,
        ) {
            (true, _) => Times::Words,
            (_, true) => Times::None,
            _ => Times::Segments,
        },
        hints: Hints {
            prompt: text("initial_prompt"),
            ..Hints::default()
        },
        search: Search {
            temperatures: Some(vec![0.0]),
            beam_size: asked["beam_size"].as_u64().map(|size| size as u32),
            patience: number(&asked["patience"]),
            length_penalty: number(&asked["length_penalty"]),
            max_new_tokens: asked["sample_len"].as_u64().map(|most| most as u32),
            suppress_tokens: Some(suppress),
            ..Search::default()
        },
        belief: Belief {
            compression_ratio: Some(f64::INFINITY),
            log_probability: Some(f64::NEG_INFINITY),
            no_speech: Some(f64::INFINITY),
            hallucination_silence: asked["hallucination_silence_threshold"].as_f64(),
        },
        ..SpeechInput::default()
    }
}

/// The languages' tokens, which openai-whisper was told to leave out, too.
fn languages() -> Vec<i64> {
    let path = "whisper/multilingual-f32";
    let bytes = snapshot(path)
        .read("generation_config.json")
        .unwrap()
        .unwrap();
    let generation: Value = serde_json::from_slice(&bytes).unwrap();
    let ids = generation["lang_to_id"].as_object().unwrap().values();
    ids.map(|id| id.as_i64().unwrap()).chain([-1]).collect()
}

fn check(name: &str, found: &Transcript, expected: &Value) {
    let heard = found.heard.language.as_ref().unwrap();
    assert_eq!(heard.code, expected["language"].as_str().unwrap(), "{name}");
    assert_eq!(
        found.text(),
        expected["text"].as_str().unwrap().trim(),
        "{name}"
    );
    // Segments without text are no part of an answer.
    let segments = expected["segments"].as_array().unwrap().iter();
    let segments: Vec<&Value> = segments
        .filter(|s| !s["tokens"].as_array().unwrap().is_empty())
        .collect();
    assert_eq!(found.segments.len(), segments.len(), "{name}");
    for (found, expected) in found.segments.iter().zip(segments) {
        let near = |value: f64, field: &str, tolerance: f64| {
            let expected = expected[field].as_f64().unwrap();
            let off = (value - expected).abs();
            assert!(
                off <= tolerance * (1.0 + expected.abs()),
                "{name}: {field} {value} {expected}"
            );
        };
        near(found.seek as f64, "seek", 1e-9);
        near(found.start, "start", 1e-9);
        near(found.end, "end", 1e-9);
        near(found.mean_log_probability, "avg_logprob", 1e-4);
        near(f64::from(found.no_speech), "no_speech_prob", 1e-4);
        let tokens: Vec<Value> = found.tokens.iter().map(|id| (*id).into()).collect();
        assert_eq!(Value::Array(tokens), expected["tokens"], "{name}");
        let none = vec![];
        let words = expected["words"].as_array().unwrap_or(&none);
        let found = found.words.as_deref().unwrap_or_default();
        assert_eq!(found.len(), words.len(), "{name}");
        for (word, expected) in found.iter().zip(words) {
            let near = |value: f64, field: &str, tolerance: f64| {
                assert!(
                    (value - expected[field].as_f64().unwrap()).abs() <= tolerance,
                    "{name}: {word:?} {expected}"
                );
            };
            assert_eq!(word.text, expected["word"].as_str().unwrap(), "{name}");
            near(word.start, "start", 1e-6);
            near(word.end, "end", 1e-6);
            near(word.probability, "probability", 1e-3);
        }
    }
}

#[test]
fn a_file_is_transcribed_as_openai_whisper_does() {
    let cases: Value =
        serde_json::from_slice(&unpacked(&served().join("expected.json.gz"))).unwrap();
    let model = snapshot("whisper/multilingual-f32");
    let mut pipeline = WhisperPipeline::load(&model, &options(), &|_| {}).unwrap();
    let mut words = 0;
    for (name, case) in cases.as_object().unwrap() {
        let input = input(&case["asked"], languages());
        let (collected, _) = ask(&mut pipeline, input).unwrap();
        let found = collected.transcript.unwrap();
        check(name, &found, &case["expected"]);
        words += found.words().count();
    }
    assert!(cases.as_object().unwrap().len() >= 7 && words > 6);
}
