//! What several callers' uploads may take together: who comes too late is told when to come again, and room is given back with the
//! request that took it.

use std::net::SocketAddr;
use std::time::Duration;

use chandler::reach::{AllowedHosts, Client, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::worker::{Setup, Worker, form, read_to_end};

const HEAR: &str = "/v1/audio/transcriptions";
const FORM: &str = "multipart/form-data; boundary=wick";

async fn worker(step_ms: u64, bytes: u64) -> Worker {
    let mut setup = Setup::hearing(step_ms);
    setup.api.upload_memory = Some(bytes);
    let allowed = AllowedHosts {
        everything: true,
        ..AllowedHosts::default()
    };
    setup.api.downloads = Client::new(allowed, Limits::default());
    setup.start().await
}

fn wire(fields: &[(&str, &str)]) -> Vec<u8> {
    let body = form(fields);
    let head = format!(
        "POST {HEAR} HTTP/1.1\r\nhost: test\r\ncontent-type: {FORM}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// A server whose files have so many bytes as they are called; `stalls` has 2800, and then nothing more comes of it.
async fn files() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            let name = head.split_whitespace().nth(1).unwrap_or("/");
            let bytes = name.trim_start_matches('/').parse().unwrap_or(2800);
            let announced = if name == "/stalls" { bytes + 1 } else { bytes };
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {announced}\r\nconnection: close\r\n\r\n{}",
                "b ".repeat(bytes / 2)
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            if name == "/stalls" {
                held.push(stream);
            }
        }
    });
    address
}

/// The error of an answer that came as bytes.
fn error(answer: &str, status: &str) -> Value {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status}")),
        "{answer}"
    );
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str::<Value>(body).unwrap()["error"].take()
}

#[tokio::test]
async fn uploads_that_are_worked_on_leave_what_is_over_to_others() {
    let worker = worker(30, 4000).await;
    let many = "a line\n".repeat(400);
    for (number, stream) in ["false", "true"].into_iter().enumerate() {
        let first = worker
            .raw(&wire(&[("stream", stream), ("file", &many)]))
            .await;
        worker.counts(|c| c.running == 1).await;
        let second = worker.form(HEAR, &[("file", &"b ".repeat(1000))]).await;
        assert_eq!(second.status(), 429, "beside stream {stream}");
        assert_eq!(second.headers()["retry-after"], "5");
        let body: Value = second.json().await.unwrap();
        let error = &body["error"];
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!("uploads_busy"), &json!("rate_limit_error"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("of the 4000 bytes") && message.contains("--upload-memory"),
            "{message}"
        );
        // What has room is heard beside it.
        let small = worker.form(HEAR, &[("file", "so it begins")]).await;
        assert_eq!(small.status(), 200);
        drop(first);
        worker
            .counts(|c| c.cancelled == number as u64 + 1 && c.running == 0)
            .await;
        let again = worker.form(HEAR, &[("file", &"b ".repeat(1000))]).await;
        assert_eq!(again.status(), 200);
    }
}

#[tokio::test]
async fn a_request_that_would_never_have_room_is_too_large() {
    let worker = worker(0, 4000).await;
    let refused = worker.form(HEAR, &[("file", &"b ".repeat(2000))]).await;
    assert_eq!(refused.status(), 413);
    let body: Value = refused.json().await.unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("--upload-memory"), "{message}");
    let audio = "A".repeat(4000);
    let (status, _) = worker
        .refusal("/predict", json!({"instances": [{"audio": audio}]}))
        .await;
    assert_eq!(status, 413);
    // Routes without files have their own limit.
    let long = json!({"messages": [{"role": "user", "content": "a".repeat(5000)}]});
    let (status, body) = worker.refusal("/v1/chat/completions", long).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("unsupported"))
    );
}

#[tokio::test]
async fn bytes_count_as_they_come_where_no_length_is_announced() {
    let worker = worker(30, 4000).await;
    let running = worker
        .raw(&wire(&[("file", &"a line\n".repeat(400))]))
        .await;
    worker.counts(|c| c.running == 1).await;
    let body = form(&[("file", &"b ".repeat(1000))]);
    let head = format!(
        "POST {HEAR} HTTP/1.1\r\nhost: test\r\ncontent-type: {FORM}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    let mut stream = worker.raw(head.as_bytes()).await;
    for piece in body.chunks(500) {
        let frame = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        stream.write_all(&frame).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let told = error(&read_to_end(stream).await, "429");
    assert_eq!(told["code"], "uploads_busy");
    drop(running);
}

#[tokio::test]
async fn files_that_are_fetched_count_while_they_are_held() {
    let files = files().await;
    let worker = worker(0, 4000).await;
    let ask = |name: &str| json!({"instances": [{"audio": format!("http://{files}/{name}")}]});
    let (status, body) = worker.refusal("/predict", ask("5600")).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (413, &json!("request_too_large"))
    );
    let (client, url, body) = (worker.client.clone(), worker.url("/predict"), ask("stalls"));
    // Until it has come first: then it is never answered.
    let first = tokio::spawn(async move {
        loop {
            drop(client.post(&url).json(&body).send().await);
        }
    });
    let until = async |wanted: u16| {
        for _ in 0..300 {
            let (status, body) = worker.refusal("/predict", ask("2800")).await;
            if status == wanted {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was never answered with {wanted}");
    };
    assert_eq!(until(429).await["error"]["code"], "uploads_busy");
    first.abort();
    until(200).await;
}
