//! Measuring servers of this file's own, whose delays and failures are known.

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
async fn every_failure_is_counted_as_what_it_is_and_none_as_an_answer() {
    let (url, _) = server(|_, number| {
        Box::pin(async move {
            match number {
                0 => (
                    StatusCode::TOO_MANY_REQUESTS,
                    [("retry-after", "1")],
                    "slow down",
                )
                    .into_response(),
                1 => body(
                    500,
                    json!({"error": {"message": "the device is gone: hush"}}),
                ),
                2 => body(200, json!({"error": "no workers available"})),
                3 => stream(ms(0), ms(0), 3, ""),
                4 => stream(
                    ms(0),
                    ms(0),
                    1,
                    "data: {\"error\":{\"message\":\"out of memory\"}}\n\ndata: [DONE]\n\n",
                ),
                5 => (StatusCode::OK, "<html>welcome</html>").into_response(),
                6 => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    body(200, json!({}))
                }
                7 => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
                8 => body(200, json!({"choices": []})),
                _ => {
                    tokio::time::sleep(ms(100)).await;
                    stream(ms(0), ms(0), 1, DONE)
                }
            }
        })
    })
    .await;
    let quick = Options {
        timeout: ms(700),
        ..options()
    };
    let what = (Kind::OpenAi, Task::TextGeneration);
    let asker = asker_with(&url, what, quick, Some("hush"));
    let run = measured(&asker, plan(1, 11)).await;
    assert_eq!((run.requests, run.succeeded, run.failed), (11, 2, 9));
    let counted: Vec<(&str, u64)> = run
        .errors
        .iter()
        .map(|(kind, trouble)| (kind.as_str(), trouble.count))
        .collect();
    assert_eq!(
        counted,
        [
            ("broken off", 1),
            ("error in answer", 2),
            ("http 302", 1),
            ("http 429", 1),
            ("http 500", 1),
            ("malformed answer", 2),
            ("timeout", 1),
        ]
    );
    assert_eq!(
        run.errors["error in answer"].example,
        "no workers available"
    );
    assert_eq!(
        run.errors["http 500"].example,
        "the device is gone: ********"
    );
    // The fast failures are in no figure of answers.
    about(run.latency_ms.unwrap().p50, 100.0);
    assert_eq!(run.completion_tokens, Some(2));

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let asker = asker_with(&nobody, what, options(), None);
    let run = measured(&asker, plan(1, 2)).await;
    assert_eq!((run.errors["connection"].count, run.succeeded), (2, 0));
    assert!(run.latency_ms.is_none());
    let mut report = Report::new(asker.endpoint(), "chandler bench".into(), "1");
    report.runs.push(run);
    assert!(report.benchmarks().is_empty());
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

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_each_kind_are_counted() {
    let (url, seen) = server(|path, _| {
        let answer = match path.as_str() {
            "/v1/audio/transcriptions" => json!({"text": "hello", "duration": 2.5}),
            "/v1/images/generations" => json!({"data": [{"b64_json": "x"}]}),
            "/predict" => json!({"predictions": [{"images": ["x"], "steps": 7, "text": "a",
                "usage": {"prompt_tokens": 2, "completion_tokens": 5}}]}),
            _ => json!({"data": []}),
        };
        Box::pin(async move { body(200, answer) })
    })
    .await;
    let drawing = || Options {
        steps: Some(4),
        size: Some((64, 32)),
        ..options()
    };
    let of = |kind, task| asker(&url, kind, task, drawing());
    let run = measured(
        &of(Kind::OpenAi, Task::AutomaticSpeechRecognition),
        plan(1, 2),
    )
    .await;
    let heard = run.audio_s_per_s.unwrap() * run.duration_s;
    assert!((4.9..5.1).contains(&heard), "{heard}");
    assert_eq!((run.steps_per_s, run.ttft_ms), (None, None));
    let run = measured(&of(Kind::OpenAi, Task::TextToImage), plan(1, 2)).await;
    let steps = run.steps_per_s.unwrap() * run.duration_s;
    assert!((7.9..8.1).contains(&steps), "{steps}");
    // The endpoint's own word for its steps is worth more than what was asked for.
    let run = measured(&of(Kind::Predict, Task::TextToImage), plan(1, 2)).await;
    let steps = run.steps_per_s.unwrap() * run.duration_s;
    assert!((13.9..14.1).contains(&steps), "{steps}");
    let run = measured(&of(Kind::Predict, Task::TextGeneration), plan(1, 2)).await;
    assert_eq!(
        (run.prompt_tokens, run.completion_tokens),
        (Some(4), Some(10))
    );
    assert_eq!(run.steps_per_s, None);
    let seen = seen.lock().unwrap();
    let asked = |path: &str| {
        seen.iter()
            .find(|(line, _)| line.ends_with(path))
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(asked("/images/generations")["size"], "64x32");
    assert_eq!(asked("/images/generations")["steps"], 4);
    let instance = &asked("/predict")["instances"][0];
    assert_eq!(
        (&instance["width"], &instance["num_inference_steps"]),
        (&json!(64), &json!(4))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_waited_for_and_those_that_are_given_up_are_cancelled() {
    let (url, seen) = server(|path, number| {
        let last = path.rsplit('/').next().unwrap_or_default().to_owned();
        let name = ["a", "b", "c"][number % 3];
        let answer = match last.as_str() {
            "runsync" if number == 0 => {
                json!({"id": "a", "status": "COMPLETED", "delayTime": 30, "executionTime": 70,
                "output": [{"choices": [{"tokens": ["x"]}], "usage": {"input": 2, "output": 6}}]})
            }
            "runsync" if number == 3 => {
                json!({"id": "d", "status": "COMPLETED", "output": {"error": "too long"}})
            }
            "runsync" => json!({"id": name, "status": "IN_QUEUE"}),
            "b" if number == 1 => json!({"id": "b", "status": "IN_PROGRESS", "delayTime": 5}),
            "b" => json!({"id": "b", "status": "FAILED", "error": "out of memory"}),
            "c" => json!({"id": "c", "status": "IN_PROGRESS"}),
            _ => json!({"id": "c", "status": "CANCELLED"}),
        };
        // One look that fails says nothing of the job.
        let status = if last == "b" && number == 0 { 503 } else { 200 };
        Box::pin(async move { body(status, answer) })
    })
    .await;
    let quick = Options {
        timeout: ms(2000),
        ..options()
    };
    let endpoint = format!("{url}/v2/abc");
    let asker = asker(&endpoint, Kind::RunPod, Task::TextGeneration, quick);
    let run = measured(&asker, plan(1, 4)).await;
    let labels: Vec<&str> = run.errors.keys().map(String::as_str).collect();
    assert_eq!(labels, ["error in answer", "job FAILED", "timeout"]);
    assert_eq!(run.errors["job FAILED"].example, "out of memory");
    assert_eq!((run.succeeded, run.completion_tokens), (1, Some(6)));
    assert_eq!(run.delay_ms.unwrap().p50, 30.0);
    assert_eq!(run.execution_ms.unwrap().p50, 70.0);
    let seen = seen.lock().unwrap();
    let (first, asked) = &seen[0];
    assert_eq!(first, "POST /v2/abc/runsync?wait=2000");
    assert_eq!(
        asked["policy"],
        json!({"executionTimeout": 5000, "ttl": 10_000})
    );
    assert_eq!(asked["input"]["sampling_params"]["max_tokens"], 8);
    let cancelled: Vec<&str> = seen
        .iter()
        .filter_map(|(line, _)| line.strip_prefix("POST /v2/abc/cancel/"))
        .collect();
    assert_eq!(cancelled, ["c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_is_comes_from_itself_or_is_asked_for_by_name() {
    let found = |models: Value, health: Value, wish: Wish, path: &'static str| async move {
        let (url, _) = server(move |path, _| {
            let (models, health) = (models.clone(), health.clone());
            Box::pin(async move {
                match path.as_str() {
                    "/v1/models" => body(if models.is_null() { 404 } else { 200 }, models),
                    "/health" => body(503, health),
                    _ => body(404, Value::Null),
                }
            })
        })
        .await;
        let address = Address::read(&format!("{url}{path}")).unwrap();
        find(&address, wish, None)
            .await
            .map_err(|error| error.to_string())
    };
    let list = |models: Value| json!({"object": "list", "data": models});
    let own = list(
        json!([{"id": "demo", "task": "text-generation"}, {"id": "sql", "parent": "demo", "task": "text-generation"}]),
    );
    let endpoint = found(own.clone(), json!({}), Wish::default(), "")
        .await
        .unwrap();
    assert_eq!(
        (endpoint.kind, endpoint.task),
        (Kind::OpenAi, Task::TextGeneration)
    );
    assert_eq!(endpoint.model.as_deref(), Some("demo"));
    assert_eq!(
        (endpoint.base.path(), endpoint.kind_name()),
        ("/v1", "openai-chat")
    );

    let health = json!({"status": "healthy", "model": "asr", "task": "automatic-speech-recognition", "jobs": {}, "workers": {}});
    let endpoint = found(Value::Null, health.clone(), Wish::default(), "")
        .await
        .unwrap();
    assert_eq!(
        (endpoint.kind, endpoint.kind_name()),
        (Kind::RunPod, "runpod")
    );
    let endpoint = found(Value::Null, health, Wish::default(), "/predict")
        .await
        .unwrap();
    assert_eq!(
        (endpoint.kind, endpoint.task),
        (Kind::Predict, Task::AutomaticSpeechRecognition)
    );

    let said = |result: Result<Endpoint, String>| result.unwrap_err();
    let several = list(json!([{"id": "a"}, {"id": "b"}]));
    let error = said(found(several.clone(), json!({}), Wish::default(), "").await);
    assert!(
        error.contains("serves 2 models (a, b") && error.contains("--model"),
        "{error}"
    );
    let named = Wish {
        model: Some("b".into()),
        ..Wish::default()
    };
    let error = said(found(several, json!({}), named, "").await);
    assert!(error.contains("--task text-generation"), "{error}");
    let loading = json!({"status": "loading", "stage": "reading weights"});
    let quiet = list(json!([{"id": "a", "task": null}]));
    let error = said(found(quiet, loading, Wish::default(), "").await);
    assert!(error.contains("still loading (reading weights)"), "{error}");
    let error = said(found(Value::Null, json!({}), Wish::default(), "").await);
    assert!(error.contains("--kind openai"), "{error}");
    let embeds = list(json!([{"id": "e", "task": "feature-extraction"}]));
    let error = said(found(embeds, json!({}), Wish::default(), "").await);
    assert!(
        error.contains("feature-extraction; bench measures"),
        "{error}"
    );
}
