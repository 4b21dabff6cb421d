//! Reading tool calls: what chat templates print of a turn with calls comes back as the same calls
//! (`tests/fixtures/chat/tool_calls.json.gz`, made by transformers), however the text is cut, and what is no call stays
//! text.

use std::sync::Arc;

use chandler_core::event::{Collected, Event, FinishReason, TextDelta};
use chandler_core::form::{Reasoning, ToolChoice};
use chandler_core::input::{Chat, Message};
use chandler_core::random::Stream;
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::format::ToolFormat;
use super::ids::IdSource;
use super::reader::ToolReading;
use super::{definitions, types};
use crate::answer::dialect::Dialect;
use crate::answer::marks::{Marks, Phase};
use crate::answer::{Answer, Reading, ThoughtReading};
use crate::chat::{ChatTemplate, CivilTime};

fn fixture() -> Value {
    let packed = include_bytes!("../../../tests/fixtures/chat/tool_calls.json.gz");
    serde_json::from_reader(GzDecoder::new(&packed[..])).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    let clock = Arc::new(|| CivilTime::from_unix_seconds(0));
    ChatTemplate::new([("default".to_owned(), source.to_owned())], [], clock).unwrap()
}

/// What was read: text, thoughts, and calls by name and arguments.
#[derive(Debug, PartialEq, Clone)]
struct Read {
    text: String,
    thoughts: String,
    calls: Vec<(String, String)>,
}

fn read_pieces<'t>(reading: &Reading, pieces: impl Iterator<Item = &'t str>) -> Read {
    let mut answer = Answer::new(reading, IdSource::new(1, &[1], 0));
    let mut collected = Collected::default();
    let mut take = |parts: crate::answer::Parts, finish: Option<FinishReason>| {
        let delta = TextDelta {
            text: parts.text,
            reasoning: parts.reasoning,
            tool_calls: parts.tool_calls,
            finish,
            ..TextDelta::default()
        };
        for piece in &delta.tool_calls {
            assert_eq!(piece.id.is_some(), piece.name.is_some(), "{piece:?}");
        }
        collected.add(Event::Text(delta)).unwrap();
    };
    for piece in pieces {
        take(answer.push(piece.to_owned()), None);
        if answer.is_over() {
            break;
        }
    }
    take(answer.finish(), Some(FinishReason::Stop));
    let row = collected.rows.pop().unwrap();
    assert_eq!(answer.has_calls(), !row.tool_calls.is_empty());
    let mut ids: Vec<_> = row.tool_calls.iter().map(|call| &call.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        row.tool_calls.len(),
        "each call has an id of its own"
    );
    Read {
        text: row.text,
        thoughts: row.reasoning,
        calls: row
            .tool_calls
            .into_iter()
            .map(|call| (call.name, call.arguments))
            .collect(),
    }
}

/// Reads a text whole, in two pieces cut at every place, and character by character.
fn read(reading: &Reading, text: &str) -> Read {
    let whole = read_pieces(reading, [text].into_iter());
    let cuts: Vec<usize> = (0..=text.len())
        .filter(|at| text.is_char_boundary(*at))
        .collect();
    for cut in &cuts {
        let (a, b) = text.split_at(*cut);
        assert_eq!(
            read_pieces(reading, [a, b].into_iter()),
            whole,
            "{text:?} cut at {cut}"
        );
    }
    let single = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
    assert_eq!(
        read_pieces(reading, single),
        whole,
        "{text:?} by characters"
    );
    whole
}

fn tools() -> Vec<Value> {
    fixture()["tools"].as_array().unwrap().clone()
}

fn reading(format: &'static ToolFormat, one: bool) -> Reading {
    let defined = definitions(&tools()).unwrap();
    Reading {
        tools: Some(Arc::new(ToolReading {
            format,
            names: defined.iter().map(|tool| tool.name.clone()).collect(),
            types: types(&defined),
            one,
            hidden: format.open.starts_with('[') || format.open.starts_with("<|"),
        })),
        ..Reading::default()
    }
}

/// The format whose calls look so.
fn format(signs: &str) -> &'static ToolFormat {
    ToolFormat::of_template(signs).unwrap()
}

const HERMES: &str = "<tool_call>";
const LLAMA: &str = "\"name\": \"parameters\": ipython";
const LIST: &str = "[TOOL_CALLS]";
const TAGS: &str = "<tool_call><function=<parameter=";

#[test]
fn what_templates_write_of_a_turn_with_calls_is_read_back_as_the_same_calls() {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let source = case["template"].as_str().unwrap();
        let format = ToolFormat::of_template(source).unwrap();
        assert_eq!(format.name, case["name"].as_str().unwrap());
        let written = case["written"].as_str().unwrap();
        let mut reading = reading(format, false);
        if let Some(marks) = Marks::of_template(source) {
            let chat = Chat::default();
            reading.thoughts = Some(ThoughtReading {
                marks,
                phase: marks.phase(case["prompt"].as_str().unwrap(), &chat),
                place: Reasoning::Separated,
                open: None,
            });
        }
        let found = read(&reading, written);
        let calls: Vec<(String, Value)> = found
            .calls
            .iter()
            .map(|(name, arguments)| (name.clone(), serde_json::from_str(arguments).unwrap()))
            .collect();
        let expected: Vec<(String, Value)> = case["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| (call[0].as_str().unwrap().to_owned(), call[1].clone()))
            .collect();
        assert_eq!(calls, expected, "{written}");
        assert_eq!(found.text, case["content"].as_str().unwrap(), "{written}");
        assert_eq!(
            found.thoughts,
            case["reasoning"].as_str().unwrap_or(""),
            "{written}"
        );
    }
}

#[test]
fn arguments_are_the_models_own_text() {
    let arguments = "{\"harbour\" :  \"a\\u00e9\",\n \"hours\": 1.50}";
    let text = format!(
        "<tool_call>\n{{\"name\": \"get_tide\", \"arguments\": {arguments}}}\n</tool_call>"
    );
    let found = read(&reading(format(HERMES), false), &text);
    assert_eq!(found.calls, [("get_tide".to_owned(), arguments.to_owned())]);
    let late = format!("<tool_call>{{\"arguments\": {arguments}, \"name\": \"get_tide\"}}");
    let found = read(&reading(format(HERMES), false), &late);
    assert_eq!(found.calls, [("get_tide".to_owned(), arguments.to_owned())]);
    assert_eq!(found.text, "");
}

#[test]
fn llamas_calls_come_bare_after_a_tag_or_several_in_a_row() {
    let reading = reading(format(LLAMA), false);
    let call = "{\"name\": \"ring_bell\", \"parameters\": {}}";
    let one = ("ring_bell".to_owned(), "{}".to_owned());
    for (text, times) in [
        (call.to_owned(), 1),
        (format!("\n\n{call}\n"), 1),
        (format!("<|python_tag|>{call}"), 1),
        (format!("<|python_tag|>{call}; {call};{call}"), 3),
        (format!("{call}\n{call}"), 2),
    ] {
        let found = read(&reading, &text);
        assert_eq!(found.calls, vec![one.clone(); times], "{text}");
        assert_eq!(found.text, "", "{text}");
    }
}

#[test]
fn text_that_is_no_call_stays_text_and_nothing_is_lost() {
    let llama = reading(format(LLAMA), false);
    for text in [
        "{\"answer\": [1, 2]} and more",
        "{\"name\": \"Ada\", \"parameters\": {\"a\": 1}}",
        "{\"name\": \"ring_bell\"}",
        "{\"name\": \"ring_bell\", \"age\": 5} ",
        "I call {\"name\": \"ring_bell\", \"parameters\": {}}",
        "{not json",
        "  {\"name\": \"ring_b",
        "",
        " \n",
    ] {
        let found = read(&llama, text);
        assert_eq!((found.text.as_str(), found.calls.len()), (text, 0));
    }
    let python = "<|python_tag|>search.call(query=\"x\")";
    assert_eq!(read(&llama, python).text, "search.call(query=\"x\")");
    let hermes = reading(format(HERMES), false);
    for text in [
        "<tool_call>\nI would call a tool\n</tool_call> ",
        "a <tool_cal",
        "a <tool_call>",
        "<tool_call>\n{\"name\": \"f\", \"argum",
        "<tool_call>{\"name\": 5}</tool_call>",
        "<tool_call>{\"arguments\": {\"a\": 1}}</tool_call>",
        "</tool_call> x < y <tool",
        "蜡烛 🕯️  ",
    ] {
        let found = read(&hermes, text);
        assert_eq!((found.text.as_str(), found.calls.len()), (text, 0));
    }
    let list = reading(format(LIST), false);
    assert_eq!(read(&list, "[TOOL_CALLS] [] x").text, " [] x");
    assert_eq!(read(&list, "a [TOOL_CALLS]?").text, "a ?");
}

#[test]
fn text_around_calls_is_kept_and_a_broken_mark_does_not_hide_the_next() {
    let call = "<tool_call>\n{\"name\": \"ring_bell\", \"arguments\": {}}\n</tool_call>";
    let text = format!("First.\n\n{call}\nThen.\n{call}");
    let found = read(&reading(format(HERMES), false), &text);
    assert_eq!(found.text, "First.\nThen.");
    assert_eq!(found.calls.len(), 2);
    let text = format!("<tool_call>oops {call}");
    let found = read(&reading(format(HERMES), false), &text);
    assert_eq!(
        (found.text.as_str(), found.calls.len()),
        ("<tool_call>oops", 1)
    );
}

#[test]
fn a_call_that_is_cut_off_keeps_what_was_given_out() {
    let text = "<tool_call>\n{\"name\": \"get_tide\", \"arguments\": {\"harbour\": \"Br";
    let found = read(&reading(format(HERMES), false), text);
    let cut = ("get_tide".to_owned(), "{\"harbour\": \"Br".to_owned());
    assert_eq!(found.calls, [cut]);
    assert_eq!(found.text, "");
}

#[test]
fn only_the_first_call_is_given_where_one_is_allowed() {
    let text = "[TOOL_CALLS][{\"name\": \"ring_bell\", \"arguments\": {}}, {\"name\": \"ring_bell\", \"arguments\": {}}] and text";
    assert_eq!(read(&reading(format(LIST), false), text).calls.len(), 2);
    let found = read(&reading(format(LIST), true), text);
    assert_eq!((found.calls.len(), found.text.as_str()), (1, ""));
}

#[test]
fn mistrals_names_may_carry_an_id_of_their_own() {
    let text = "[TOOL_CALLS]ring_bell[CALL_ID]abc123XYZ[ARGS]{\"n\": \"}\"}[TOOL_CALLS]get_tide{\"harbour\": \"x\"}";
    let found = read(&reading(format(LIST), false), text);
    let expected = [
        ("ring_bell", "{\"n\": \"}\"}"),
        ("get_tide", "{\"harbour\": \"x\"}"),
    ];
    let expected = expected.map(|(name, arguments)| (name.to_owned(), arguments.to_owned()));
    assert_eq!(found.calls, expected);
}

#[test]
fn tags_take_their_types_from_the_schema() {
    let text = "<tool_call>\n<function=get_tide>\n<parameter=harbour>\n12\n</parameter>\n<parameter=hours>\n12\n</parameter>\n\
                <parameter=exact>\nTrue\n</parameter>\n<parameter=other>\n{\"a\": 1}\n</parameter>\n</function>\n</tool_call>";
    let found = read(&reading(format(TAGS), false), text);
    let arguments: Value = serde_json::from_str(&found.calls[0].1).unwrap();
    let expected = json!({"harbour": "12", "hours": 12, "exact": true, "other": "{\"a\": 1}"});
    assert_eq!(arguments, expected);
}

#[test]
fn templates_without_tools_or_a_known_format_are_told_apart() {
    let fixture = fixture();
    let asked = |source: &str, choice: ToolChoice| {
        let mut chat = Chat {
            messages: vec![Message::text("user", "Tide?")],
            tools: tools(),
            tool_choice: choice,
            ..Chat::default()
        };
        let admitted = Dialect::of(&template(source)).admit(&mut chat);
        admitted
            .map(|()| chat.tools.len())
            .map_err(|error| error.field)
    };
    let deaf = fixture["deaf"].as_str().unwrap();
    let strange = fixture["strange"].as_str().unwrap();
    let some = |field: &str| Err(Some(field.to_owned()));
    assert_eq!(asked(deaf, ToolChoice::Auto), some("tools"));
    assert_eq!(asked(deaf, ToolChoice::None), Ok(0));
    assert_eq!(asked(deaf, ToolChoice::Required), Ok(2));
    assert_eq!(asked(strange, ToolChoice::Auto), Ok(2));
    let named = ToolChoice::Named("no_such".into());
    assert_eq!(asked(strange, named), some("tool_choice"));
}

#[test]
fn however_odd_a_text_its_pieces_come_out_the_same_wherever_it_is_cut() {
    const PARTS: [&str; 28] = [
        "<tool_call>{\"name\": \"ring_bell\", \"arguments\": {",
        "{\"name\": \"ring_bell\", \"parameters\": {",
        "[TOOL_CALLS]ring_bell{",
        "<tool_call><function=ring_bell>",
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|python_tag|>",
        "<function=",
        "ring_bell",
        ">",
        "<parameter=a>",
        "</parameter>",
        "</function>",
        "{\"name\": \"ring_bell\"",
        ", \"arguments\": {",
        "\"parameters\": {\"x\": \"}\\\"\"",
        "}",
        "}}",
        "[",
        "]",
        ", ",
        ";",
        " \n",
        "text",
        "\"",
        "<think>x</think>",
    ];
    let signs = [HERMES, LLAMA, LIST, TAGS, "[TOOL_CALLS][ARGS]"];
    let mut calls = 0;
    for number in 0..600u64 {
        let draw = |n: u64| Stream::new(number, 0).words(n, 0)[0] as usize;
        let mut reading = reading(
            format(signs[draw(0) % signs.len()]),
            draw(1).is_multiple_of(4),
        );
        reading.thoughts = Marks::of_template("</think>").map(|marks| ThoughtReading {
            marks,
            phase: [Phase::Possible, Phase::Inside, Phase::Over][draw(2) % 3],
            place: [Reasoning::Separated, Reasoning::Inline][draw(3) % 2],
            open: None,
        });
        let text: String = (0..3 + draw(4) as u64 % 9)
            .map(|n| PARTS[draw(5 + n) % PARTS.len()])
            .collect();
        calls += read(&reading, &text).calls.len();
    }
    assert!(calls > 20, "{calls} calls: the texts are too odd");
}
