//! A worker and a client of the platform in one, at the level of HTTP: each test is one.

use std::time::Duration;

use runpod_platform::{Options, Platform, Status};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const WORKER: &str = "worker-key";
pub const CLIENT: &str = "Bearer client-key";
pub const POLL: &str = "?gpu=NVIDIA+RTX+A5000&job_in_progress=0";
pub const POST: &str = "?gpu=NVIDIA+RTX+A5000&isStream=false";

/// What came back before the connection's end: the status and the body; nothing of it when it was cut.
pub struct Said {
    pub status: u16,
    pub body: String,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub struct Peer(pub Platform);

impl Peer {
    pub async fn new() -> Self {
        let hold = Duration::from_millis(150);
        let options = Options {
            hold,
            result_limit: 1000,
            keep_wire: true,
            ..Options::default()
        };
        Self(Platform::start(options).await.unwrap())
    }

    pub async fn call(&self, method: &str, path: &str, key: &str, body: &str) -> Option<Said> {
        let mut stream = TcpStream::connect(self.0.address()).await.unwrap();
        let (endpoint, length) = ("/v2/fake-endpoint", body.len());
        let request = format!(
            "{method} {endpoint}{path} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let body = if head.contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            body.to_owned()
        };
        Some(Said {
            status: head[9..12].parse().unwrap(),
            body,
        })
    }

    pub async fn take(&self) -> Option<Said> {
        self.call("GET", &format!("/job-take/w1{POLL}"), WORKER, "")
            .await
    }

    /// The id of the job that the worker gets.
    pub async fn taken(&self) -> String {
        self.take().await.unwrap().json()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub async fn done(&self, id: &str, body: Value) -> Option<Said> {
        let path = format!("/job-done/w1/{id}{POST}");
        self.call("POST", &path, WORKER, &body.to_string()).await
    }

    pub async fn chunk(&self, id: &str, chunk: Value) {
        let body = json!({"output": chunk}).to_string();
        let path = format!("/job-stream/w1/{id}{POST}");
        assert_eq!(
            self.call("POST", &path, WORKER, &body)
                .await
                .unwrap()
                .status,
            200
        );
    }

    pub async fn client(&self, method: &str, path: &str, body: &str) -> Value {
        let said = self.call(method, path, CLIENT, body).await.unwrap();
        assert_eq!(said.status, 200, "{}", said.body);
        said.json()
    }

    pub fn status(&self, id: &str) -> Status {
        self.0.job(id).unwrap().status
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = &rest[(size + 2).min(rest.len())..];
    }
    whole
}
