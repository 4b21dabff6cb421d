//! Measuring servers of these files' own, whose delays and failures are known.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chandler_core::Task;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;

mod failures;
mod finding;
mod kinds;

/// Method, path with query, and body of every request.
type Seen = Arc<Mutex<Vec<(String, Value)>>>;

/// A server that answers by the number of the request among those to the same route, from 0.
async fn server(
    answer: impl Fn(String, usize) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static,
) -> (String, Seen) {
    let (seen, counts) = (
        Seen::default(),
        Arc::new(Mutex::new(std::collections::BTreeMap::new())),
    );
    let log = seen.clone();
    let handle = move |request: Request| {
        let (log, answer, counts) = (log.clone(), answer.clone(), counts.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let path = parts.uri.path_and_query().unwrap().to_string();
            let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            log.lock()
                .unwrap()
                .push((format!("{} {path}", parts.method), value));
            let number = {
                let mut counts = counts.lock().unwrap();
                let count = counts.entry(parts.uri.path().to_owned()).or_insert(0);
                *count += 1;
                *count - 1
            };
            answer(parts.uri.path().to_owned(), number).await
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
    (url, seen)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn options() -> Options {
    Options {
        max_tokens: 8,
        steps: None,
        size: None,
        submit: Submit::RunSync,
        timeout: Duration::from_secs(20),
        patient: false,
    }
}

fn asker(url: &str, kind: Kind, task: Task, options: Options) -> Arc<Asker> {
    asker_with(url, (kind, task), options, None)
}

fn asker_with(
    url: &str,
    (kind, task): (Kind, Task),
    options: Options,
    key: Option<&str>,
) -> Arc<Asker> {
    let endpoint = Endpoint {
        kind,
        base: Address::read(url).unwrap().base_of(kind),
        model: Some("m".into()),
        task,
    };
    let prompts = match task {
        Task::AutomaticSpeechRecognition => {
            let home = tempfile::tempdir().unwrap();
            std::fs::write(home.path().join("a.txt"), "hello").unwrap();
            std::fs::write(home.path().join("list"), "a.txt").unwrap();
            Prompts::read(&home.path().join("list"), task).unwrap()
        }
        task => Prompts::built_in(task).unwrap(),
    };
    let key = key.map(|key| Key::new(SecretString::from(key)));
    Arc::new(Asker::new(endpoint, &prompts, options, key).unwrap())
}

fn plan(concurrency: usize, requests: u64) -> Plan {
    Plan {
        concurrency,
        rate: None,
        requests: Some(requests),
        time: None,
    }
}

async fn measured(asker: &Arc<Asker>, plan: Plan) -> Run {
    let (_never, stop) = watch::channel(false);
    let tally = Arc::new(Tally::default());
    let figures = run(asker, plan, &tally, &stop).await;
    let run = figures.run(&plan);
    assert_eq!(tally.done.load(Ordering::Relaxed), run.requests);
    assert_eq!(tally.failed.load(Ordering::Relaxed), run.failed);
    run
}

/// A chat's stream: the first of `tokens` pieces after a time, the others after another each.
fn stream(first: Duration, gap: Duration, tokens: usize, end: &'static str) -> Response {
    let pieces = futures_util::stream::iter(0..tokens).then(move |number| async move {
        tokio::time::sleep(if number == 0 { first } else { gap }).await;
        let event = json!({"choices": [{"delta": {"content": "x"}}]});
        Ok::<_, std::io::Error>(Bytes::from(format!("data: {event}\n\n")))
    });
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}});
    let last = format!("data: {usage}\n\n{end}");
    let pieces = pieces.chain(futures_util::stream::once(
        async move { Ok(Bytes::from(last)) },
    ));
    let kind = [("content-type", "text/event-stream; charset=utf-8")];
    (kind, Body::from_stream(pieces)).into_response()
}

const DONE: &str = "data: [DONE]\n\n";

fn body(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

/// From a delay that is known to one that a busy machine may make of it.
#[track_caller]
fn about(milliseconds: f64, known: f64) {
    assert!(
        milliseconds >= known - 1.0 && milliseconds < known + 150.0,
        "{milliseconds} ms, where {known} were waited"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn known_delays_are_what_is_reported() {
    // Eight fast answers and two slow ones.
    let (url, seen) = server(|_, number| {
        let first = if number % 5 == 4 { ms(600) } else { ms(40) };
        Box::pin(async move { stream(first, ms(20), 4, DONE) })
    })
    .await;
    let asker = asker(&url, Kind::OpenAi, Task::TextGeneration, options());
    let run = measured(&asker, plan(1, 10)).await;
    assert_eq!((run.requests, run.succeeded, run.failed), (10, 10, 0));
    let (latency, first) = (run.latency_ms.unwrap(), run.ttft_ms.unwrap());
    about(first.p50, 40.0);
    about(first.p90, 600.0);
    about(first.mean, (8.0 * 40.0 + 2.0 * 600.0) / 10.0);
    about(latency.p50, 100.0);
    about(latency.p99, 660.0);
    about(run.inter_token_ms.unwrap().p50, 20.0);
    assert_eq!(
        (run.prompt_tokens, run.completion_tokens),
        (Some(30), Some(40))
    );
    let seconds = run.duration_s;
    assert!(seconds >= 8.0 * 0.1 + 2.0 * 0.66, "{seconds}");
    assert!((run.tokens_per_s.unwrap() - 40.0 / seconds).abs() < 0.1);
    assert!((run.requests_per_s - 10.0 / seconds).abs() < 0.1);
    let each = run.tokens_per_s_each.unwrap();
    assert!(each.p50 <= 4.0 / 0.1 && each.p50 > 4.0 / 0.3, "{each:?}");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 10);
    let (path, asked) = &seen[0];
    assert_eq!(path, "POST /v1/chat/completions");
    assert_eq!(
        (&asked["model"], &asked["max_tokens"]),
        (&json!("m"), &json!(8))
    );
    assert_eq!(
        asked["messages"][0]["content"],
        "What is the capital of France?"
    );
    assert_ne!(seen[1].1["messages"], asked["messages"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_are_under_way_as_were_asked_for() {
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let (url, _) = server(move |_, _| {
        let (busy, most) = (busy.clone(), most.clone());
        Box::pin(async move {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(ms(100)).await;
            busy.fetch_sub(1, Ordering::SeqCst);
            stream(ms(0), ms(0), 1, DONE)
        })
    })
    .await;
    let asker = asker(&url, Kind::OpenAi, Task::TextGeneration, options());
    let serial = measured(&asker, plan(1, 4)).await;
    assert_eq!(peak.swap(0, Ordering::SeqCst), 1);
    assert!(serial.duration_s >= 0.4, "{}", serial.duration_s);
    let parallel = measured(&asker, plan(4, 8)).await;
    assert_eq!(peak.swap(0, Ordering::SeqCst), 4);
    assert!(parallel.duration_s >= 0.2 && parallel.duration_s < serial.duration_s);
    assert_eq!((serial.concurrency, parallel.concurrency), (1, 4));

    // An open loop begins what is due, and what had to wait counts from then.
    let open = Plan {
        rate: Some(40.0),
        ..plan(100, 10)
    };
    let free = measured(&asker, open).await;
    assert_eq!(free.requests, 10);
    assert!(free.duration_s >= 9.0 / 40.0 + 0.1, "{}", free.duration_s);
    assert!(free.concurrency >= 2, "{}", free.concurrency);
    let narrow = Plan {
        concurrency: 1,
        ..open
    };
    let narrow = measured(&asker, narrow).await;
    assert_eq!(narrow.concurrency, 1);
    // The last was due after 225 ms and answered after ten times 100 ms.
    assert!(
        narrow.latency_ms.unwrap().p99 >= 774.0,
        "{:?}",
        narrow.latency_ms
    );
    let short = Plan {
        requests: None,
        time: Some(ms(250)),
        ..plan(1, 0)
    };
    let short = measured(&asker, short).await;
    assert!((1..=3).contains(&short.requests), "{}", short.requests);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_patient_wait_as_long_as_they_are_told() {
    let (url, seen) = server(|_, number| {
        Box::pin(async move {
            match number {
                0 | 1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response(),
                2 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response(),
                3 => stream(ms(0), ms(0), 1, DONE),
                _ => (StatusCode::TOO_MANY_REQUESTS, "for ever").into_response(),
            }
        })
    })
    .await;
    let patient = Options {
        patient: true,
        ..options()
    };
    let asker = asker(&url, Kind::OpenAi, Task::TextGeneration, patient);
    let run = measured(&asker, plan(1, 2)).await;
    assert_eq!(
        (run.succeeded, run.retries, run.errors["http 429"].count),
        (1, 3, 1)
    );
    about(run.latency_ms.unwrap().p50, 1200.0);
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_has_the_figures_so_far() {
    let (url, _) = server(|_, number| {
        Box::pin(async move {
            let wait = if number < 3 { 20 } else { 60_000 };
            stream(ms(wait), ms(0), 1, DONE)
        })
    })
    .await;
    let asker = asker(&url, Kind::OpenAi, Task::TextGeneration, options());
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        tokio::time::sleep(ms(600)).await;
        stop.send_replace(true);
        std::future::pending::<()>().await;
    });
    let began = Instant::now();
    let plan = plan(2, 100);
    let figures = run(&asker, plan, &Arc::default(), &stopping).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let run = figures.run(&plan);
    assert_eq!((run.requests, run.failed, run.interrupted), (3, 0, true));
    let mut report = Report::new(asker.endpoint(), "chandler bench".into(), "1");
    report.runs.push(run);
    assert!(report.benchmarks().is_empty());
}
