//! The served model under mixed load: long prompts beside chats, all streamed through HTTP from a worker of its own.
//! `cargo bench --bench http_load -- MODEL [--clients N] [--requests N]` prints requests and tokens per second, and how
//! long clients waited for their first token (p50, p99). Apart from `generation`, which knows no HTTP and no queue, and from
//! `chandler bench`, which asks any endpoint in words: here prompts are token ids of known number that no cache has, answers
//! have a length of their own (`ignore_eos`), and the waits of the long and of the short are told apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // Why: a benchmark may stop at the first surprise.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;

/// One request in so many has the long prompt.
const LONG_EVERY: usize = 4;
const CHAT: Shape = Shape {
    prompt: 32,
    answer: 48,
};
const LONG: Shape = Shape {
    prompt: 1000,
    answer: 16,
};

/// Tokens that a request has read, and wants written.
#[derive(Clone, Copy)]
struct Shape {
    prompt: usize,
    answer: usize,
}

/// What became of a request.
struct Outcome {
    is_long: bool,
    first_token: Duration,
    tokens: usize,
}

struct Arguments {
    model: String,
    clients: usize,
    requests: usize,
}

/// The worker, ended with the benchmark whatever happens to it.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let Some(arguments) = arguments() else {
        println!("usage: cargo bench --bench http_load -- MODEL [--clients N] [--requests N]");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(load(arguments));
}

/// `cargo bench` adds `--bench`; without a model there is nothing to do.
fn arguments() -> Option<Arguments> {
    let mut given = Arguments {
        model: String::new(),
        clients: 16,
        requests: 128,
    };
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).expect("a number");
        match word.as_str() {
            "--clients" => given.clients = number(),
            "--requests" => given.requests = number(),
            _ => given.model = word,
        }
    }
    (!given.model.is_empty()).then_some(given)
}

async fn load(arguments: Arguments) {
    let port = free_port();
    let _worker = start(&arguments.model, port);
    let client = reqwest::Client::new();
    let base = format!("http://127.0.0.1:{port}");
    let context = wait_until_alive(&client, &base).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let clients: Vec<_> = (0..arguments.clients)
        .map(|_| {
            let (client, base, taken) = (client.clone(), base.clone(), Arc::clone(&taken));
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                loop {
                    let number = taken.fetch_add(1, Ordering::Relaxed);
                    if number >= arguments.requests {
                        return outcomes;
                    }
                    outcomes.push(ask(&client, &base, number, context).await);
                }
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.extend(client.await.unwrap());
    }
    report(&arguments, &outcomes, started.elapsed());
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn start(model: &str, port: u16) -> Worker {
    let child = Command::new(env!("CARGO_BIN_EXE_chandler"))
        .args(["serve", "--model", model, "--host", "127.0.0.1", "--port"])
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Worker(child.unwrap())
}

/// Tokens of context, once the model serves.
async fn wait_until_alive(client: &reqwest::Client, base: &str) -> usize {
    for _ in 0..1200 {
        let answer = client.get(format!("{base}/isalive")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            let models = client.get(format!("{base}/v1/models")).send().await;
            let models: serde_json::Value = models.unwrap().json().await.unwrap();
            let length = models["data"][0]["max_model_len"].as_u64();
            return length.expect("max_model_len in /v1/models") as usize;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the worker did not come to life within two minutes");
}

/// One streamed request; its prompt is like no other's, so that nothing of it is in the cache.
async fn ask(client: &reqwest::Client, base: &str, number: usize, context: usize) -> Outcome {
    let is_long = number % LONG_EVERY == LONG_EVERY - 1;
    let shape = if is_long { LONG } else { CHAT };
    let prompt = shape.prompt.min(context / 2);
    let answer = shape.answer.min(context / 4);
    let tokens: Vec<usize> = (0..prompt)
        .map(|i| 3 + (i * 7919 + number * 104_729) % 200)
        .collect();
    let body = json!({
        "model": "default", "prompt": tokens, "max_tokens": answer, "temperature": 0, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let sent = Instant::now();
    let reply = client
        .post(format!("{base}/v1/completions"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert!(
        reply.status().is_success(),
        "{}",
        reply.text().await.unwrap()
    );
    let mut stream = reply.bytes_stream();
    let (mut first_token, mut text) = (None, Vec::new());
    while let Some(bytes) = stream.next().await {
        first_token.get_or_insert_with(|| sent.elapsed());
        text.extend_from_slice(&bytes.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    let usage = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .find_map(|chunk| chunk["usage"]["completion_tokens"].as_u64());
    assert_eq!(usage, Some(answer as u64), "{text}");
    Outcome {
        is_long,
        first_token: first_token.unwrap(),
        tokens: answer,
    }
}

fn report(arguments: &Arguments, outcomes: &[Outcome], took: Duration) {
    let seconds = took.as_secs_f64();
    let tokens: usize = outcomes.iter().map(|outcome| outcome.tokens).sum();
    let waits = |is_long: bool| {
        let mut waits: Vec<f64> = outcomes
            .iter()
            .filter(|outcome| outcome.is_long == is_long)
            .map(|outcome| outcome.first_token.as_secs_f64())
            .collect();
        waits.sort_by(f64::total_cmp);
        let at = |part: f64| waits.get(((waits.len() as f64 - 1.0) * part).round() as usize);
        json!({"requests": waits.len(), "first_token_seconds_p50": at(0.5), "first_token_seconds_p99": at(0.99)})
    };
    let result = json!({
        "clients": arguments.clients, "requests": outcomes.len(), "seconds": seconds,
        "requests_per_second": outcomes.len() as f64 / seconds, "tokens_per_second": tokens as f64 / seconds,
        "chats": waits(false), "long_prompts": waits(true),
    });
    println!("{result}");
}
