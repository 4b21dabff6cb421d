//! Chat templates against what transformers rendered (`fixtures/chat/templates.json.gz`), and what a request gets wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chandler_core::input::{Chat, Content, Message};
use chandler_core::{ErrorKind, RequestError};
use chandler_nn::weights::Snapshot;
use chandler_text::chat::{ChatTemplate, CivilTime, Clock};
use chandler_text::tokenizer::Tokenizer;
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};

/// 2024-07-26T15:04:05, the fixtures' `now`.
fn frozen() -> Clock {
    Arc::new(|| CivilTime::from_unix_seconds(1_722_006_245))
}

fn cases() -> Vec<Value> {
    let packed = include_bytes!("fixtures/chat/templates.json.gz");
    let fixture: Value = serde_json::from_reader(GzDecoder::new(&packed[..])).unwrap();
    assert_eq!(fixture["now"], "2024-07-26T15:04:05");
    fixture["cases"].as_array().unwrap().clone()
}

fn template_of(case: &Value) -> ChatTemplate {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sources = match &case["chat_template"] {
        Value::Array(list) => list
            .iter()
            .map(|entry| (text(&entry["name"]), text(&entry["template"])))
            .collect(),
        source => vec![("default".to_owned(), text(source))],
    };
    let tokens = ["bos_token", "eos_token"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), case[*name].as_str()?.to_owned())));
    ChatTemplate::new(sources, tokens, frozen()).unwrap()
}

/// A message; content that no dialect would let through (a number) goes where the template sees it all the same.
fn message_of(value: &Value) -> Message {
    serde_json::from_value(value.clone()).unwrap_or_else(|_| {
        let mut rest = value.as_object().unwrap().clone();
        let role = rest.remove("role").unwrap();
        Message {
            role: role.as_str().unwrap().to_owned(),
            content: Content::Null,
            rest,
        }
    })
}

fn chat_of(case: &Value) -> Chat {
    let continue_final_message = case["continue_final_message"].as_bool().unwrap();
    let mut template_arguments = case["kwargs"].as_object().unwrap().clone();
    if !continue_final_message {
        template_arguments.insert(
            "add_generation_prompt".into(),
            case["add_generation_prompt"].clone(),
        );
    }
    Chat {
        messages: case["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(message_of)
            .collect(),
        tools: case["tools"].as_array().cloned().unwrap_or_default(),
        continue_final_message,
        template_arguments,
        ..Chat::default()
    }
}

#[test]
fn every_case_renders_as_in_transformers() {
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let got = template_of(case).render_any(&chat_of(case));
        let right = match (&got, case["error_kind"].as_str()) {
            (Ok(text), None) => case["rendered"] == text.as_str(),
            (Err(error), Some("raise_exception")) => {
                error.kind == ErrorKind::BadInput
                    && error.field.as_deref() == Some("messages")
                    && case["error"] == error.message.as_str()
            }
            (Err(error), Some("undefined")) => {
                error.kind == ErrorKind::BadInput && error.message.contains("undefined")
            }
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{name}:\n   ours {got:?}\n theirs {:?}{:?}",
                case["rendered"], case["error"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    assert_eq!(cases.len(), 26);
}

fn simple(source: &str) -> ChatTemplate {
    let sources = [("default".to_owned(), source.to_owned())];
    ChatTemplate::new(sources, [], frozen()).unwrap()
}

fn ask(messages: Value) -> Chat {
    Chat {
        messages: serde_json::from_value(messages).unwrap(),
        ..Chat::default()
    }
}

/// A template of one expression.
fn print(expression: &str) -> Result<String, RequestError> {
    simple(&format!("{{{{ {expression} }}}}"))
        .render(&ask(json!([{"role": "user", "content": "hi"}])))
}

const STRINGS: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
const PARTS: &str = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}[{{ p.type }}]{% endif %}{% endfor %}{% endfor %}";

#[test]
fn parts_go_to_a_template_as_it_takes_them() {
    let parts = json!([{"role": "system", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    assert_eq!(
        simple(STRINGS).render(&ask(parts.clone())).unwrap(),
        "<system>S<user>a\nb"
    );
    assert_eq!(
        simple(PARTS).render(&ask(parts)).unwrap(),
        "<system>S<user>ab"
    );
}

#[test]
fn a_part_that_is_no_text_is_named() {
    let chat = ask(json!([
        {"role": "user", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]}
    ]));
    for template in [simple(STRINGS), simple(PARTS)] {
        let error = template.render(&chat).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("messages[1].content[1]"));
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("image_url"), "{error}");
    }
    assert_eq!(
        simple(PARTS).render_any(&chat).unwrap(),
        "<user>x<user>a[image_url]"
    );
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let forever = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let deep = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    let long = "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}";
    for source in [forever, deep, long] {
        let template = simple(source);
        let begun = Instant::now();
        let error = template
            .render(&ask(json!([{"role": "user", "content": "hi"}])))
            .unwrap_err();
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        assert!(error.message.contains("chat template"), "{error}");
    }
}

#[test]
fn a_template_with_an_error_is_refused_with_its_line() {
    let sources = [("default".to_owned(), "a\n{% if %}".to_owned())];
    let error = ChatTemplate::new(sources, [], frozen()).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    let sources = [("rag".to_owned(), "a".to_owned())];
    let error = ChatTemplate::new(sources, [], frozen()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "chat template: there is no template named default, only rag"
    );
}

#[test]
fn what_the_template_lacks_is_not_the_clients_fault() {
    assert_eq!(
        print("messages | nosuchfilter").unwrap_err().kind,
        ErrorKind::Internal
    );
    assert_eq!(
        print("messages[0].content.nosuchmethod()")
            .unwrap_err()
            .kind,
        ErrorKind::Internal
    );
    assert_eq!(
        print("messages[0].content + 1").unwrap_err().kind,
        ErrorKind::BadInput
    );
}

#[test]
fn arguments_of_the_template_are_seen_and_its_own_names_kept() {
    let mut chat = ask(json!([{"role": "user", "content": "hi"}]));
    let template = simple("{{ documents | length }} {{ mood }} {{ add_generation_prompt }}");
    chat.template_arguments = Map::from_iter([
        ("mood".to_owned(), json!("calm")),
        ("documents".to_owned(), json!([{"title": "t"}])),
    ]);
    assert_eq!(template.render(&chat).unwrap(), "1 calm True");
    for (name, value) in [("messages", json!([])), ("add_generation_prompt", json!(1))] {
        chat.template_arguments = Map::from_iter([(name.to_owned(), value)]);
        let error = template.render(&chat).unwrap_err();
        assert_eq!(error.field, Some(format!("chat_template_kwargs.{name}")));
    }
}

#[test]
fn a_message_that_cannot_be_continued_is_an_error() {
    let mut chat =
        ask(json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": null}]));
    chat.continue_final_message = true;
    let error = simple(STRINGS).render(&chat).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("continue_final_message"));
    let mut chat = ask(json!([{"role": "user", "content": "hi there"}]));
    chat.continue_final_message = true;
    let error = simple("{{ messages[0].content | upper }}")
        .render(&chat)
        .unwrap_err();
    assert_eq!(error.field.as_deref(), Some("continue_final_message"));
    let error = simple(STRINGS).render(&Chat::default()).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("messages"));
}

/// The right-hand sides are what Python 3.11 with Jinja 3.1.6 printed.
#[test]
fn python_methods_and_printing() {
    for (expression, expected) in [
        ("'a,b,,c'.rsplit(',', 2)", "['a,b', '', 'c']"),
        ("' a  b c '.split()", "['a', 'b', 'c']"),
        ("' a  b c '.split(None, 1)", "['a', 'b c ']"),
        ("' a  b c '.rsplit(maxsplit=1)", "[' a  b', 'c']"),
        ("'a-b-c'.partition('-')", "('a', '-', 'b-c')"),
        ("'a-b-c'.rpartition('+')", "('', '', 'a-b-c')"),
        ("\"they're BILL's\".title()", "They'Re Bill'S"),
        ("'a\\r\\nb\\x0bc'.splitlines()", "['a', 'b', 'c']"),
        ("'abcabc'.find('c', 3)", "5"),
        ("'abcabc'.count('')", "7"),
        (
            "'x'.center(4) ~ '|' ~ 'x'.center(4, '*') ~ '|' ~ '-7'.zfill(4)",
            " x  |*x**|-007",
        ),
        ("'x'.startswith(('a', 'x'))", "True"),
        ("{'a': 1}.get('b')", "None"),
        ("{'items': 1}.items() | list", "[('items', 1)]"),
        ("[1, 2, 2].count(2) ~ [1, 2].index(2)", "21"),
        ("1e16", "1e+16"),
        (
            "'abc'[::-1] ~ ''[::-1] ~ [1, 2][::-1] ~ [][::-1] ~ (1, 2)[::-1]",
            "cba[2, 1][](2, 1)",
        ),
        ("messages[1:][::-1] | length", "0"),
        ("'x' | int", "0"),
        ("'1.7' | int", "1"),
        ("none is iterable", "False"),
        ("'s' is sequence", "True"),
        ("'{} {a}'.format(1, a=2)", "1 2"),
    ] {
        assert_eq!(print(expression).unwrap(), expected, "{expression}");
    }
    assert_eq!(
        print("missing[::-1]").unwrap_err().kind,
        ErrorKind::BadInput
    );
    assert_eq!(
        print("'a'.index('b')").unwrap_err().kind,
        ErrorKind::BadInput
    );
    assert_eq!(
        print("','.join([1])").unwrap_err().kind,
        ErrorKind::BadInput
    );
}

#[test]
fn a_snapshot_gives_its_template_and_special_tokens() {
    let chat = ask(json!([{"role": "user", "content": "hi"}]));
    for (name, expected) in [
        (
            "llama3-bf16-sharded",
            Some(
                "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
            ),
        ),
        (
            "qwen2-f32",
            Some(
                "<|im_start|>system\nYou trim wicks.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
            ),
        ),
        ("llama-linear-f16", Some("<s>[ASK] hi [/ASK]")),
        ("chat/metaspace", None),
    ] {
        let snapshot = Snapshot::dir(crate::parity::fixture(name)).unwrap();
        let tokenizer = Tokenizer::from_snapshot(&snapshot).unwrap();
        let template = ChatTemplate::from_snapshot(&snapshot, &tokenizer, frozen()).unwrap();
        let text = template.map(|template| template.render(&chat).unwrap());
        assert_eq!(text.as_deref(), expected, "{name}");
    }
}

/// `cargo test --release -p chandler-text -- --ignored --nocapture speed_of_a_rendering`
#[test]
#[ignore = "a measurement"]
fn speed_of_a_rendering() {
    for case in cases() {
        if !["headers-plain", "turns-thinking-off", "turns-tools"]
            .contains(&case["name"].as_str().unwrap())
        {
            continue;
        }
        let (template, mut chat) = (template_of(&case), chat_of(&case));
        if chat.tools.is_empty() {
            chat.messages.truncate(2);
        }
        let begun = Instant::now();
        for _ in 0..1000 {
            template.render_any(&chat).unwrap();
        }
        println!("{}: {:?} a rendering", case["name"], begun.elapsed() / 1000);
    }
}
