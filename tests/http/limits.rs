//! Limits of queue, rate and time.

use std::time::Duration;

use serde_json::{Value, json};

use super::worker::{Setup, chat, chat_with, events};

#[tokio::test]
async fn a_full_queue_is_429_with_the_time_to_come_back() {
    let mut setup = Setup::slow(50);
    setup.mock.rows = 1;
    setup.engine.queue = 1;
    let worker = setup.start().await;
    let ask = || {
        let (client, url) = (worker.client.clone(), worker.url("/v1/chat/completions"));
        tokio::spawn(async move {
            client
                .post(url)
                .json(&chat("a b"))
                .send()
                .await
                .unwrap()
                .status()
        })
    };
    let running = ask();
    worker.counts(|c| c.running == 1).await;
    let waiting = ask();
    worker.counts(|c| c.queued == 1).await;
    let refused = worker.post("/v1/chat/completions", chat("a")).await;
    assert_eq!(refused.status(), 429);
    let wait: u32 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=120).contains(&wait));
    assert!(!refused.headers().contains_key("x-should-retry"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["type"], "rate_limit_error");
    assert_eq!(
        (running.await.unwrap(), waiting.await.unwrap()),
        (reqwest::StatusCode::OK, reqwest::StatusCode::OK)
    );
    assert_eq!(worker.engine.counters().rejected, 1);
}

#[tokio::test]
async fn the_rate_limit_counts_each_key_for_itself() {
    let mut setup = Setup::default();
    setup.api.api_keys = vec!["one".into(), "two".into()].into();
    setup.api.rate_limit = Some(2);
    let worker = setup.start().await;
    let ask = async |key: &str| {
        let request = worker
            .client
            .post(worker.url("/v1/chat/completions"))
            .bearer_auth(key);
        request.json(&chat("a")).send().await.unwrap()
    };
    assert_eq!(ask("one").await.status(), 200);
    assert_eq!(ask("one").await.status(), 200);
    let refused = ask("one").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(
        refused.json::<Value>().await.unwrap()["error"]["code"],
        "rate_limit_exceeded"
    );
    assert_eq!(ask("two").await.status(), 200);
    for _ in 0..5 {
        assert_eq!(worker.get("/health").await.status(), 200);
    }
}

#[tokio::test]
async fn without_keys_the_rate_limit_counts_addresses() {
    let mut setup = Setup::default();
    setup.api.rate_limit = Some(1);
    let worker = setup.start().await;
    worker.answer("/v1/chat/completions", chat("a")).await;
    assert_eq!(
        worker.refusal("/generate", json!({"prompt": "a"})).await.0,
        429
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_504_and_its_work_ends() {
    let mut setup = Setup::slow(30);
    setup.api.request_timeout = Duration::from_millis(100);
    let worker = setup.start().await;
    let (status, body) = worker.refusal("/v1/chat/completions", chat("a")).await;
    assert_eq!((status, &body["error"]["code"]), (504, &json!("timeout")));
    worker.counts(|c| c.cancelled == 1 && c.running == 0).await;
}

#[tokio::test]
async fn a_stream_that_takes_too_long_ends_with_an_error_and_without_done() {
    let mut setup = Setup::slow(30);
    setup.api.request_timeout = Duration::from_millis(100);
    let worker = setup.start().await;
    let mut response = worker
        .post(
            "/v1/chat/completions",
            chat_with("a", json!({"stream": true})),
        )
        .await;
    assert_eq!(response.status(), 200);
    let (mut text, mut cut) = (String::new(), false);
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(None) => break,
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    let events = events(&text);
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout", "{text}");
    assert!(cut, "the body must not end as if it were whole");
    worker.counts(|c| c.cancelled == 1 && c.running == 0).await;
}
