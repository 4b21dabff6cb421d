//! Tool calls and thoughts through the whole pipeline, on models of random weights whose snapshots were given a chat
//! template: where a call must come, one comes that its tool accepts, in the format that the template shows; and a
//! constraint waits behind thoughts.

use std::collections::BTreeMap;

use chandler_core::event::RowOutput;
use chandler_core::form::{Constraint, Reasoning, ToolChoice};
use chandler_core::input::{Chat, Message};
use chandler_core::{FinishReason, Limits, Prompt, Sampling, TextInput};
use chandler_text::TextPipeline;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::structure::{run, wide};

/// Ids of what is added to the tokenizers below; the models have rows for three.
const ADDED: u32 = 512;

/// A model whose tokenizer has three more tokens, and a template.
fn dressed(model: &str, template: &str, added: [(&str, bool); 3]) -> TextPipeline {
    let tokens: BTreeMap<String, Value> = (ADDED..)
        .zip(added)
        .map(|(id, (content, special))| {
            (
                id.to_string(),
                json!({"content": content, "special": special}),
            )
        })
        .collect();
    wide(model, Some(template), |config| {
        config["added_tokens_decoder"] = json!(tokens);
        config.as_object_mut().unwrap().remove("chat_template");
    })
}

fn templates() -> BTreeMap<String, String> {
    let packed = include_bytes!("fixtures/chat/tool_calls.json.gz");
    let fixture: Value = serde_json::from_reader(GzDecoder::new(&packed[..])).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let cases = fixture["cases"].as_array().unwrap().iter();
    let mut all: BTreeMap<String, String> = cases
        .map(|case| (text(&case["name"]), text(&case["template"])))
        .collect();
    all.insert("plain".into(), text(&fixture["strange"]));
    all
}

fn tools() -> Vec<Value> {
    let tide = json!({
        "type": "object",
        "properties": {
            "harbour": {"type": "string", "enum": ["Brest", "横浜"]},
            "hours": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["harbour", "hours"],
        "additionalProperties": false,
    });
    let bell = json!({"type": "object", "properties": {}, "additionalProperties": false});
    vec![
        json!({"type": "function", "function": {"name": "get_tide", "description": "Tide.", "parameters": tide}}),
        json!({"type": "function", "function": {"name": "ring_bell", "parameters": bell}}),
    ]
}

fn chat(tool_choice: ToolChoice, seed: u64) -> (Chat, Sampling) {
    let chat = Chat {
        messages: vec![Message::text("user", "Tide?")],
        tools: tools(),
        tool_choice,
        ..Chat::default()
    };
    let sampling = Sampling {
        temperature: Some(1.0),
        seed: Some(seed),
        ..Sampling::default()
    };
    (chat, sampling)
}

fn ask(chat: Chat, sampling: Sampling, max_tokens: u32) -> TextInput {
    TextInput {
        prompt: Prompt::Chat(chat),
        sampling,
        limits: Limits {
            max_tokens: Some(max_tokens),
            ..Limits::default()
        },
        ..TextInput::default()
    }
}

fn row(pipeline: &mut TextPipeline, input: TextInput) -> RowOutput {
    let mut answer = run(pipeline, &[input], &[]).remove(0).unwrap();
    answer.rows.remove(0)
}

fn check_call(name: &str, arguments: &str) {
    let arguments: Value =
        serde_json::from_str(arguments).unwrap_or_else(|e| panic!("{e}: {arguments}"));
    let fields = arguments.as_object().unwrap();
    match name {
        "ring_bell" => assert!(fields.is_empty(), "{arguments}"),
        "get_tide" => {
            assert_eq!(fields.len(), 2, "{arguments}");
            assert!(["Brest", "横浜"].contains(&arguments["harbour"].as_str().unwrap()));
            assert!((0..=99).contains(&arguments["hours"].as_i64().unwrap()));
        }
        other => panic!("there is no tool {other}"),
    }
}

#[test]
fn a_call_that_must_come_comes_in_the_templates_format_and_fits_its_tool() {
    for (format, template) in templates() {
        let added = match format.as_str() {
            name if name.starts_with("mistral") => {
                [("[TOOL_CALLS]", true), ("[ARGS]", true), ("[X]", true)]
            }
            "llama" => [("<|python_tag|>", true), ("<|x|>", true), ("<|y|>", true)],
            _ => [("<think>", false), ("</think>", false), ("<|x|>", true)],
        };
        let mut pipeline = dressed("qwen2-f32", &template, added);
        for seed in 0..6 {
            let (mut asked, mut sampling) = chat(ToolChoice::Required, seed);
            asked.one_tool_call = seed % 2 == 0;
            // Thoughts may come first where the template has them; here they are not to.
            sampling.logit_bias = [(ADDED, -100.0)].into();
            let got = row(&mut pipeline, ask(asked, sampling, 400));
            assert!(!got.tool_calls.is_empty(), "{format}: {got:?}");
            assert_eq!(got.text, "", "{format}");
            if got.finish == Some(FinishReason::Length) {
                assert!(seed % 2 == 1, "{format}: one call of bounded length");
                continue;
            }
            assert_eq!(got.finish, Some(FinishReason::ToolCalls), "{format}");
            for call in &got.tool_calls {
                check_call(&call.name, &call.arguments);
                let nine = format.starts_with("mistral");
                assert_eq!(
                    call.id.len(),
                    if nine { 9 } else { 29 },
                    "{format}: {}",
                    call.id
                );
            }
            if seed % 2 == 0 {
                assert_eq!(got.tool_calls.len(), 1, "{format}");
            }
        }
        let (asked, mut sampling) = chat(ToolChoice::Named("ring_bell".into()), 3);
        sampling.logit_bias = [(ADDED, -100.0)].into();
        let got = row(&mut pipeline, ask(asked, sampling, 400));
        let names: Vec<&str> = got
            .tool_calls
            .iter()
            .map(|call| call.name.as_str())
            .collect();
        assert_eq!(
            (names, got.finish),
            (vec!["ring_bell"], Some(FinishReason::ToolCalls)),
            "{format}"
        );
    }
}

#[test]
fn with_a_constraint_and_tools_the_answer_is_one_or_the_other() {
    let template = &templates()["mistral-names"];
    let added = [("[TOOL_CALLS]", true), ("[ARGS]", true), ("[X]", true)];
    let mut pipeline = dressed("qwen2-f32", template, added);
    let mut calls = 0;
    for seed in 0..16 {
        let (asked, mut sampling) = chat(ToolChoice::Auto, seed);
        sampling.logit_bias = [(ADDED, if seed % 2 == 0 { 30.0 } else { -30.0 })].into();
        let mut input = ask(asked, sampling, 60);
        input.constraint = Some(Constraint::Choice(vec!["yes".into(), "no".into()]));
        let got = row(&mut pipeline, input);
        if seed % 2 == 0 {
            calls += got.tool_calls.len();
            assert_eq!(got.text, "");
        } else {
            assert!(["yes", "no"].contains(&got.text.as_str()), "{got:?}");
            assert_eq!(got.finish, Some(FinishReason::Stop));
        }
    }
    assert!(calls >= 8, "{calls}");
}

const THINKING: [(&str, bool); 3] = [("<think>", false), ("</think>", false), ("<|x|>", true)];

#[test]
fn a_constraint_waits_behind_thoughts_and_thoughts_are_told_apart() {
    let template = &templates()["hermes"];
    let opened =
        "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}<think>\n";
    for (template, opens) in [(template.as_str(), true), (opened, false)] {
        let mut pipeline = dressed("qwen2-f32", template, THINKING);
        for place in [Reasoning::Separated, Reasoning::Stripped, Reasoning::Inline] {
            let (mut asked, mut sampling) = chat(ToolChoice::None, 5);
            asked.reasoning = place;
            // The thoughts end when this token is the most likely, and they begin with the one before it.
            sampling.logit_bias = [(ADDED, 20.0), (ADDED + 1, 18.5)].into();
            sampling.temperature = Some(1.0);
            let mut input = ask(asked, sampling, 200);
            input.constraint = Some(Constraint::Choice(vec!["yes".into(), "no".into()]));
            let mut answer = run(&mut pipeline, &[input], &[]).remove(0).unwrap();
            let got = answer.rows.remove(0);
            let close = got
                .tokens
                .iter()
                .position(|token| token.id == ADDED + 1)
                .unwrap() as u32;
            assert_eq!(
                got.tokens[0].id == ADDED,
                opens || got.tokens[0].id == ADDED
            );
            assert_eq!(answer.usage.reasoning_tokens, close + 1);
            assert_eq!(got.finish, Some(FinishReason::Stop));
            match place {
                Reasoning::Inline => {
                    let end = got.text.rsplit("</think>").next().unwrap();
                    assert!(["yes", "no"].contains(&end), "{}", got.text);
                    assert_eq!(got.reasoning, "");
                }
                _ => assert!(["yes", "no"].contains(&got.text.as_str()), "{}", got.text),
            }
            if place == Reasoning::Stripped {
                assert_eq!(got.reasoning, "");
            }
        }
    }
    // A template that closes the thoughts itself leaves none to come.
    let mut pipeline = dressed("qwen2-f32", template, THINKING);
    let (mut asked, mut sampling) = chat(ToolChoice::None, 5);
    asked
        .template_arguments
        .insert("enable_thinking".into(), false.into());
    sampling.logit_bias = [(ADDED, 50.0)].into();
    let mut input = ask(asked, sampling, 50);
    input.constraint = Some(Constraint::Choice(vec!["yes".into()]));
    let mut answer = run(&mut pipeline, &[input], &[]).remove(0).unwrap();
    assert_eq!(answer.rows.remove(0).text, "yes");
    assert_eq!(answer.usage.reasoning_tokens, 0);
}
