//! Health before, while and after the model is there.

use std::time::Duration;

use chandler::engine::Status;
use serde_json::{Value, json};

use super::worker::{Setup, chat, worker};

#[tokio::test]
async fn the_port_answers_while_the_model_loads_and_turns_green_after() {
    let (hold, loading) = std::sync::mpsc::channel();
    let mut setup = Setup::default();
    setup.engine.load_wait = Duration::ZERO;
    setup.loading = Some(loading);
    let worker = setup.start().await;
    let response = worker.get("/isalive").await;
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({"status": "loading", "stage": "starting", "loaded_bytes": 0, "total_bytes": 0,
               "download": {"files": 0, "total_bytes": 0, "received_bytes": 0, "verified_bytes": 0}})
    );
    assert_eq!(worker.get("/livez").await.status(), 200);
    let health = worker.get("/health").await;
    assert_eq!(health.status(), 503);
    let body: Value = health.json().await.unwrap();
    assert_eq!(
        (&body["model_loaded"], &body["workers"]["initializing"]),
        (&json!(false), &json!(1))
    );
    let refused = worker.post("/v1/chat/completions", chat("a")).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(!refused.headers().contains_key("x-should-retry"));
    assert!(
        refused.json::<Value>().await.unwrap()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("starting")
    );
    drop(hold);
    worker
        .engine
        .watch()
        .wait_for(|s| *s == Status::Ready)
        .await
        .unwrap();
    assert_eq!(worker.get("/isalive").await.status(), 200);
    worker.answer("/v1/chat/completions", chat("a")).await;
}

#[tokio::test]
async fn a_request_waits_for_a_model_that_is_loading() {
    let (hold, loading) = std::sync::mpsc::channel();
    let setup = Setup {
        loading: Some(loading),
        ..Setup::default()
    };
    let worker = setup.start().await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(hold);
    };
    let predict = json!({"instances": [{"prompt": "a", "task": "text-generation"}]});
    let (_, _, ()) = tokio::join!(
        worker.answer("/v1/chat/completions", chat("a")),
        worker.answer("/predict", predict),
        release
    );
}

#[tokio::test]
async fn health_is_one_object_for_every_reader() {
    let worker = worker().await;
    worker.answer("/v1/chat/completions", chat("a b")).await;
    worker.is_empty().await;
    let response = worker.get("/health").await;
    assert_eq!(response.status(), 200);
    let mut body: Value = response.json().await.unwrap();
    assert!(body["uptime"].is_number() && body["version"].is_string());
    let stages = body["cold_start"]["stages"].as_array().unwrap();
    assert!(
        stages
            .iter()
            .all(|stage| stage["stage"].is_string() && stage["ms"].is_number()),
        "{body}"
    );
    (body["uptime"], body["version"], body["engine"]) = (json!(0), json!(""), json!({}));
    body["cold_start"] = json!({});
    assert_eq!(
        body,
        json!({
            "status": "healthy", "model": "chandler/mock", "model_loaded": true, "version": "", "uptime": 0,
            "device": "cpu", "dtype": "f32", "task": "text-generation", "refiner": false, "architecture": "Mock", "context_length": 4096,
            "cold_start": {},
            "jobs": {"completed": 1, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0},
            "workers": {"idle": 1, "initializing": 0, "ready": 1, "running": 0, "throttled": 0, "unhealthy": 0},
            "engine": {},
        })
    );
}

#[tokio::test]
async fn a_draining_worker_finishes_what_runs_and_takes_nothing_new() {
    let worker = Setup::slow(20).start().await;
    let url = worker.url("/v1/chat/completions");
    let client = worker.client.clone();
    let running =
        tokio::spawn(async move { client.post(url).json(&chat("a b")).send().await.unwrap() });
    worker.counts(|c| c.running == 1).await;
    worker.engine.drain();
    assert_eq!(worker.get("/isalive").await.status(), 503);
    let refused = worker.post("/v1/chat/completions", chat("a")).await;
    assert_eq!(refused.status(), 503);
    worker.stop().await;
    let answer = running.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.json::<Value>().await.unwrap()["usage"]["completion_tokens"],
        16
    );
}

#[tokio::test]
async fn stopping_lets_a_stream_end_whole() {
    let worker = Setup::slow(10).start().await;
    let mut body = chat("a b");
    body["stream"] = json!(true);
    let response = worker.post("/v1/chat/completions", body).await;
    let (text, ()) = tokio::join!(response.text(), worker.stop());
    assert!(text.unwrap().ends_with("data: [DONE]\n\n"));
}
