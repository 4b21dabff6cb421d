//! worker-vllm's own shape: `{prompt or messages, sampling_params, stream, …}` in, lists of tokens' texts out
//! (`[{"choices": [{"tokens": ["…"]}], "usage": {"input": n, "output": m}}]`; runpod.md 11.1, seeds.md 1.3.2).

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{Call, Known, Shape, flag, has, sampling, shown, take};
use crate::kinds::kind_of;
use crate::runpod::answer::Failure;
use crate::runpod::growth::Growth;
use crate::sse::Event;

/// Fields that no other dialect has.
const OWN: [&str; 6] = [
    "sampling_params",
    "apply_chat_template",
    "use_openai_format",
    "max_batch_size",
    "min_batch_size",
    "batch_size_growth_factor",
];
/// Fields that it shares with our own task input.
const SHARED: [&str; 3] = ["prompt", "messages", "stream"];

/// Whether an input is of this dialect: it has a field that no other has, or nothing beside what this one has.
pub(super) fn is(map: &Map<String, Value>, known: &Known) -> bool {
    let asks = has(map, "prompt") || has(map, "messages");
    let own = OWN.iter().any(|key| has(map, key));
    let nothing_else = map
        .iter()
        .all(|(key, value)| value.is_null() || SHARED.contains(&key.as_str()));
    asks && (own || (nothing_else && known.writes()))
}

pub(super) fn read(mut map: Map<String, Value>, known: &Known) -> Result<Call, String> {
    let stream = flag(&mut map, "stream")?;
    let template = flag(&mut map, "apply_chat_template")?;
    // Read and never looked at by worker-vllm, too; its own shape is the only one it has here.
    flag(&mut map, "use_openai_format")?;
    let growth = growth(&mut map, known.streaming.growth)?;
    let mut body = sampling::read(take(&mut map, "sampling_params"))?;
    sampling::nothing_beside(&map)?;
    let rows = body.get("n").and_then(Value::as_f64).unwrap_or(1.0);
    let asked = take(&mut map, "messages").or_else(|| take(&mut map, "prompt"));
    let path = match asked {
        Some(messages @ Value::Array(_)) => conversation(&mut body, messages),
        Some(Value::String(text)) if template => {
            conversation(&mut body, json!([{"role": "user", "content": text}]))
        }
        Some(Value::String(text)) => {
            body.insert("prompt".into(), text.into());
            "/v1/completions"
        }
        other => {
            let is = other.as_ref().map_or("missing", kind_of);
            return Err(format!(
                "prompt is {is}; it must be a string, or messages an array of messages"
            ));
        }
    };
    if stream {
        body.insert("stream".into(), true.into());
        let options = json!({"include_usage": true, "continuous_usage_stats": true});
        body.insert("stream_options".into(), options);
    }
    Ok(Call {
        method: Method::POST,
        path: path.into(),
        body: Some(Value::Object(body)),
        shape: Box::new(Tokens::new(rows)),
        growth,
    })
}

fn conversation(body: &mut Map<String, Value>, messages: Value) -> &'static str {
    body.insert("messages".into(), messages);
    // Why: this dialect has one text, and what the model thought is part of it.
    body.insert("separate_reasoning".into(), false.into());
    "/v1/chat/completions"
}

/// The sizes of chunks that the input names, for the rest of them the worker's.
fn growth(map: &mut Map<String, Value>, usual: Growth) -> Result<Growth, String> {
    let mut number = |key: &str| match take(map, key) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|number| *number >= 1.0);
            number.map(Some).ok_or_else(|| {
                format!(
                    "{key} is {}; it must be a number of 1 or more",
                    shown(&value)
                )
            })
        }
    };
    let most = number("max_batch_size")?.map_or(usual.most, |most| most as usize);
    let first = number("min_batch_size")?.map_or(usual.first, |first| first as usize);
    let factor = number("batch_size_growth_factor")?.unwrap_or(usual.factor);
    Ok(Growth {
        first,
        factor,
        most,
    })
}

/// Streamed tokens on their way.
struct Tokens {
    /// Texts since the last chunk, by row.
    rows: Vec<Vec<Value>>,
    input: u64,
    output: u64,
}

/// Rows of a chunk when nothing sensible is said; the routes refuse more than they run.
const MOST_ROWS: f64 = 128.0;

impl Tokens {
    fn new(rows: f64) -> Self {
        let rows = rows.clamp(1.0, MOST_ROWS) as usize;
        Self {
            rows: vec![Vec::new(); rows],
            input: 0,
            output: 0,
        }
    }

    fn count(&mut self, usage: &Value) {
        let read = |key: &str| usage.get(key).and_then(Value::as_u64);
        self.input = read("prompt_tokens").unwrap_or(self.input);
        self.output = read("completion_tokens").unwrap_or(self.output);
    }

    fn choices(rows: impl Iterator<Item = Vec<Value>>) -> Value {
        rows.map(|tokens| json!({"tokens": tokens})).collect()
    }
}

/// A choice's text, whole or a piece of it, of a chat or of a plain completion.
fn text_of(choice: &Value) -> &str {
    let places = ["/text", "/message/content", "/delta/content"];
    let text = places
        .iter()
        .find_map(|place| choice.pointer(place)?.as_str());
    text.unwrap_or_default()
}

fn choices_of(answer: &Value) -> impl Iterator<Item = &Value> {
    answer
        .get("choices")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

impl Shape for Tokens {
    fn whole(&self, answer: Value) -> Value {
        let mut counted = Self::new(1.0);
        counted.count(&answer["usage"]);
        let rows = choices_of(&answer).map(|choice| vec![text_of(choice).into()]);
        json!([{
            "choices": Self::choices(rows),
            "usage": {"input": counted.input, "output": counted.output},
        }])
    }

    fn event(&mut self, event: &Event) {
        let Some(data) = event.data() else {
            return;
        };
        self.count(&data["usage"]);
        for choice in choices_of(&data) {
            let row = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            let row = usize::try_from(row)
                .ok()
                .and_then(|row| self.rows.get_mut(row));
            let text = text_of(choice);
            if let (Some(row), false) = (row, text.is_empty()) {
                row.push(text.into());
            }
        }
    }

    fn chunks(&mut self) -> Vec<Value> {
        if self.rows.iter().all(Vec::is_empty) {
            return Vec::new();
        }
        vec![json!({
            "choices": Self::choices(self.rows.iter_mut().map(std::mem::take)),
            "usage": {"input": self.input, "output": self.output},
        })]
    }

    /// An answer without a word is still one partial output, as a whole one would be.
    fn output(&mut self, mut chunks: Vec<Value>) -> Value {
        if chunks.is_empty() {
            let rows = self.rows.iter().map(|_| Vec::new());
            chunks.push(json!({
                "choices": Self::choices(rows),
                "usage": {"input": self.input, "output": self.output},
            }));
        }
        Value::Array(chunks)
    }

    fn error(&self, failure: Failure) -> String {
        failure.as_json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::tests::known;
    use crate::sse::Splitter;

    fn call(input: Value) -> Result<Call, String> {
        read(input.as_object().unwrap().clone(), &known(None))
    }

    fn body(input: Value) -> Value {
        call(input).unwrap().body.unwrap()
    }

    #[test]
    fn a_prompt_is_continued_and_messages_or_a_template_are_a_chat() {
        assert_eq!(
            body(json!({"prompt": "a", "sampling_params": {"temperature": 0.5}})),
            json!({"temperature": 0.5, "max_tokens": 100, "prompt": "a"})
        );
        let chat = json!({"max_tokens": 7, "messages": [{"role": "user", "content": "a"}], "separate_reasoning": false});
        for input in [
            json!({"prompt": "a", "apply_chat_template": true, "sampling_params": {"max_tokens": 7}}),
            json!({"messages": [{"role": "user", "content": "a"}], "prompt": "b", "sampling_params": {"max_tokens": 7}}),
        ] {
            assert_eq!(body(input), chat);
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (input, words) in [
            (json!({"prompt": 7}), "prompt is a number"),
            (
                json!({"prompt": "a", "stream": "yes"}),
                "stream is a string",
            ),
            (
                json!({"prompt": "a", "max_batch_size": 0}),
                "max_batch_size is 0",
            ),
            (
                json!({"prompt": "a", "sampling_params": {}, "temperature": 1}),
                "temperature stands beside sampling_params",
            ),
        ] {
            let error = call(input).err().unwrap();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn an_input_names_its_own_sizes_of_chunks() {
        let input = json!({"prompt": "a", "max_batch_size": 8.0, "batch_size_growth_factor": 1.5});
        let growth = call(input).unwrap().growth;
        assert_eq!((growth.first, growth.factor, growth.most), (1, 1.5, 8));
    }

    #[test]
    fn a_whole_answer_is_a_list_of_one_with_a_text_for_each_row() {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 4});
        let choices =
            json!([{"message": {"content": "a b"}}, {"text": "c"}, {"message": {"content": null}}]);
        assert_eq!(
            Tokens::new(1.0).whole(json!({"choices": choices, "usage": usage})),
            json!([{"choices": [{"tokens": ["a b"]}, {"tokens": ["c"]}, {"tokens": [""]}], "usage": {"input": 3, "output": 4}}])
        );
    }

    #[test]
    fn partial_outputs_have_the_texts_since_the_last_and_the_tokens_so_far() {
        let mut shape = Tokens::new(2.0);
        let mut say = |choices: Value, output: u32| {
            let usage = json!({"prompt_tokens": 5, "completion_tokens": output});
            let event = format!("data: {}\n\n", json!({"choices": choices, "usage": usage}));
            for event in Splitter::default().push(event.as_bytes()) {
                shape.event(&event);
            }
        };
        say(
            json!([{"index": 0, "delta": {"role": "assistant", "content": ""}}]),
            0,
        );
        say(json!([{"index": 0, "delta": {"content": "a"}}]), 1);
        say(
            json!([{"index": 1, "text": "b"}, {"index": 0, "text": "c"}]),
            3,
        );
        say(json!([{"index": 7, "text": "lost"}]), 3);
        let chunk = json!({"choices": [{"tokens": ["a", "c"]}, {"tokens": ["b"]}], "usage": {"input": 5, "output": 3}});
        assert_eq!(shape.chunks(), [chunk]);
        assert!(shape.chunks().is_empty());
    }
}
