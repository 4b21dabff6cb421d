//! `chandler serve --register`: what a gateway sees of a process from its start to its end, and that no secret is among it.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use chandler::webhook::sign;
use serde_json::{Value, json};

use super::serve;

type Got = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// A gateway that refuses its first message and knows no `DELETE`.
async fn gateway() -> (String, Got) {
    let got = Got::default();
    let log = got.clone();
    let take = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| async move {
        let mut log = log.lock().unwrap();
        log.push((format!("{method} {uri}"), headers, body));
        match (log.len(), method) {
            (1, _) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Method::DELETE) => StatusCode::METHOD_NOT_ALLOWED,
            _ => StatusCode::OK,
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/workers/T0", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await });
    (url, got)
}

fn registering(more: &[&str]) -> Command {
    let mut command = serve(more);
    command.env("CHANDLER_REGISTER_SECRET", "hush-register");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_announces_itself_and_takes_itself_off() {
    let (url, got) = gateway().await;
    let own = "https://worker.example/T1/";
    let worker = registering(&[
        "--register",
        &url,
        "--register-as",
        own,
        "--register-every",
        "1s",
    ])
    .spawn();
    let worker = worker.unwrap();
    let began = Instant::now();
    let is_told = |times: usize| {
        let got = got.lock().unwrap();
        let ready = |(_, _, body): &&(String, HeaderMap, Bytes)| {
            let body: Value = serde_json::from_slice(body).unwrap();
            body["status"] == "ready"
        };
        got.iter().filter(ready).count() >= times
    };
    // Told again, though nothing has changed.
    while !is_told(3) {
        assert!(began.elapsed() < Duration::from_secs(20), "no message");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (stop, id) = (Instant::now(), worker.id().to_string());
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    let done = tokio::task::spawn_blocking(move || worker.wait_with_output());
    let done = done.await.unwrap().unwrap();
    assert!(stop.elapsed() < Duration::from_secs(5));
    let log = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{log}");

    let got = got.lock().unwrap();
    let read = |body: &Bytes| serde_json::from_slice::<Value>(body).unwrap();
    let ends: Vec<(&str, Value)> = got
        .iter()
        .rev()
        .take(3)
        .rev()
        .map(|(line, _, body)| (line.as_str(), read(body)["status"].clone()))
        .collect();
    let name = read(&got[0].2)["worker_id"].as_str().unwrap().to_owned();
    let off = format!("DELETE /workers/T0/{name}");
    assert_eq!(
        ends,
        [
            ("POST /workers/T0", json!("draining")),
            (off.as_str(), json!("gone")),
            ("POST /workers/T0", json!("gone")),
        ]
    );
    for (_, headers, body) in got.iter() {
        let signature = headers["x-chandler-signature"].to_str().unwrap();
        let seconds = signature.split([',', '=']).nth(1).unwrap().parse().unwrap();
        assert_eq!(
            signature,
            sign(&"hush-register".into(), seconds, body).unwrap()
        );
        assert_eq!(read(body)["url"], "https://worker.example/T1");
        assert_eq!(read(body)["worker_id"], name.as_str());
        let told = format!("{headers:?}{}", String::from_utf8_lossy(body));
        assert!(!told.contains("hush"), "{told}");
    }
    assert!(
        !log.contains("hush") && !log.contains("/T0") && !log.contains("/T1"),
        "{log}"
    );
}

#[test]
fn an_address_that_others_cannot_reach_is_refused_at_the_start() {
    let output = registering(&["--register", "http://127.0.0.1:1/workers"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(
        log.contains("reached from this machine only; give --register-as URL"),
        "{log}"
    );
}
