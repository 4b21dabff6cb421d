//! OpenAI's Responses: the object, every event of a stream, and what is refused because nothing is kept.

use chandler_core::mock::Fault;
use serde_json::{Value, json};

use super::worker::{Setup, with, worker};

fn tools() -> Value {
    json!([{"type": "function", "name": "weather", "parameters":
        {"type": "object", "properties": {"city": {"type": "string"}}}}])
}

fn response(more: Value) -> Value {
    let base = json!({
        "id": "resp_test", "object": "response", "created_at": 0, "completed_at": 0, "model": "chandler/mock",
        "status": "completed", "error": null, "incomplete_details": null,
        "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "metadata": {},
        "parallel_tool_calls": true, "temperature": null, "top_p": null, "top_logprobs": 0,
        "tool_choice": "auto", "tools": [], "text": {"format": {"type": "text"}},
        "reasoning": {"effort": null, "summary": null}, "user": null, "store": false, "background": false,
        "previous_response_id": null, "truncation": "disabled", "service_tier": "default",
        "output": [], "usage": null,
    });
    with(base, more)
}

fn usage(input: u64, output: u64, reasoning: u64) -> Value {
    json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
    })
}

fn message(number: u64, text: &str, status: &str) -> Value {
    let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    json!({"type": "message", "id": format!("msg_test_{number}"), "role": "assistant", "content": [part], "status": status})
}

fn thoughts() -> Value {
    json!({"type": "reasoning", "id": "rs_test_0", "summary": [], "status": "completed",
        "content": [{"type": "reasoning_text", "text": "hm so well"}]})
}

fn call(number: u64) -> Value {
    json!({"type": "function_call", "id": format!("fc_test_{number}"), "call_id": "call_0", "name": "weather",
        "arguments": "{\"city\":\"wick\"}", "status": "completed"})
}

#[tokio::test]
async fn a_whole_response_has_every_field_the_client_reads() {
    let worker = worker().await;
    let body = json!({
        "model": "mock", "input": "wick", "instructions": "Be brief.", "max_output_tokens": 2, "temperature": 0,
        "metadata": {"a": "b"}, "store": true, "user": "u", "something": 1,
    });
    assert_eq!(
        worker.steady("/v1/responses", body).await,
        response(json!({
            "instructions": "Be brief.", "max_output_tokens": 2, "temperature": 0, "metadata": {"a": "b"}, "user": "u",
            "status": "incomplete", "completed_at": null, "incomplete_details": {"reason": "max_output_tokens"},
            "output": [message(0, "wick wick", "incomplete")],
            "usage": usage(1, 2, 0),
        }))
    );
}

#[tokio::test]
async fn thoughts_and_calls_are_items_of_their_own() {
    let worker = worker().await;
    let body = json!({"input": "!think !call", "tools": tools()});
    let mut tool = tools()[0].clone();
    tool["strict"] = Value::Null;
    assert_eq!(
        worker.steady("/v1/responses", body).await,
        response(
            json!({"tools": [tool], "output": [thoughts(), call(1)], "usage": usage(2, 7, 3)})
        )
    );
}

#[tokio::test]
async fn a_schema_is_kept_and_repeated() {
    let worker = worker().await;
    let format = json!({"type": "json_schema", "name": "a", "strict": true,
        "schema": {"type": "object", "properties": {"size": {"type": "integer"}}}});
    let answer = worker
        .steady(
            "/v1/responses",
            json!({"input": "a", "text": {"format": format}}),
        )
        .await;
    assert_eq!(answer["output"][0]["content"][0]["text"], "{\"size\":7}");
    assert_eq!(answer["text"]["format"], format);
}

#[tokio::test]
async fn a_stream_has_every_event_in_its_order() {
    let worker = Setup::slow(2).start().await;
    let body = json!({"input": "!think !call", "tools": tools(), "stream": true});
    let events = worker.named_events("/v1/responses", body).await;
    let sequence = events
        .iter()
        .map(|event| event["sequence_number"].as_u64().unwrap());
    assert!(sequence.eq(0..events.len() as u64));
    let mut tool = tools()[0].clone();
    tool["strict"] = Value::Null;
    let begun = response(json!({"status": "in_progress", "completed_at": null, "tools": [tool]}));
    let part = |text: &str| json!({"type": "reasoning_text", "text": text});
    let thinking = |more: Value| {
        with(
            json!({"item_id": "rs_test_0", "output_index": 0, "content_index": 0}),
            more,
        )
    };
    let calling = |more: Value| with(json!({"item_id": "fc_test_1", "output_index": 1}), more);
    let wanted = [
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item":
            with(thoughts(), json!({"content": [], "status": "in_progress"}))}),
        thinking(json!({"type": "response.content_part.added", "part": part("")})),
        thinking(json!({"type": "response.reasoning_text.delta"})),
        thinking(json!({"type": "response.reasoning_text.done", "text": "hm so well"})),
        thinking(json!({"type": "response.content_part.done", "part": part("hm so well")})),
        json!({"type": "response.output_item.done", "output_index": 0, "item": thoughts()}),
        json!({"type": "response.output_item.added", "output_index": 1, "item":
            with(call(1), json!({"arguments": "", "status": "in_progress"}))}),
        calling(json!({"type": "response.function_call_arguments.delta"})),
        calling(
            json!({"type": "response.function_call_arguments.done", "name": "weather",
            "arguments": "{\"city\":\"wick\"}"}),
        ),
        json!({"type": "response.output_item.done", "output_index": 1, "item": call(1)}),
        json!({"type": "response.completed", "response":
            response(json!({"tools": [tool], "output": [thoughts(), call(1)], "usage": usage(2, 7, 3)}))}),
    ];
    assert_eq!(merged(events), wanted);
}

#[tokio::test]
async fn streamed_text_has_a_part_around_it_and_an_incomplete_end() {
    let worker = worker().await;
    let body = json!({"input": "wick", "max_output_tokens": 2, "stream": true});
    let events = worker.named_events("/v1/responses", body).await;
    let text: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(text, "wick wick");
    let place = |more: Value| {
        with(
            json!({"item_id": "msg_test_0", "output_index": 0, "content_index": 0}),
            more,
        )
    };
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
    let events = merged(events);
    assert_eq!(
        events[2..8],
        [
            json!({"type": "response.output_item.added", "output_index": 0, "item":
                with(message(0, "", "in_progress"), json!({"content": []}))}),
            place(json!({"type": "response.content_part.added", "part": part("")})),
            place(json!({"type": "response.output_text.delta", "logprobs": []})),
            place(
                json!({"type": "response.output_text.done", "text": "wick wick", "logprobs": []})
            ),
            place(json!({"type": "response.content_part.done", "part": part("wick wick")})),
            json!({"type": "response.output_item.done", "output_index": 0, "item": message(0, "wick wick", "incomplete")}),
        ]
    );
    assert_eq!(events[8]["type"], "response.incomplete");
    assert_eq!(
        events[8]["response"]["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(events.len(), 9);
}

/// Events without their numbers, and deltas that follow each other as one without its text: how many there are depends on
/// the reader.
fn merged(events: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for mut event in events {
        let map = event.as_object_mut().unwrap();
        map.remove("sequence_number");
        map.remove("delta");
        if merged.last() != Some(&event) {
            merged.push(event);
        }
    }
    merged
}

#[tokio::test]
async fn logprobs_come_with_the_text_whole_and_streamed() {
    let worker = worker().await;
    let body = json!({"input": "wick", "max_output_tokens": 2, "include": ["message.output_text.logprobs"]});
    let whole = worker.steady("/v1/responses", body.clone()).await;
    let logprobs = &whole["output"][0]["content"][0]["logprobs"];
    assert_eq!(
        logprobs[0],
        json!({"token": "wick", "bytes": [119, 105, 99, 107], "logprob": -0.5, "top_logprobs": []})
    );
    let events = worker
        .named_events("/v1/responses", with(body, json!({"stream": true})))
        .await;
    let streamed: Vec<Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .flat_map(|event| event["logprobs"].as_array().unwrap().clone())
        .collect();
    assert_eq!(logprobs, &json!(streamed));
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_a_failed_response() {
    let mut setup = Setup::slow(5);
    setup.mock.poison = Some("poison".into());
    setup.mock.fault = Fault::Batch;
    let worker = setup.start().await;
    let body = json!({"input": "poison", "stream": true});
    let events = worker.named_events("/v1/responses", body).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(last["response"]["error"]["code"], "server_error");
}

#[tokio::test]
async fn what_would_need_something_kept_is_refused_by_name() {
    let worker = worker().await;
    for (field, value) in [
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("background", json!(true)),
    ] {
        let mut body = json!({"input": "a"});
        body[field] = value;
        let (status, body) = worker.refusal("/v1/responses", body).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!(field)));
    }
    let (_, body) = worker
        .refusal(
            "/v1/responses",
            json!({"input": "a", "tools": [{"type": "web_search"}]}),
        )
        .await;
    assert_eq!(
        body["error"]["message"],
        "tools[0].type is \"web_search\"; this worker runs no tools of its own and takes \"function\" only"
    );
    for method in [reqwest::Method::GET, reqwest::Method::DELETE] {
        let url = worker.url("/v1/responses/resp_1");
        let response = worker.client.request(method, url).send().await.unwrap();
        assert_eq!(response.status(), 404);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["param"], "response_id");
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn an_inputs_tokens_are_counted_and_too_many_are_the_inputs_fault() {
    let mut setup = Setup::default();
    setup.mock.context_length = 3;
    let worker = setup.start().await;
    let count = worker
        .answer("/v1/responses/input_tokens", json!({"input": "a b c"}))
        .await;
    assert_eq!(
        count,
        json!({"object": "response.input_tokens", "input_tokens": 3})
    );
    let (status, body) = worker
        .refusal("/v1/responses", json!({"input": "a b c d"}))
        .await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("input")));
    assert_eq!(body["error"]["code"], "context_length_exceeded");
}
