//! The routes of vLLM's sleep mode.

use chandler_core::mock::MockOptions;
use serde_json::{Value, json};

use super::worker::{Setup, Worker, chat};

fn setup() -> Setup {
    Setup {
        mock: MockOptions {
            device_bytes: 1 << 20,
            ..MockOptions::default()
        },
        ..Setup::default()
    }
}

async fn sleeps(worker: &Worker) -> Value {
    worker.get("/is_sleeping").await.json().await.unwrap()
}

#[tokio::test]
async fn a_model_is_sent_to_sleep_and_woken_by_whoever_asks_or_needs_it() {
    let worker = setup().start().await;
    assert_eq!(sleeps(&worker).await, json!({"is_sleeping": false}));
    for path in ["/sleep", "/sleep?level=1", "/sleep?level=1&mode=wait"] {
        assert_eq!(worker.post(path, json!({})).await.status(), 200);
        assert_eq!(sleeps(&worker).await, json!({"is_sleeping": true}));
        let health = worker.get("/health").await;
        assert_eq!(health.status(), 200);
        let health: Value = health.json().await.unwrap();
        assert_eq!(health["engine"]["parked"], 1);
        assert_eq!(health["engine"]["device_bytes"], 0);
        let woken = worker.post("/wake_up", json!({})).await;
        assert_eq!(
            woken.json::<Value>().await.unwrap(),
            json!({"is_sleeping": false})
        );
    }
    worker.post("/sleep", json!({})).await;
    worker.answer("/v1/chat/completions", chat("a")).await;
    assert_eq!(sleeps(&worker).await, json!({"is_sleeping": false}));
    let metrics = worker.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("chandler_parked 0"), "{metrics}");
    assert!(metrics.contains("chandler_wake_seconds_count"), "{metrics}");
}

#[tokio::test]
async fn what_is_not_done_is_refused_by_name() {
    let worker = setup().start().await;
    for (path, said) in [
        ("/sleep?level=2", "level is 2"),
        ("/sleep?mode=abort", "mode is"),
        ("/sleep?depth=1", "depth"),
        ("/wake_up?tags=weights", "tags"),
    ] {
        let response = worker.post(path, json!({})).await;
        assert_eq!(response.status(), 400, "{path}");
        let body: Value = response.json().await.unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(said), "{path}: {message}");
    }
    assert_eq!(sleeps(&worker).await, json!({"is_sleeping": false}));
    let hears = Setup::hearing(0).start().await;
    let refused = hears.post("/sleep", json!({})).await;
    assert_eq!(refused.status(), 400);
}
