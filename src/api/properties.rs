//! Whatever a body holds, every parser gives a request or an error that names something, and never panics.

use chandler_core::{Prompt, RequestError, SpeechInput, TextInput, ToolChoice};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::audio::{fields, source};
use super::generate::{characters, context};
use super::images;
use super::json::{Fields, object, parse};
use super::openai::sampling::MOST_ROWS;
use super::openai::{chat, completions};
use super::predict::instance;
use super::{messages, responses};

/// Every field that some dialect reads, and one that none does.
const KEYS: [&str; 123] = [
    "model",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "refusal",
    "tool_calls",
    "function",
    "arguments",
    "name",
    "tools",
    "tool_choice",
    "response_format",
    "functions",
    "function_call",
    "audio",
    "modalities",
    "stream",
    "stream_options",
    "include_usage",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "n",
    "stop",
    "stop_token_ids",
    "min_tokens",
    "ignore_eos",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "prompt",
    "suffix",
    "best_of",
    "echo",
    "instances",
    "negative_prompt",
    "size",
    "width",
    "num_inference_steps",
    "guidance_scale",
    "scheduler_config",
    "timesteps",
    "original_size",
    "loras",
    "weight",
    "image",
    "image_url",
    "mask",
    "controls",
    "strength",
    "output_format",
    "output_compression",
    "quality",
    "partial_images",
    "response",
    "parameters",
    "context",
    "num_chars",
    "parallel_tool_calls",
    "json_schema",
    "schema",
    "strict",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "structured_outputs",
    "include_reasoning",
    "reasoning_effort",
    "allowed_tools",
    "mode",
    "input",
    "instructions",
    "call_id",
    "output",
    "reasoning",
    "format",
    "max_output_tokens",
    "metadata",
    "include",
    "truncation",
    "system",
    "tool_use_id",
    "id",
    "is_error",
    "input_schema",
    "thinking",
    "budget_tokens",
    "output_config",
    "audio_base64",
    "audio_url",
    "language",
    "languages",
    "translate",
    "task",
    "keywords",
    "hotwords",
    "prefix",
    "beam_size",
    "patience",
    "suppress_tokens",
    "temperature_increment_on_fallback",
    "log_prob_threshold",
    "vad_filter",
    "vad_parameters",
    "threshold",
    "chunking_strategy",
    "timestamp_granularities",
    "word_timestamps",
    "without_timestamps",
    "max_duration",
    "channels",
    "detect_language",
    "known_speaker_names",
    "unknown",
];

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
        (-3i32..40).prop_map(|n| json!(n)),
        (-3i32..40).prop_map(|n| json!(f64::from(n) / 2.0)),
        Just(json!(1e12)),
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number(),
        ".{0,8}".prop_map(Value::String),
        prop::sample::select(vec![
            "user",
            "assistant",
            "tool",
            "text",
            "auto",
            "none",
            "function",
            "json_schema",
            "function_call",
            "function_call_output",
            "message",
            "tool_use",
            "tool_result",
            "enabled",
            "required",
            "any",
            "verbose_json",
            "server_vad",
            "word",
            "translate",
            "-1",
            "1,2",
            "AAAA",
            "data:,a",
            "https://a/b",
            ""
        ])
        .prop_map(|s| json!(s)),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 48, 6, |inner| {
        let key = prop_oneof![
            prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned),
            "[0-9a-z]{0,4}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A request that is right, with some of its fields replaced.
fn nearly_right() -> impl Strategy<Value = Value> {
    let right = prop_oneof![
        Just(json!({"messages": [{"role": "user", "content": "a"}]})),
        Just(
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "n": 2.0})
        ),
        Just(json!({"prompt": ["a", "b"], "max_tokens": 4})),
        Just(json!({"prompt": [[1, 2], [3]], "echo": true})),
        Just(json!({"max_tokens": 5, "context": [1, "a"]})),
        Just(json!({"num_chars": 5})),
        Just(
            json!({"input": "a", "tools": [{"type": "function", "name": "f"}], "tool_choice": "required"})
        ),
        Just(
            json!({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"}], "text": {"format": {"type": "text"}}})
        ),
        Just(
            json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 4,
            "tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "f"}})
        ),
        Just(
            json!({"messages": [{"role": "user", "content": "a"}], "response_format":
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}})
        ),
        Just(
            json!({"audio": "AAAA", "language": "en", "temperature": [0, 0.5], "vad_parameters": {"threshold": 0.5}})
        ),
        Just(
            json!({"audio_url": "https://a/b", "chunking_strategy": {"type": "server_vad"}, "suppress_tokens": "-1"})
        ),
    ];
    let changes = prop::collection::vec((prop::sample::select(KEYS.to_vec()), anything()), 0..4);
    (right, changes).prop_map(|(mut right, changes)| {
        for (key, value) in changes {
            right[key] = value;
        }
        right
    })
}

fn names_something<T>(read: Result<T, RequestError>) -> Result<Option<T>, TestCaseError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            prop_assert!(!error.message.is_empty());
            if let Some(field) = &error.field {
                prop_assert!(
                    error.message.contains(field.as_str()),
                    "{}: {field}",
                    error.message
                );
            }
            Ok(None)
        }
    }
}

/// What a parser lets through, no one checks again.
fn is_sound(input: &TextInput) -> Result<(), TestCaseError> {
    prop_assert!(input.sampling.validate().is_ok());
    prop_assert!((1..=MOST_ROWS).contains(&input.n));
    prop_assert!(input.limits.stop.iter().all(|stop| !stop.is_empty()));
    prop_assert!(input.best_of.is_none_or(|best| best > input.n));
    if let Prompt::Chat(chat) = &input.prompt {
        let forced = match &chat.tool_choice {
            ToolChoice::Named(name) => chat
                .tools
                .iter()
                .any(|tool| tool.pointer("/function/name") == Some(&json!(name))),
            ToolChoice::Required => !chat.tools.is_empty(),
            _ => true,
        };
        prop_assert!(forced, "a call is demanded of a tool that is not here");
    }
    prop_assert!(
        input
            .limits
            .max_tokens
            .is_none_or(|most| most <= i32::MAX as u32)
    );
    Ok(())
}

/// The same of what is asked about audio.
fn is_heard(input: &SpeechInput) -> Result<(), TestCaseError> {
    let search = &input.search;
    let ladder = search.temperatures.iter();
    prop_assert!(ladder.clone().all(|ladder| !ladder.is_empty()));
    prop_assert!(ladder.flatten().all(|rung| (0.0..=1.0).contains(rung)));
    prop_assert!(
        search
            .suppress_tokens
            .iter()
            .flatten()
            .all(|token| *token >= -1)
    );
    prop_assert!(
        search
            .beam_size
            .is_none_or(|size| (1..=MOST_ROWS).contains(&size))
    );
    prop_assert!(search.patience.is_none_or(|patience| patience > 0.0));
    prop_assert!(input.max_seconds.is_none_or(|seconds| seconds > 0.0));
    prop_assert!(
        input
            .language
            .as_ref()
            .is_none_or(|language| !language.is_empty())
    );
    Ok(())
}

fn read_all(body: &Value) -> Result<(), TestCaseError> {
    names_something(context::read(body))?;
    names_something(characters::read(body))?;
    if let Some(one) = names_something(instance(
        0,
        body,
        body.as_object(),
        Some(chandler_core::Task::TextGeneration),
    ))? {
        is_sound(&one.input)?;
    }
    let Some(map) = names_something(object(body))? else {
        return Ok(());
    };
    let spoken = Fields::within("instances[0]".into(), map)
        .or("parameters", Some(map))
        .spelled(fields::SPELLINGS);
    names_something(source::read(&spoken, 1 << 20))?;
    if let Some(wish) = names_something(fields::read(&spoken))? {
        is_heard(&wish.input)?;
        names_something(fields::agree(&wish, &spoken))?;
    }
    let drawn = Fields::within("instances[0]".into(), map)
        .or("parameters", Some(map))
        .spelled(images::fields::SPELLINGS);
    names_something(images::fields::read(&drawn))?;
    names_something(images::sources::read(&images::sources::KIND, &drawn))?;
    for fields in [
        Fields::new(map),
        Fields::new(&Map::new())
            .or("parameters", Some(map))
            .with_spellings(),
    ] {
        if let Some(request) = names_something(chat::parse(&fields))? {
            is_sound(&request.input)?;
        }
        if let Some(request) = names_something(responses::request::parse(&fields))? {
            is_sound(&request.input)?;
        }
        if let Some(request) = names_something(messages::request::parse(&fields))? {
            is_sound(&request.input)?;
        }
        for input in names_something(completions::parse(&fields))?
            .into_iter()
            .flat_map(|r| r.inputs)
        {
            is_sound(&input)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_read_or_refused(body in anything()) {
        read_all(&body)?;
    }

    #[test]
    fn any_request_with_wrong_fields_is_read_or_refused(body in nearly_right()) {
        read_all(&body)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(value) = names_something(parse(&bytes))? {
            read_all(&value)?;
        }
    }

    #[test]
    fn a_cut_or_changed_body_is_read_or_refused(body in nearly_right(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = body.to_string().into_bytes();
        let at = at.index(bytes.len());
        names_something(parse(&bytes[..at]))?;
        bytes[at] = byte;
        if let Some(value) = names_something(parse(&bytes))? {
            read_all(&value)?;
        }
    }
}
