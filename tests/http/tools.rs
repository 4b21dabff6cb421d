//! Tools in chat completions: what a call looks like, whole and streamed, and what is said of a wrong one.

use serde_json::{Value, json};

use super::worker::{chat_with, with, worker};

fn tools() -> Value {
    let function = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}})
    };
    json!([function("weather"), function("time")])
}

#[tokio::test]
async fn an_answer_that_only_calls_has_no_content() {
    let worker = worker().await;
    let body = chat_with("Rome", json!({"tools": tools(), "tool_choice": "required"}));
    let answer = worker.answer("/v1/chat/completions", body).await;
    assert_eq!(
        answer["choices"],
        json!([{
            "index": 0,
            "message": {
                "role": "assistant", "content": null, "refusal": null,
                "tool_calls": [{"id": "call_0", "type": "function",
                    "function": {"name": "weather", "arguments": "{\"city\":\"wick\"}"}}],
            },
            "logprobs": null,
            "finish_reason": "tool_calls",
        }])
    );
}

#[tokio::test]
async fn a_choice_names_the_tool_and_parallel_calls_can_be_switched_off() {
    let worker = worker().await;
    let calls = async |more: Value| {
        let body = with(chat_with("!call !call", json!({"tools": tools()})), more);
        let answer = worker.answer("/v1/chat/completions", body).await;
        let calls = answer["choices"][0]["message"]["tool_calls"].clone();
        let names = calls.as_array().cloned().unwrap_or_default().into_iter();
        names
            .map(|call| call["function"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(calls(json!({})).await, ["weather", "time"]);
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "time"}}});
    assert_eq!(calls(named).await, ["time", "time"]);
    assert_eq!(
        calls(json!({"parallel_tool_calls": false})).await,
        ["weather"]
    );
    let allowed = json!({"tool_choice": {"type": "allowed_tools", "allowed_tools":
        {"mode": "required", "tools": [{"type": "function", "function": {"name": "time"}}]}}});
    assert_eq!(calls(allowed).await, ["time", "time"]);
    assert!(calls(json!({"tool_choice": "none"})).await.is_empty());
}

#[tokio::test]
async fn a_streamed_call_begins_with_id_and_name_and_goes_on_with_arguments() {
    let worker = super::worker::Setup::slow(2).start().await;
    let body = chat_with("!call !call", json!({"tools": tools(), "stream": true}));
    let events = worker.events("/v1/chat/completions", body).await;
    let pieces: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
        .cloned()
        .collect();
    let first = |index: u64, name: &str| {
        json!({"index": index, "id": format!("call_{index}"), "type": "function",
            "function": {"name": name, "arguments": ""}})
    };
    // A piece that its reader was too slow for may have been merged with the next one.
    let opened: Vec<&Value> = pieces
        .iter()
        .filter(|piece| piece["id"].is_string())
        .collect();
    assert_eq!(opened.len(), 2);
    for (piece, wanted) in opened.iter().zip([first(0, "weather"), first(1, "time")]) {
        assert_eq!(piece["type"], wanted["type"]);
        assert_eq!(
            (&piece["index"], &piece["id"]),
            (&wanted["index"], &wanted["id"])
        );
        assert_eq!(piece["function"]["name"], wanted["function"]["name"]);
    }
    for index in 0..2 {
        let arguments: String = pieces
            .iter()
            .filter(|piece| piece["index"] == index)
            .map(|piece| piece["function"]["arguments"].as_str().unwrap())
            .collect();
        assert_eq!(arguments, "{\"city\":\"wick\"}");
    }
    for more in pieces.iter().filter(|piece| piece["id"].is_null()) {
        let keys: Vec<&String> = more.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["index", "function"]);
    }
    let last = &events[events.len() - 2]["choices"][0];
    assert_eq!(
        (&last["delta"], &last["finish_reason"]),
        (&json!({}), &json!("tool_calls"))
    );
}

#[tokio::test]
async fn a_call_that_the_limit_cuts_off_ends_for_its_length() {
    let worker = worker().await;
    let body = chat_with(
        "Rome",
        json!({"tools": tools(), "tool_choice": "required", "max_tokens": 2}),
    );
    let answer = worker.answer("/v1/chat/completions", body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"city\""
    );
}

#[tokio::test]
async fn the_results_of_calls_are_taken_back() {
    let worker = worker().await;
    let body = json!({"tools": tools(), "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "reasoning": "hm", "tool_calls": [
            {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]},
        {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
    ]});
    let answer = worker.answer("/v1/chat/completions", body).await;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("sunny sunny"), "{text}");
}

#[tokio::test]
async fn an_instance_calls_tools_as_well() {
    let worker = worker().await;
    let body = json!({"instances": [{
        "messages": [{"role": "user", "content": "Rome"}], "tools": tools(), "tool_choice": "required",
    }]});
    let answer = worker.answer("/predict", body).await;
    let prediction = &answer["predictions"][0];
    assert_eq!(prediction["finish_reason"], "tool_calls");
    assert_eq!(prediction["message"]["content"], Value::Null);
    assert_eq!(
        prediction["message"]["tool_calls"][0]["function"]["name"],
        "weather"
    );
}

#[tokio::test]
async fn what_was_replaced_by_tools_is_refused_by_name() {
    let worker = worker().await;
    let body = chat_with("a", json!({"functions": [{"name": "f"}]}));
    let (status, body) = worker.refusal("/v1/chat/completions", body).await;
    assert_eq!(status, 400);
    assert_eq!(
        body["error"]["message"],
        "functions is not supported: it was replaced by tools"
    );
}
