//! Anthropic's Messages: the message, every event of a stream, errors in that shape, and the count of tokens.

use chandler_core::mock::Fault;
use serde_json::{Value, json};

use super::worker::{Setup, with, worker};

fn ask(text: &str, more: Value) -> Value {
    let body =
        json!({"model": "mock", "max_tokens": 64, "messages": [{"role": "user", "content": text}]});
    with(body, more)
}

fn tools() -> Value {
    json!([{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}])
}

fn thinking() -> Value {
    json!({"thinking": {"type": "enabled", "budget_tokens": 1024}})
}

fn message(more: Value) -> Value {
    let base = json!({
        "id": "msg_test", "type": "message", "role": "assistant", "model": "chandler/mock",
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(1, 0, 0),
    });
    with(base, more)
}

fn usage(input: u64, output: u64, thinking: u64) -> Value {
    json!({
        "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "output_tokens": output, "output_tokens_details": {"thinking_tokens": thinking},
    })
}

#[tokio::test]
async fn a_whole_message_says_why_it_ended() {
    let worker = worker().await;
    let body = ask("wick", json!({"max_tokens": 2, "system": "Be brief."}));
    assert_eq!(
        worker.steady("/v1/messages", body).await,
        message(json!({
            "content": [{"type": "text", "text": "wick wick"}], "stop_reason": "max_tokens", "usage": usage(1, 2, 0),
        }))
    );
    let body = ask("wick", json!({"stop_sequences": ["flame", "wick"]}));
    assert_eq!(
        worker.steady("/v1/messages", body).await,
        message(
            json!({"stop_reason": "stop_sequence", "stop_sequence": "wick", "usage": usage(1, 1, 0)})
        )
    );
    let body = ask(
        "a",
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"const": 1}}}}),
    );
    let answer = worker.steady("/v1/messages", body).await;
    assert_eq!(answer["content"], json!([{"type": "text", "text": "1"}]));
    assert_eq!(answer["stop_reason"], "end_turn");
}

#[tokio::test]
async fn thoughts_and_calls_are_blocks_of_their_own() {
    let worker = worker().await;
    let body = ask("!think !call", with(json!({"tools": tools()}), thinking()));
    assert_eq!(
        worker.steady("/v1/messages", body).await,
        message(json!({
            "content": [
                {"type": "thinking", "thinking": "hm so well", "signature": ""},
                {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "wick"}},
            ],
            "stop_reason": "tool_use", "usage": usage(2, 7, 3),
        }))
    );
    let unasked = worker
        .steady(
            "/v1/messages",
            ask("!think !call", json!({"tools": tools()})),
        )
        .await;
    assert_eq!(unasked["content"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stream_has_every_event_in_its_order() {
    let worker = Setup::slow(2).start().await;
    let body = ask(
        "!think !call",
        with(json!({"tools": tools(), "stream": true}), thinking()),
    );
    let events = worker.named_events("/v1/messages", body).await;
    let pieces = |kind: &str, key: &str| -> String {
        let deltas = events.iter().map(|event| &event["delta"]);
        deltas
            .filter(|delta| delta["type"] == kind)
            .map(|delta| delta[key].as_str().unwrap())
            .collect()
    };
    assert_eq!(pieces("thinking_delta", "thinking"), "hm so well");
    assert_eq!(
        pieces("input_json_delta", "partial_json"),
        "{\"city\":\"wick\"}"
    );
    let wanted = [
        json!({"type": "message_start", "message": message(json!({"usage": usage(2, 0, 0)}))}),
        json!({"type": "ping"}),
        json!({"type": "content_block_start", "index": 0, "content_block":
            {"type": "thinking", "thinking": "", "signature": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block":
            {"type": "tool_use", "id": "call_0", "name": "weather", "input": {}}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta"}}),
        json!({"type": "content_block_stop", "index": 1}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": usage(2, 7, 3)}),
        json!({"type": "message_stop"}),
    ];
    assert_eq!(merged(events), wanted);
}

#[tokio::test]
async fn streamed_text_ends_with_the_stop_sequence_that_was_reached() {
    let worker = worker().await;
    let body = ask("wick", json!({"stream": true, "max_tokens": 3}));
    let events = worker.named_events("/v1/messages", body).await;
    let text: String = events
        .iter()
        .filter_map(|e| e["delta"]["text"].as_str())
        .collect();
    assert_eq!(text, "wick wick wick");
    assert_eq!(
        merged(events)[2..5],
        [
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}}),
            json!({"type": "content_block_stop", "index": 0}),
        ]
    );
    let body = ask("wick", json!({"stream": true, "stop_sequences": ["wick"]}));
    let events = worker.named_events("/v1/messages", body).await;
    assert_eq!(
        events[events.len() - 2]["delta"],
        json!({"stop_reason": "stop_sequence", "stop_sequence": "wick"})
    );
}

/// Deltas that follow each other as one, without what they hold: how many there are depends on the reader.
fn merged(events: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for mut event in events {
        if event["type"] == "content_block_delta" {
            let kind = event["delta"]["type"].clone();
            event["delta"] = json!({ "type": kind });
        }
        if merged.last() != Some(&event) {
            merged.push(event);
        }
    }
    merged
}

#[tokio::test]
async fn errors_have_the_dialects_shape_and_headers() {
    let mut setup = Setup::default();
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    let post = async |key: &str, body: Value| {
        let request = worker.client.post(worker.url("/v1/messages")).json(&body);
        let request = request.header("x-api-key", key);
        let response = request.header("anthropic-version", "2023-06-01");
        let response = response.send().await.unwrap();
        assert_eq!(
            response.headers()["request-id"],
            response.headers()["x-request-id"]
        );
        (
            response.status().as_u16(),
            response.json::<Value>().await.unwrap(),
        )
    };
    let error = |kind: &str, message: &str| json!({"type": "error", "error": {"type": kind, "message": message}});
    let good = ask("a", json!({}));
    assert_eq!(post("a-key", good.clone()).await.0, 200);
    assert_eq!(
        post("other", good.clone()).await,
        (
            401,
            error(
                "authentication_error",
                "the API key is not one of this worker's"
            )
        )
    );
    assert_eq!(
        post("a-key", with(good.clone(), json!({"model": "other"}))).await,
        (
            404,
            error(
                "not_found_error",
                "the model \"other\" is not served here; this worker serves \"chandler/mock\", also as \"default\"; \
                 --model-aliases (CHANDLER_MODEL_ALIASES) gives it further names"
            )
        )
    );
    assert_eq!(
        post("a-key", with(good.clone(), json!({"max_tokens": null}))).await,
        (
            400,
            error(
                "invalid_request_error",
                "max_tokens is missing; it must be how many tokens the answer may have"
            )
        )
    );
    let image = json!([{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]);
    assert_eq!(
        post("a-key", with(good, json!({"messages": image}))).await,
        (
            400,
            error(
                "invalid_request_error",
                "messages[0].content[0].type is \"image\"; this model takes text and tool_result blocks here"
            )
        )
    );
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_an_error_event_and_a_cut() {
    let mut setup = Setup::slow(5);
    setup.mock.poison = Some("poison".into());
    setup.mock.fault = Fault::Batch;
    let worker = setup.start().await;
    let mut response = worker
        .post("/v1/messages", ask("poison", json!({"stream": true})))
        .await;
    let mut text = String::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        last.starts_with(
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""
        ),
        "{last}"
    );
}

#[tokio::test]
async fn tokens_are_counted_without_an_answer() {
    let worker = worker().await;
    let mut body = ask("a b c", json!({"tools": tools()}));
    body.as_object_mut().unwrap().remove("max_tokens");
    assert_eq!(
        worker.answer("/v1/messages/count_tokens", body).await,
        json!({"input_tokens": 3})
    );
    assert_eq!(worker.engine.counters().completed, 0);
}
