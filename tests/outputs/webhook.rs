//! `chandler serve` as a platform starts it, with an environment full of secrets, and the receiver of its webhook.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chandler::webhook::sign;
use serde_json::Value;

use super::serve;

type Got = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn receiver() -> (String, Got) {
    async fn take(State(got): State<Got>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let mut got = got.lock().unwrap();
        got.push((headers, body));
        match got.len() {
            1 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        }
    }
    let got = Got::default();
    let app = Router::new().fallback(take).with_state(got.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/T0", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_its_webhook_how_it_starts_and_ends_and_no_secret() {
    let (url, got) = receiver().await;
    let mut command = serve(&["--webhook-url", &url]);
    command
        .env("RUNPOD_POD_ID", "pod1")
        .env("RUNPOD_ENDPOINT_ID", "endpoint1");
    let worker = command.spawn().unwrap();
    let began = Instant::now();
    // The first attempt is refused and made again after a second.
    while got.lock().unwrap().len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(20), "no message");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stop = Instant::now();
    let id = worker.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    let done = tokio::task::spawn_blocking(move || worker.wait_with_output());
    let done = done.await.unwrap().unwrap();
    assert!(stop.elapsed() < Duration::from_secs(5));
    let log = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{log}");

    let got = got.lock().unwrap();
    let bodies: Vec<Value> = got
        .iter()
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect();
    let statuses: Vec<&str> = bodies
        .iter()
        .map(|body| body["status"].as_str().unwrap())
        .collect();
    assert_eq!(
        statuses,
        ["loading", "loading", "ready", "stopping"],
        "{log}"
    );
    assert_eq!(bodies[0], bodies[1]);
    let secret = "hush-CHANDLER_WEBHOOK_SECRET".into();
    for (headers, body) in got.iter() {
        let signature = headers["x-chandler-signature"].to_str().unwrap();
        let seconds = signature.split([',', '=']).nth(1).unwrap().parse().unwrap();
        assert_eq!(signature, sign(&secret, seconds, body).unwrap());
        let told = format!("{headers:?}{}", String::from_utf8_lossy(body));
        assert!(!told.contains("hush"), "{told}");
    }
    let ready = &bodies[2];
    assert_eq!(ready["model"], "mock");
    assert_eq!(
        ready["worker"],
        serde_json::json!({"platform": "runpod", "id": "pod1", "endpoint": "endpoint1"})
    );
    assert!(ready["cold_start"]["total_ms"].is_u64(), "{ready}");
    assert!(!log.contains("hush") && !log.contains("hooks/T0"), "{log}");
}
