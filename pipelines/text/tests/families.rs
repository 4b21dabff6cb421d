//! Families through the whole pipeline, where more than the decoder is their own.

use chandler_core::{Limits, Pipeline, Prompt, Sampling, TextInput};

use crate::drive::{LIMITS, load, run};
use crate::parity::fixture;

#[test]
fn a_character_model_reads_and_writes_characters() {
    let expected = std::fs::read(fixture("families/gpt2").join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let text = |name: &str| expected["text"][name].as_str().unwrap().to_owned();
    let mut pipeline = load("families/gpt2", LIMITS, None);
    let preparer = pipeline.preparer();
    let vocabulary = preparer.vocabulary();
    assert_eq!((vocabulary.len(), vocabulary[0].as_str()), (97, "\n"));
    assert!(vocabulary.iter().all(|token| token.chars().count() == 1));
    let input = TextInput {
        prompt: Prompt::Text(text("prompt")),
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        limits: Limits {
            max_tokens: Some(32),
            ..Limits::default()
        },
        ..TextInput::default()
    };
    let answer = run(&mut pipeline, vec![input]).remove(0);
    assert_eq!(answer.rows[0].text, text("answer"));
}
