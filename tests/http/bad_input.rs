//! What bad input gets: a clear error naming the field, the process alive, other requests untouched.

use serde_json::{Value, json};

use super::worker::{Setup, chat, chat_with, worker};

#[tokio::test]
async fn a_body_that_is_not_json_is_told_where() {
    let worker = worker().await;
    for (body, words) in [
        (
            &b"{\"messages\": [}"[..],
            "the body is not valid JSON: expected value at line 1 column 15",
        ),
        (
            b"{\"prompt\": \"\xff\"}",
            "the body is not UTF-8: byte 12 does not continue the text",
        ),
        (b"", "the body is empty; it must be a JSON object"),
        (b"[1]", "the body is an array; it must be a JSON object"),
        (
            b"{\"a\":\"\\ud800\"}",
            "the body is not valid JSON: unexpected end of hex escape at line 1 column 13",
        ),
    ] {
        for path in ["/v1/chat/completions", "/v1/completions", "/predict"] {
            let response = worker.post_bytes(path, body).await;
            assert_eq!(response.status(), 400);
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"]["message"], words, "{path}");
            assert_eq!(body["error"]["type"], "invalid_request_error");
        }
    }
    let response = worker
        .post_bytes("/generate", &b"{\"prompt\": \"\xff\"}"[..])
        .await;
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"], body["detail"]);
}

#[tokio::test]
async fn a_field_that_will_not_do_is_named_with_what_would() {
    let worker = worker().await;
    for (more, param, message) in [
        (
            json!({"temperature": -1}),
            "temperature",
            "temperature is -1; it must be a number from 0 to 2",
        ),
        (
            json!({"max_tokens": 1e12}),
            "max_tokens",
            "max_tokens is 1000000000000.0; it must be a whole number from 1 to 2147483647",
        ),
        (
            json!({"max_tokens": 512.5}),
            "max_tokens",
            "max_tokens is 512.5; it must be a whole number from 1 to 2147483647",
        ),
        (
            json!({"n": 0}),
            "n",
            "n is 0; it must be a whole number from 1 to 128",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            "messages[0].content[0].type",
            "messages[0].content[0].type is \"image_url\"; this model takes text parts only",
        ),
        (
            json!({"tool_choice": "required"}),
            "tool_choice",
            "tool_choice demands a call, and there are no tools to call",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {}}}),
            "response_format.json_schema.name",
            "response_format.json_schema.name is missing; it must be 1 to 64 letters, digits, underscores and dashes",
        ),
    ] {
        let response = worker
            .post("/v1/chat/completions", chat_with("a", more))
            .await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["x-should-retry"], "false");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["param"], param);
        assert_eq!(body["error"]["message"], message);
    }
}

#[tokio::test]
async fn a_prompt_past_the_context_window_is_refused_alone() {
    let mut setup = Setup::slow(10);
    setup.mock.context_length = 4;
    let worker = setup.start().await;
    let long = "a b c d e";
    let good = worker.answer("/v1/chat/completions", chat("a b"));
    let bad = worker.refusal("/v1/chat/completions", chat(long));
    let (good, (status, body)) = tokio::join!(good, bad);
    assert_eq!(good["choices"][0]["finish_reason"], "stop");
    assert_eq!(status, 400);
    assert_eq!(body["error"]["code"], "context_length_exceeded");
    assert_eq!(body["error"]["param"], "messages");
    let (_, body) = worker
        .refusal("/v1/completions", json!({"prompt": ["a", long]}))
        .await;
    assert_eq!(body["error"]["param"], "prompt[1]");
    let streamed = worker
        .refusal(
            "/v1/chat/completions",
            chat_with(long, json!({"stream": true})),
        )
        .await;
    assert_eq!(streamed.0, 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_the_answer_is_read() {
    let mut setup = Setup::default();
    setup.api.body_limit = 1000;
    let worker = setup.start().await;
    let (status, body) = worker
        .refusal("/v1/chat/completions", chat(&"a ".repeat(400_000)))
        .await;
    assert_eq!(status, 413);
    assert_eq!(
        body["error"]["message"],
        "the body is over the limit of 1000 bytes"
    );
    let (status, body) = worker
        .refusal("/generate", json!({"num_chars": 5, "x": "a".repeat(2000)}))
        .await;
    assert_eq!(
        (status, body["error"].as_str()),
        (413, Some("the body is over the limit of 1000 bytes"))
    );
    worker.answer("/v1/chat/completions", chat("a")).await;
}

#[tokio::test]
async fn a_depth_bomb_is_only_an_error() {
    let worker = worker().await;
    let body = "{\"messages\":".to_owned() + &"[".repeat(500_000);
    let response = worker.post_bytes("/v1/chat/completions", body).await;
    assert_eq!(response.status(), 400);
    worker.answer("/v1/chat/completions", chat("a")).await;
}

#[tokio::test]
async fn content_types_and_unknown_fields_do_not_matter() {
    let worker = worker().await;
    let body = chat_with(
        "a",
        json!({"user": "u", "store": true, "metadata": {"a": "b"}, "service_tier": "auto", "x": 1}),
    );
    let response = worker
        .post_bytes("/v1/chat/completions", body.to_string())
        .await;
    assert_eq!(response.status(), 200);
}
