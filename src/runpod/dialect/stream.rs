//! A prediction that grows: pieces of each row go out as they come, and at the end all of them together are the prediction
//! that `/predict` would have given.

use serde_json::{Map, Value, json};

use super::Shape;
use super::prediction::of_input;
use crate::runpod::answer::Failure;
use crate::sse::Event;

/// Answers of one request at most, as the routes have it.
const MOST_ROWS: usize = 128;

/// A streamed answer of one of OpenAI's routes, on its way to a prediction.
pub(super) struct Growing {
    is_chat: bool,
    rows: Vec<Row>,
    usage: Value,
}

/// One of the answers.
#[derive(Default)]
struct Row {
    /// All that was said.
    said: Map<String, Value>,
    /// What was said since the last chunk.
    news: Map<String, Value>,
    finish: Value,
    /// Whether the end is still to be told.
    ends: bool,
}

impl Growing {
    pub(super) fn new(is_chat: bool) -> Self {
        Self {
            is_chat,
            rows: Vec::new(),
            usage: Value::Null,
        }
    }

    fn take(&mut self, mut choice: Value) {
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
        let Some(index) = usize::try_from(index)
            .ok()
            .filter(|index| *index < MOST_ROWS)
        else {
            return;
        };
        if self.rows.len() <= index {
            self.rows.resize_with(index + 1, Row::default);
        }
        let Some(row) = self.rows.get_mut(index) else {
            return;
        };
        let mut field = |key: &str| choice.get_mut(key).map(Value::take).unwrap_or_default();
        let more = match field("delta") {
            Value::Object(delta) => delta,
            _ => Map::from_iter([("text".to_owned(), field("text"))]),
        };
        for (key, value) in more {
            if key != "role" {
                let empty = value.as_str().is_some_and(str::is_empty) || value.is_null();
                if !empty {
                    add(
                        row.news.entry(key.clone()).or_insert(Value::Null),
                        value.clone(),
                    );
                }
                add(row.said.entry(key).or_insert(Value::Null), value);
            }
        }
        if let Some(logprobs) = choice.get_mut("logprobs").filter(|value| !value.is_null()) {
            add(
                row.said.entry("logprobs").or_insert(Value::Null),
                logprobs.take(),
            );
        }
        if let Some(finish) = choice
            .get_mut("finish_reason")
            .filter(|value| !value.is_null())
        {
            row.finish = finish.take();
            row.ends = true;
        }
    }

    fn choice(&self, row: Row) -> Map<String, Value> {
        let mut said = row.said;
        let logprobs = said.shift_remove("logprobs");
        let mut choice = Map::new();
        if self.is_chat {
            choice.insert("message".into(), message(said));
        } else {
            let text = said.shift_remove("text").filter(|text| !text.is_null());
            choice.insert("text".into(), text.unwrap_or_else(|| "".into()));
        }
        choice.insert("finish_reason".into(), row.finish);
        if let Some(logprobs) = logprobs {
            choice.insert("logprobs".into(), logprobs);
        }
        choice
    }
}

/// A message of what was said, as it would have come whole.
fn message(mut said: Map<String, Value>) -> Value {
    let calls = said
        .shift_remove("tool_calls")
        .filter(|calls| !calls.is_null());
    let content = said.shift_remove("content").unwrap_or_default();
    let only_calls = calls.is_some() && content.as_str().is_none_or(str::is_empty);
    let content = match content {
        _ if only_calls => Value::Null,
        Value::Null => "".into(),
        content => content,
    };
    let mut message = Map::from_iter([
        ("role".to_owned(), json!("assistant")),
        ("content".to_owned(), content),
    ]);
    message.extend(said);
    message.insert("refusal".into(), Value::Null);
    if let Some(Value::Array(mut calls)) = calls {
        for call in calls.iter_mut().filter_map(Value::as_object_mut) {
            call.shift_remove("index");
        }
        message.insert("tool_calls".into(), calls.into());
    }
    Value::Object(message)
}

/// Adds what comes next to what was there: texts one after the other, lists by their entries' `index`.
fn add(there: &mut Value, more: Value) {
    match (there, more) {
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        (Value::Object(map), Value::Object(more)) => {
            for (key, value) in more {
                match key.as_str() {
                    "index" => {
                        map.insert(key, value);
                    }
                    _ => add(map.entry(key).or_insert(Value::Null), value),
                }
            }
        }
        (Value::Array(list), Value::Array(more)) => {
            for entry in more {
                let index = entry.get("index").cloned();
                let same = index.and_then(|index| {
                    list.iter_mut()
                        .find(|known| known.get("index") == Some(&index))
                });
                match same {
                    Some(known) => add(known, entry),
                    None => list.push(entry),
                }
            }
        }
        (_, Value::Null) => {}
        (there, more) => *there = more,
    }
}

impl Shape for Growing {
    fn whole(&self, answer: Value) -> Value {
        answer
    }

    fn event(&mut self, event: &Event) {
        let Some(mut data) = event.data() else {
            return;
        };
        if let Some(usage) = data.get_mut("usage").filter(|usage| !usage.is_null()) {
            self.usage = usage.take();
        }
        if let Some(Value::Array(choices)) = data.get_mut("choices").map(Value::take) {
            for choice in choices {
                self.take(choice);
            }
        }
    }

    fn chunks(&mut self) -> Vec<Value> {
        let mut chunks = Vec::new();
        for (index, row) in self.rows.iter_mut().enumerate() {
            let news = std::mem::take(&mut row.news);
            let ends = std::mem::take(&mut row.ends);
            if news.is_empty() && !ends {
                continue;
            }
            let mut chunk = Map::from_iter([("index".to_owned(), json!(index))]);
            match self.is_chat {
                true => drop(chunk.insert("delta".into(), Value::Object(news))),
                false => {
                    chunk.insert("text".into(), "".into());
                    chunk.extend(news);
                }
            }
            if ends {
                chunk.insert("finish_reason".into(), row.finish.clone());
            }
            chunks.push(Value::Object(chunk));
        }
        chunks
    }

    fn output_is_its_chunks(&self) -> bool {
        false
    }

    fn output(&mut self, _: Vec<Value>) -> Value {
        let rows = std::mem::take(&mut self.rows);
        let choices: Vec<Map<String, Value>> =
            rows.into_iter().map(|row| self.choice(row)).collect();
        let mut first = choices.first().cloned().unwrap_or_default();
        first.insert("usage".into(), self.usage.take());
        if choices.len() > 1 {
            first.insert("choices".into(), json!(choices));
        }
        Value::Object(first)
    }

    fn error(&self, failure: Failure) -> String {
        of_input(&failure.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Splitter;

    fn say(shape: &mut Growing, event: Value) {
        let event = format!("data: {event}\n\n");
        for event in Splitter::default().push(event.as_bytes()) {
            shape.event(&event);
        }
    }

    #[test]
    fn pieces_of_calls_and_thoughts_are_one_message_at_the_end() {
        let mut shape = Growing::new(true);
        for delta in [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning_content": "h"}),
            json!({"reasoning_content": "m"}),
            json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}, {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
        ] {
            say(
                &mut shape,
                json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}),
            );
        }
        let chunks = shape.chunks();
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0]["delta"]["reasoning_content"], "hm");
        assert_eq!(
            chunks[0]["delta"]["tool_calls"][0]["function"],
            json!({"name": "f", "arguments": "{}"})
        );
        say(
            &mut shape,
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        );
        assert_eq!(
            shape.chunks(),
            [json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"})]
        );
        say(
            &mut shape,
            json!({"choices": [], "usage": {"total_tokens": 3}}),
        );
        assert!(shape.chunks().is_empty());
        assert_eq!(
            shape.output(Vec::new()),
            json!({
                "message": {
                    "role": "assistant", "content": null, "reasoning_content": "hm", "refusal": null,
                    "tool_calls": [
                        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"id": "b", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                "finish_reason": "tool_calls", "usage": {"total_tokens": 3},
            })
        );
    }

    #[test]
    fn each_row_has_chunks_of_its_own() {
        let mut shape = Growing::new(false);
        let choices = json!([{"index": 1, "text": "b", "finish_reason": "length"}, {"index": 0, "text": "a"}]);
        say(&mut shape, json!({"choices": choices}));
        assert_eq!(
            shape.chunks(),
            [
                json!({"index": 0, "text": "a"}),
                json!({"index": 1, "text": "b", "finish_reason": "length"})
            ]
        );
    }
}
