//! Families through the whole pipeline, where more than the decoder is their own.

use chandler_core::{
    Admission, Collected, Events, Input, Limits, Pipeline, Prompt, RequestId, Sampling, TextInput,
    Ticket,
};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::weights::Snapshot;
use chandler_text::{BatchLimits, TextOptions, TextPipeline};

use crate::parity::fixture;

fn load(name: &str) -> TextPipeline {
    let options = TextOptions {
        device: DeviceChoice::Cpu,
        dtype: DTypeChoice::F32,
        max_model_len: None,
        limits: BatchLimits {
            max_rows: 4,
            prefill_chunk: 16,
        },
        cache_bytes: None,
        clock: std::sync::Arc::new(|| chandler_text::chat::CivilTime::from_unix_seconds(0)),
        adapters: Vec::new(),
    };
    TextPipeline::load(&Snapshot::dir(fixture(name)).unwrap(), options, &|_| {}).unwrap()
}

#[test]
fn a_character_model_reads_and_writes_characters() {
    let expected = std::fs::read(fixture("families/gpt2").join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    let text = |name: &str| expected["text"][name].as_str().unwrap().to_owned();
    let mut pipeline = load("families/gpt2");
    let preparer = pipeline.preparer();
    let vocabulary = preparer.vocabulary();
    assert_eq!((vocabulary.len(), vocabulary[0].as_str()), (97, "\n"));
    assert!(vocabulary.iter().all(|token| token.chars().count() == 1));
    let input = Input::Text(TextInput {
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
    });
    let prepared = preparer.prepare(input).unwrap();
    assert!(matches!(
        pipeline.admit(Ticket::new(0), prepared),
        Admission::Taken
    ));
    let (mut answer, mut events, mut open) = (Collected::default(), Events::default(), true);
    while open {
        pipeline.step(&mut events).unwrap();
        for (RequestId(_), event) in events.drain() {
            open &= !answer.add(event).unwrap();
        }
    }
    assert_eq!(answer.rows[0].text, text("answer"));
}
