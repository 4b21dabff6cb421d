//! Whatever an input holds, it is read as a request or refused with words that help; nothing panics.

use axum::http::{Request, Uri};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::known;
use super::{DRAWING, SPEECH_RECOGNITION, TEXT_GENERATION, recognise};
use crate::sse::Splitter;

/// Every field that some dialect reads, and one that none does.
const KEYS: [&str; 54] = [
    "openai_route",
    "openai_input",
    "route",
    "body",
    "method",
    "prompt",
    "messages",
    "inputs",
    "text",
    "task",
    "parameters",
    "instances",
    "stream",
    "sampling_params",
    "apply_chat_template",
    "use_openai_format",
    "max_batch_size",
    "min_batch_size",
    "batch_size_growth_factor",
    "n",
    "max_tokens",
    "maxOutputTokens",
    "topK",
    "temperature",
    "logprobs",
    "guided_decoding",
    "debug",
    "num_inference_steps",
    "image_url",
    "input_image_r2",
    "image",
    "partial_images",
    "response",
    "strength",
    "height",
    "width",
    "audio",
    "audio_base64",
    "audio_url",
    "audio_file",
    "target_lang",
    "recognise_speakers",
    "transcription",
    "translation",
    "translate",
    "temperature_increment_on_fallback",
    "word_timestamps",
    "speaker_id",
    "query",
    "docs",
    "input",
    "model",
    "type",
    "unknown",
];

fn leaf() -> impl Strategy<Value = Value> {
    let words = vec![
        "/v1/models",
        "chat/completions",
        "/",
        "//x",
        "GET",
        "summarise",
        "transcribe",
        "translate",
        "text-generation",
        "tts",
        "image_generation.completed",
        "image_generation.progress",
        "image_generation.partial_image",
        "a b",
        "",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        (-2i32..9).prop_map(|n| json!(n)),
        ".{0,8}".prop_map(Value::String),
        prop::sample::select(words).prop_map(|word| json!(word)),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 32, 6, |inner| {
        let key = prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn check(input: &Value, task: Option<&str>) -> Result<(), TestCaseError> {
    match recognise(input.clone(), &known(task)) {
        Ok(call) => {
            prop_assert!(call.path.starts_with('/'), "{}", call.path);
            let posts = call.body.is_some() || call.method != "POST";
            prop_assert!(posts, "{input}: a POST without a body");
            // A path that is no path is refused by the handler, by name; those of ours always are one.
            if input.get("openai_route").is_none() {
                prop_assert!(call.path.parse::<Uri>().is_ok(), "{}", call.path);
            }
            let _ = Request::builder().uri(&call.path).body(());
        }
        Err(refusal) => {
            let helps = [
                "must be",
                "Must provide",
                "understands",
                "put it inside",
                "leave",
                "there are",
            ];
            prop_assert!(helps.iter().any(|word| refusal.contains(word)), "{refusal}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_is_a_request_or_is_refused_with_what_would_do(input in anything(), task in prop::sample::select(vec![None, Some(TEXT_GENERATION), Some(SPEECH_RECOGNITION), Some(DRAWING[0])])) {
        check(&input, task)?;
    }

    #[test]
    fn any_event_is_taken_by_every_shape(event in anything(), input in anything(), task in prop::sample::select(vec![None, Some(DRAWING[0])])) {
        let Ok(mut call) = recognise(input, &known(task)) else {
            return Ok(());
        };
        for event in Splitter::default().push(format!("data: {event}\n\n").as_bytes()) {
            call.shape.event(&event);
            call.shape.progress();
        }
        let chunks = call.shape.chunks();
        call.shape.output(chunks);
        call.shape.whole(event);
    }
}
