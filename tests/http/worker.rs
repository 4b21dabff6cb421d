//! A worker on the mock, on a port of its own, and the few ways in which tests talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use chandler::api::{self, ApiSettings};
use chandler::engine::{Engine, EngineOptions, Loaded};
use chandler::runpod::local::{self, LocalOptions};
use chandler::runpod::{Handler, Streaming};
use chandler_core::mock::{MockArtist, MockOptions, MockPipeline, MockRecogniser};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Worker {
    pub address: SocketAddr,
    pub engine: Engine,
    pub client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

/// What to start; tests change what they are about.
#[derive(Default)]
pub struct Setup {
    pub api: ApiSettings,
    pub mock: MockOptions,
    pub engine: EngineOptions,
    /// The model loads until this sender is dropped.
    pub loading: Option<std::sync::mpsc::Receiver<()>>,
    /// A recogniser of speech instead of a language model; of `mock`, rows and step count.
    pub hears: bool,
    /// A model that draws instead; of `mock`, rows and step count.
    pub draws: bool,
    /// RunPod's client-side routes as well.
    pub local: Option<LocalOptions>,
}

impl Setup {
    pub fn slow(step_ms: u64) -> Self {
        let mut setup = Self::default();
        setup.mock.step = Duration::from_millis(step_ms);
        setup
    }

    /// A recogniser of speech; a step of it is a segment.
    pub fn hearing(step_ms: u64) -> Self {
        Self {
            hears: true,
            ..Self::slow(step_ms)
        }
    }

    /// A model that draws; a step of it is a step of each picture.
    pub fn drawing(step_ms: u64) -> Self {
        Self {
            draws: true,
            ..Self::slow(step_ms)
        }
    }

    pub async fn start(mut self) -> Worker {
        if self.api.model_id == "default" {
            self.api.model_id = "chandler/mock".into();
            self.api.aliases = vec!["mock".into()];
        }
        let (loading, mock) = (self.loading, self.mock);
        let (hears, draws) = (self.hears, self.draws);
        let waits = loading.is_some();
        let engine = Engine::launch(self.engine, move |_| {
            if let Some(loading) = loading {
                let _ = loading.recv();
            }
            Ok(match (hears, draws) {
                (true, _) => Loaded::new(MockRecogniser::new(mock.rows, mock.step)),
                (_, true) => Loaded::new(MockArtist::new(mock.rows, mock.step)),
                _ => Loaded::new(MockPipeline::new(mock)),
            })
        });
        if !waits {
            let mut status = engine.watch();
            let ready = |s: &chandler::engine::Status| *s == chandler::engine::Status::Ready;
            status.wait_for(ready).await.unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let write_stall = self.api.write_stall;
        let more = match self.local {
            None => Router::new(),
            Some(mut options) => {
                options.waiting = self.api.waiting_jobs.clone();
                let inner = api::inner_router(self.api.clone(), engine.clone());
                let work = Arc::new(Handler::new(inner.clone(), Streaming::default()));
                local::routes(work, engine.clone(), inner, options)
            }
        };
        let router = api::router_with(self.api, engine.clone(), more);
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(api::serve(listener, router, write_stall, until));
        Worker {
            address,
            engine,
            client: reqwest::Client::new(),
            stop: Some(stop),
            served,
        }
    }
}

/// A worker with nothing special about it.
pub async fn worker() -> Worker {
    Setup::default().start().await
}

impl Worker {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> reqwest::Response {
        self.client
            .post(self.url(path))
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    pub async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> reqwest::Response {
        let request = self.client.post(self.url(path)).body(body.into());
        request.send().await.unwrap()
    }

    /// A good answer's body, without what differs from run to run.
    pub async fn answer(&self, path: &str, body: Value) -> Value {
        let response = self.post(path, body).await;
        let status = response.status();
        let value: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{value}");
        normal(value)
    }

    /// A bad answer's status and body.
    pub async fn refusal(&self, path: &str, body: Value) -> (u16, Value) {
        let response = self.post(path, body).await;
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The `data:` events of a streamed answer; `[DONE]` as a string.
    pub async fn events(&self, path: &str, body: Value) -> Vec<Value> {
        let response = self.post(path, body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "text/event-stream; charset=utf-8"
        );
        events(&response.text().await.unwrap())
    }

    /// A form of text fields and a file, as it is.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> reqwest::Response {
        let request = self.client.post(self.url(path));
        let request = request.header("content-type", "multipart/form-data; boundary=wick");
        request.body(form(fields)).send().await.unwrap()
    }

    /// A form of text fields and then files, which may be anything.
    pub async fn files(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, &[u8])],
    ) -> reqwest::Response {
        let mut body = form(fields);
        body.truncate(body.len() - "--wick--\r\n".len());
        for (name, file) in files {
            let head = format!(
                "--wick\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\n\r\n"
            );
            body.extend([head.as_bytes(), file, b"\r\n"].concat());
        }
        body.extend(b"--wick--\r\n");
        let request = self.client.post(self.url(path));
        let request = request.header("content-type", "multipart/form-data; boundary=wick");
        request.body(body).send().await.unwrap()
    }

    /// A good answer under the request id `test`, so that every id in it is known; times are 0.
    pub async fn steady(&self, path: &str, body: Value) -> Value {
        let mut value: Value = self.as_test(path, &body).await.json().await.unwrap();
        still(&mut value);
        value
    }

    /// The named events of a streamed answer, each of which has its name as `type` too.
    pub async fn named_events(&self, path: &str, body: Value) -> Vec<Value> {
        let text = self.as_test(path, &body).await.text().await.unwrap();
        let events = text.split_terminator("\n\n").map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let mut data: Value =
                serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
            still(&mut data);
            data
        });
        events.collect()
    }

    async fn as_test(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.client.post(self.url(path)).json(body);
        let response = request.header("x-request-id", "test").send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }

    /// Sends bytes as they are, and gives the connection back.
    pub async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Ends the engine and then the listener, as SIGTERM does; resolves when every connection has ended.
    pub async fn stop(mut self) {
        self.engine.drain();
        self.engine.stopped().await;
        let _ = self.stop.take().unwrap().send(());
        self.served.await.unwrap().unwrap();
    }

    /// Waits until the engine has nothing left.
    pub async fn is_empty(&self) {
        let begun = Instant::now();
        loop {
            let counters = self.engine.counters();
            if counters.queued == 0 && counters.running == 0 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{counters:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a counter satisfies the test.
    pub async fn counts(&self, done: impl Fn(chandler::engine::Counters) -> bool) {
        let begun = Instant::now();
        while !done(self.engine.counters()) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{:?}",
                self.engine.counters()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub async fn read_to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A POST as it goes over the wire.
pub fn wire(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The parts of a form in their order, between boundaries of `wick`; `file` is sent as one.
pub fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = String::new();
    for (name, text) in fields {
        let more = match *name {
            "file" => "; filename=\"a.wav\"\r\nContent-Type: audio/x-wav",
            _ => "",
        };
        body += &format!(
            "--wick\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{text}\r\n"
        );
    }
    (body + "--wick--\r\n").into_bytes()
}

pub fn events(text: &str) -> Vec<Value> {
    text.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|data| match data {
            "[DONE]" => json!("[DONE]"),
            data => normal(serde_json::from_str(data).unwrap()),
        })
        .collect()
}

/// Puts 0 for times, also in a response within an event.
fn still(value: &mut Value) {
    for key in ["created_at", "completed_at"] {
        if let Some(time) = value.get_mut(key).filter(|time| time.is_u64()) {
            *time = json!(0);
        }
    }
    if let Some(response) = value.get_mut("response") {
        still(response);
    }
}

/// Puts fixed values where each run has its own.
pub fn normal(mut value: Value) -> Value {
    let shape = |value: &mut Value, key: &str, is: fn(&Value) -> bool, put: Value| {
        if let Some(found) = value.get_mut(key) {
            assert!(is(found), "{key}: {found}");
            *found = put;
        }
    };
    shape(&mut value, "id", Value::is_string, json!("ID"));
    shape(&mut value, "created", Value::is_u64, json!(0));
    shape(
        &mut value,
        "system_fingerprint",
        Value::is_string,
        json!("FP"),
    );
    value
}

/// A user's turn.
pub fn chat(text: &str) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": text}]})
}

/// The same with more fields.
pub fn chat_with(text: &str, more: Value) -> Value {
    with(chat(text), more)
}

pub fn with(mut body: Value, more: Value) -> Value {
    let map = body.as_object_mut().unwrap();
    map.extend(more.as_object().unwrap().clone());
    body
}
