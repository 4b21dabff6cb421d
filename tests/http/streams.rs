//! Streams as proxies and clients see them: headers, first events, failures before and after the first token.

use chandler_core::mock::Fault;
use serde_json::{Value, json};

use super::worker::{Setup, chat, chat_with, worker};

#[tokio::test]
async fn headers_keep_proxies_from_holding_events_back() {
    let worker = worker().await;
    let response = worker
        .post(
            "/v1/chat/completions",
            chat_with("a", json!({"stream": true})),
        )
        .await;
    assert_eq!(response.headers()["cache-control"], "no-cache");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert!(response.headers().contains_key("x-request-id"));
}

#[tokio::test]
async fn a_failure_before_the_first_token_is_an_http_error() {
    let worker = worker().await;
    let (status, body) = worker
        .refusal(
            "/v1/chat/completions",
            chat_with("a", json!({"stream": true, "n": 16, "temperature": 3})),
        )
        .await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("temperature"))
    );
    let mut setup = Setup::default();
    setup.mock.rows = 4;
    let worker = setup.start().await;
    let (status, body) = worker
        .refusal(
            "/v1/chat/completions",
            chat_with("a", json!({"stream": true, "n": 5})),
        )
        .await;
    assert_eq!(
        (status, &body["error"]["param"]),
        (400, &json!("n")),
        "{body}"
    );
}

#[tokio::test]
async fn a_failure_after_the_first_token_is_one_error_event_and_a_cut() {
    for fault in [Fault::Batch, Fault::Panic] {
        let mut setup = Setup::slow(5);
        setup.mock.poison = Some("poison".into());
        setup.mock.fault = fault;
        let worker = setup.start().await;
        let body = chat_with("poison", json!({"stream": true}));
        let mut response = worker.post("/v1/chat/completions", body).await;
        assert_eq!(response.status(), 200);
        let mut text = String::new();
        while let Ok(Some(bytes)) = response.chunk().await {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        let last = super::worker::events(&text).pop().unwrap();
        assert_eq!(last["error"]["type"], "server_error", "{text}");
        let whole = worker.post("/v1/chat/completions", chat("poison")).await;
        assert_eq!(whole.status(), 500);
        assert_eq!(whole.headers()["x-should-retry"], "false");
        assert_eq!(
            whole.json::<Value>().await.unwrap()["error"]["code"],
            "internal_error"
        );
        worker
            .answer("/v1/chat/completions", chat("wholesome"))
            .await;
    }
}

#[tokio::test]
async fn logprobs_come_with_their_text() {
    let worker = worker().await;
    let body = chat_with(
        "a",
        json!({"stream": true, "logprobs": true, "max_tokens": 3}),
    );
    let events = worker.events("/v1/chat/completions", body).await;
    let tokens: Vec<&str> = events
        .iter()
        .filter_map(|e| e["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .map(|token| token["token"].as_str().unwrap())
        .collect();
    assert_eq!(tokens.concat(), "a a a");
    let body = json!({"prompt": "a", "stream": true, "logprobs": 0, "max_tokens": 3});
    let events = worker.events("/v1/completions", body).await;
    let offsets: Vec<u64> = events
        .iter()
        .filter_map(|e| e["choices"][0]["logprobs"]["text_offset"].as_array())
        .flatten()
        .map(|offset| offset.as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [0, 1, 3]);
}
