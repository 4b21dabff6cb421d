//! The mock, held against the contract that it is to prove.

use serde_json::json;

use super::*;
use crate::contract;
use crate::event::Collected;
use crate::form::Constraint;
use crate::input::{Chat, Message};

fn input(number: u64) -> Input {
    let words = ["tallow", "wick", "flame", "wax", "light"];
    let prompt: Vec<&str> = (0..=number % 4)
        .map(|i| words[((number + i) % 5) as usize])
        .collect();
    let n = 1 + (number % 3) as u32;
    Input::Text(TextInput {
        prompt: match number % 5 {
            3 => thoughtful_call(&prompt),
            _ => Prompt::Text(prompt.join(" ")),
        },
        constraint: (number % 5 == 4).then_some(Constraint::JsonObject),
        best_of: (number % 4 == 1).then_some(n + 1),
        sampling: crate::input::Sampling {
            seed: Some(number),
            ..Default::default()
        },
        limits: crate::input::Limits {
            max_tokens: Some(1 + (number % 9) as u32),
            ..Default::default()
        },
        n,
        ..Default::default()
    })
}

fn thoughtful_call(words: &[&str]) -> Prompt {
    let text = format!("{THINK} {CALL} {}", words.join(" "));
    let tool = json!({"type": "function", "function": {"name": "light", "parameters": {
        "type": "object", "properties": {"colour": {"type": "string"}}}}});
    Prompt::Chat(Chat {
        messages: vec![Message::text("user", text)],
        tools: vec![tool],
        ..Chat::default()
    })
}

#[test]
fn it_thinks_and_then_calls_a_tool_in_several_pieces() {
    let input = Input::Text(TextInput {
        prompt: thoughtful_call(&["wick"]),
        ..TextInput::default()
    });
    let mut pipeline = MockPipeline::new(MockOptions::default());
    let prepared = pipeline.preparer().prepare(input).unwrap();
    assert!(matches!(
        pipeline.admit(Ticket::new(1), prepared),
        Admission::Taken
    ));
    let (mut events, mut collected, mut steps) = (Events::default(), Collected::default(), 0);
    loop {
        pipeline.step(&mut events).unwrap();
        steps += 1;
        if events
            .drain()
            .any(|(_, event)| collected.add(event).unwrap())
        {
            break;
        }
    }
    let row = &collected.rows[0];
    assert_eq!(
        (row.reasoning.as_str(), row.text.as_str()),
        ("hm so well", "")
    );
    assert_eq!(row.tool_calls[0].arguments, r#"{"colour":"wick"}"#);
    assert_eq!(row.finish, Some(FinishReason::ToolCalls));
    assert_eq!((collected.usage.reasoning_tokens, steps), (3, 7));
}

#[test]
fn the_mock_keeps_the_contract() {
    contract::check(&contract::Subject {
        make: &|| {
            MockPipeline::new(MockOptions {
                device_bytes: 1 << 20,
                ..MockOptions::default()
            })
        },
        input: &input,
        requests: 60,
        suspend_every: 3,
    });
}

#[test]
fn the_mock_does_not_grow_over_a_hundred_thousand_requests() {
    let mut pipeline = MockPipeline::new(MockOptions::default());
    contract::no_growth(&mut pipeline, &input, 100_000);
}
