//! How many jobs a second the platform hands out and takes back: it must not be what a benchmark of a worker measures.

use std::time::{Duration, Instant};

use runpod_platform::{Options, Platform};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peer::{POLL, POST, WORKER};

/// `cargo test --release -p runpod-platform -- --ignored --nocapture`: well over 5,000 jobs a second on one core.
#[tokio::test]
#[ignore = "a measurement"]
async fn jobs_per_second() {
    const JOBS: u64 = 20_000;
    let options = Options {
        port: 0,
        ..Options::default()
    };
    let platform = Platform::start(options).await.unwrap();
    for _ in 0..JOBS {
        platform.submit(json!({"prompt": "a b c"}));
    }
    let begun = Instant::now();
    let workers = (0..16).map(|_| {
        let address = platform.address();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            loop {
                let get = format!("GET /v2/fake-endpoint/job-take/w1{POLL} HTTP/1.1\r\nhost: x\r\nauthorization: {WORKER}\r\n\r\n");
                let said = exchange(&mut stream, &get).await;
                let Some((_, job)) = said.split_once("\r\n\r\n").filter(|(_, job)| !job.is_empty()) else { return };
                let job: Value = serde_json::from_str(job).unwrap();
                let body = r#"{"output":{"text":"a b c"}}"#;
                let post = format!(
                    "POST /v2/fake-endpoint/job-done/w1/{}{POST} HTTP/1.1\r\nhost: x\r\nauthorization: {WORKER}\r\ncontent-length: {}\r\n\r\n{body}",
                    job["id"].as_str().unwrap(),
                    body.len()
                );
                assert!(exchange(&mut stream, &post).await.contains("200 OK"));
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    assert!(platform.wait_ended(JOBS, Duration::from_secs(120)).await);
    println!(
        "{:.0} jobs/s, this client included",
        JOBS as f64 / begun.elapsed().as_secs_f64()
    );
    drop(workers);
    assert_eq!(platform.account().completed, JOBS);
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = vec![0; 4096];
    let mut have = 0;
    loop {
        let read = stream.read(&mut bytes[have..]).await.unwrap();
        assert!(read > 0, "the connection ended");
        have += read;
        let text = String::from_utf8_lossy(&bytes[..have]).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1);
            let length = length
                .and_then(|rest| rest.split("\r\n").next())
                .map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
    }
}
