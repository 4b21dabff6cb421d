//! Cloud Run's contract, on the whole program where only that can show it: PORT, HTTP/2 without TLS, an end within 10 seconds
//! of SIGTERM, and log lines that Cloud Logging reads.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::worker::{Setup, chat, chat_with, worker};

#[tokio::test]
async fn http2_without_tls_is_spoken_on_the_same_port() {
    let worker = worker().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let url = worker.url("/v1/chat/completions");
    let ask = |body: Value| client.post(&url).json(&body).send();
    let whole = ask(chat("a")).await.unwrap();
    assert_eq!(
        (whole.status().as_u16(), whole.version()),
        (200, reqwest::Version::HTTP_2)
    );
    let stream = ask(chat_with("a", json!({"stream": true}))).await.unwrap();
    assert_eq!(stream.version(), reqwest::Version::HTTP_2);
    assert!(stream.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    // Many at once on one connection.
    let all = futures_util::future::join_all((0..32).map(|_| ask(chat("a b")))).await;
    assert!(
        all.into_iter()
            .all(|answer| answer.unwrap().status() == 200)
    );
    // The other protocol is not lost by it.
    assert_eq!(
        worker.get("/isalive").await.version(),
        reqwest::Version::HTTP_11
    );
}

#[tokio::test]
async fn http2_knows_named_routes_limits_and_who_leaves() {
    let mut setup = Setup::slow(20);
    setup.api.health_route = Some("/v1/endpoints/1".into());
    setup.api.body_limit = 1000;
    let worker = setup.start().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let named = client.get(worker.url("/v1/endpoints/1")).send().await;
    assert_eq!(named.unwrap().status(), 200);
    let big = client
        .post(worker.url("/invoke/predict"))
        .body("a".repeat(2000));
    assert_eq!(big.send().await.unwrap().status(), 413);
    let request = client
        .post(worker.url("/v1/chat/completions"))
        .json(&chat("a b"));
    let leaves = tokio::spawn(request.send());
    worker.counts(|c| c.running == 1).await;
    leaves.abort();
    worker.counts(|c| c.cancelled == 1 && c.running == 0).await;
}

/// A running program, killed when the test ends early.
struct Program {
    child: Child,
    port: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(variables: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
        command
            .args(["serve", "--model", "mock"])
            .env_clear()
            .env("PORT", port.to_string())
            .envs(variables.iter().copied())
            .stderr(Stdio::piped());
        Self {
            child: command.spawn().unwrap(),
            port,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn ready(&self, path: &str) {
        let begun = Instant::now();
        let client = reqwest::Client::new();
        loop {
            let answer = client.get(self.url(path)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn terminate(&self) {
        let killed = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
    }

    /// The exit code and the log's lines, waited for off the async threads.
    async fn ended(mut self) -> (Option<i32>, Vec<Value>) {
        let wait = move || {
            let code = self.child.wait().unwrap().code();
            let mut log = String::new();
            let mut pipe = self.child.stderr.take().unwrap();
            pipe.read_to_string(&mut log).unwrap();
            let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
            (code, lines.collect())
        };
        tokio::task::spawn_blocking(wait).await.unwrap()
    }
}

#[tokio::test]
async fn sigterm_ends_the_program_within_cloud_runs_ten_seconds_whatever_still_runs() {
    let program = Program::start(&[("K_SERVICE", "worker")]);
    program.ready("/isalive").await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request = reqwest::Client::new()
        .post(program.url("/v1/chat/completions"))
        .header("x-cloud-trace-context", format!("{trace}/1;o=1"));
    assert_eq!(request.json(&chat("a")).send().await.unwrap().status(), 200);
    // A body that never comes to its end: a request that outlives every grace.
    let mut stuck = TcpStream::connect(("127.0.0.1", program.port))
        .await
        .unwrap();
    let head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{";
    stuck.write_all(head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    program.terminate();
    let begun = Instant::now();
    let (code, lines) = program.ended().await;
    let took = begun.elapsed();
    assert_eq!(code, Some(0));
    assert!(
        (Duration::from_secs(7)..Duration::from_millis(9800)).contains(&took),
        "{took:?}"
    );
    let line = |message: &str| {
        let found = lines.iter().find(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("no {message:?} in {lines:#?}"))
    };
    assert_eq!(line("draining")["grace_s"], 8.0);
    assert_eq!(line("platform recognised")["platform"], "Cloud Run");
    let served = line("request");
    assert_eq!(
        (&served["severity"], &served["logging.googleapis.com/trace"]),
        (&json!("INFO"), &json!(trace))
    );
    assert_eq!(served["logging.googleapis.com/spanId"], "0000000000000001");
    let cut = line("the grace is over; what still ran was cut off");
    assert_eq!(cut["severity"], "WARNING");
    assert!(lines.iter().all(|line| line["time"].is_string()));
}

#[tokio::test]
async fn vertex_names_port_and_routes_and_an_idle_worker_ends_at_once() {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let mut program = Program::start(&[
        ("AIP_MODE", "PREDICTION"),
        ("AIP_HTTP_PORT", &port.to_string()),
        ("AIP_HEALTH_ROUTE", "/v1/endpoints/1/deployedModels/2"),
        (
            "AIP_PREDICT_ROUTE",
            "/v1/endpoints/1/deployedModels/2:predict",
        ),
        ("AIP_STORAGE_URI", ""),
    ]);
    program.port = port;
    program.ready("/v1/endpoints/1/deployedModels/2").await;
    let request = reqwest::Client::new()
        .post(program.url("/v1/endpoints/1/deployedModels/2:predict"))
        .json(&json!({"instances": ["a"], "parameters": {"max_tokens": 1.0}}));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["predictions"][0]["text"], "a");
    program.terminate();
    let begun = Instant::now();
    let (code, lines) = program.ended().await;
    assert_eq!(code, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert!(lines.iter().all(|line| line["severity"].is_string()));
}

#[tokio::test]
async fn runpods_load_balancer_has_its_two_ports() {
    let probe = TcpListener::bind("127.0.0.1:0").unwrap();
    let health = probe.local_addr().unwrap().port();
    drop(probe);
    let mut program = Program::start(&[
        ("PORT_HEALTH", &health.to_string()),
        ("HEALTH_CHECK_PATH", "/up"),
        ("API_KEY", "a-key"),
    ]);
    let port = program.port;
    program.port = health;
    program.ready("/up").await;
    program.ready("/ping").await;
    program.port = port;
    program.ready("/up").await;
    let refused = reqwest::Client::new()
        .post(program.url("/predict"))
        .json(&chat("a"));
    assert_eq!(refused.send().await.unwrap().status(), 401);
    program.terminate();
    assert_eq!(program.ended().await.0, Some(0));
}

#[test]
fn vertex_artifacts_that_cannot_be_kept_are_an_error_that_says_what_to_do() {
    let done = Command::new(env!("CARGO_BIN_EXE_chandler"))
        .args(["serve", "--port", "0"])
        .env_clear()
        .envs([
            ("AIP_MODE", "PREDICTION"),
            ("AIP_STORAGE_URI", "gs://bucket/model"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    // A build without pipelines can serve no such model anywhere.
    let (code, remedy) = match cfg!(feature = "text") {
        true => (1, "--hub-cache"),
        false => (2, "feature `text`"),
    };
    assert_eq!(done.status.code(), Some(code), "{said}");
    assert!(
        said.contains("gs://bucket/model") && said.contains(remedy),
        "{said}"
    );
}
