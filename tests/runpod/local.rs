//! RunPod's client-side routes on the worker's own port.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chandler::runpod::local::{LocalOptions, Notice};
use serde_json::{Value, json};

use crate::http::worker::{Setup, Worker};

fn options() -> LocalOptions {
    LocalOptions {
        concurrency: 2,
        body_limit: 4 << 20,
        hook: None,
        waiting: Arc::default(),
    }
}

async fn local(mut setup: Setup) -> Worker {
    setup.local.get_or_insert_with(options);
    setup.start().await
}

/// An answer with status 200.
async fn good(response: reqwest::Response) -> Value {
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

async fn submit(worker: &Worker, input: Value) -> String {
    let body = good(worker.post("/run", json!({"input": input})).await).await;
    assert_eq!(body["status"], "IN_QUEUE");
    body["id"].as_str().unwrap().to_owned()
}

async fn ended(worker: &Worker, id: &str) -> Value {
    let begun = Instant::now();
    loop {
        let job = good(worker.get(&format!("/status/{id}")).await).await;
        if !["IN_QUEUE", "IN_PROGRESS"].contains(&job["status"].as_str().unwrap()) {
            return job;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{job}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const LONG: &str = "a b c d e f g h i j k l m n o p q r s t";

#[tokio::test]
async fn a_job_is_run_and_asked_for() {
    let worker = local(Setup::default()).await;
    let id = submit(
        &worker,
        json!({"prompt": "a", "sampling_params": {"max_tokens": 2}}),
    )
    .await;
    let job = ended(&worker, &id).await;
    assert_eq!(job["status"], "COMPLETED");
    assert_eq!(job["output"][0]["choices"][0]["tokens"], json!(["a a"]));
    assert!(
        job["delayTime"].is_u64() && job["executionTime"].is_u64() && job["workerId"].is_string()
    );
    assert_eq!(job["id"], id.as_str());

    let job = good(
        worker
            .post(
                "/v2/mine/runsync",
                json!({"input": {"text": "a", "max_tokens": 1}}),
            )
            .await,
    )
    .await;
    assert_eq!(
        (&job["status"], &job["output"]["text"]),
        (&json!("COMPLETED"), &json!("a"))
    );
    let again = good(
        worker
            .get(&format!("/v2/mine/status/{}", job["id"].as_str().unwrap()))
            .await,
    )
    .await;
    assert_eq!(again["output"], job["output"]);
}

#[tokio::test]
async fn a_job_that_cannot_be_done_has_failed() {
    let worker = local(Setup::default()).await;
    let job = good(
        worker
            .post("/runsync", json!({"input": {"task": "tts", "text": "a"}}))
            .await,
    )
    .await;
    assert_eq!(job["status"], "FAILED");
    assert!(
        job["error"].as_str().unwrap().contains("text-to-speech"),
        "{job}"
    );
    assert!(job.get("output").is_none());
}

#[tokio::test]
async fn a_stream_is_fetched_in_parts_and_each_part_once() {
    let worker = local(Setup::slow(5)).await;
    let id = submit(
        &worker,
        json!({"prompt": "a b c", "stream": true, "max_tokens": 12}),
    )
    .await;
    let mut text = String::new();
    let mut fetches = 0;
    loop {
        let part = good(worker.get(&format!("/stream/{id}")).await).await;
        let chunks = part["stream"].as_array().unwrap().clone();
        fetches += 1;
        for chunk in &chunks {
            text.push_str(chunk["output"]["text"].as_str().unwrap());
        }
        if part["status"] == "COMPLETED" && chunks.is_empty() {
            break;
        }
    }
    let input = json!({"prompt": "a b c", "max_tokens": 12});
    let whole = good(worker.post("/runsync", json!({"input": input})).await).await;
    assert_eq!(whole["output"]["text"], text);
    assert!(fetches > 2);
    assert_eq!(ended(&worker, &id).await["output"]["text"], text);
}

#[tokio::test]
async fn a_cancelled_job_stops_in_the_engine_and_a_queued_one_never_starts() {
    let worker = local(Setup::slow(20)).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(submit(&worker, json!({"prompt": LONG})).await);
    }
    worker.counts(|counters| counters.running == 2).await;
    let mut statuses = Vec::new();
    for id in &ids {
        statuses.push(good(worker.get(&format!("/status/{id}")).await).await["status"].clone());
    }
    assert_eq!(
        statuses,
        ["IN_PROGRESS", "IN_PROGRESS", "IN_QUEUE", "IN_QUEUE"]
    );
    // Those that wait for a slot are counted with those that wait in the engine.
    let health = good(worker.get("/health").await).await;
    assert_eq!(
        (&health["jobs"]["inProgress"], &health["jobs"]["inQueue"]),
        (&json!(2), &json!(2))
    );
    let purged = good(worker.post("/purge-queue", json!(null)).await).await;
    assert_eq!(purged, json!({"removed": 2, "status": "completed"}));
    for id in &ids[..2] {
        let answer = good(worker.post(&format!("/cancel/{id}"), json!(null)).await).await;
        assert_eq!(answer, json!({"id": id, "status": "CANCELLED"}));
    }
    worker.is_empty().await;
    assert_eq!(worker.engine.counters().cancelled, 2);
    for id in &ids {
        assert_eq!(ended(&worker, id).await["status"], "CANCELLED");
    }
    // What has ended another way is not changed by it.
    let id = submit(&worker, json!({"prompt": "a"})).await;
    ended(&worker, &id).await;
    let answer = good(worker.post(&format!("/cancel/{id}"), json!(null)).await).await;
    assert_eq!(answer["status"], "COMPLETED");
}

#[tokio::test]
async fn jobs_wait_for_a_model_that_loads() {
    let (loaded, loading) = std::sync::mpsc::channel();
    let worker = local(Setup {
        loading: Some(loading),
        ..Setup::default()
    })
    .await;
    let id = submit(&worker, json!({"prompt": "a"})).await;
    let job = good(
        worker
            .post("/runsync?wait=1000", json!({"input": {"prompt": "b"}}))
            .await,
    )
    .await;
    assert_eq!(job["status"], "IN_QUEUE");
    drop(loaded);
    assert_eq!(ended(&worker, &id).await["status"], "COMPLETED");
    let id = job["id"].as_str().unwrap();
    let job = good(
        worker
            .get(&format!("/v2/mine/status-sync/{id}?wait=20000"))
            .await,
    )
    .await;
    assert_eq!(job["status"], "COMPLETED");
}

#[tokio::test]
async fn a_job_over_its_time_is_ended() {
    let worker = local(Setup::slow(300)).await;
    let policy = json!({"executionTimeout": 5000});
    let body = json!({"input": {"prompt": LONG}, "policy": policy});
    let job = good(worker.post("/runsync", body).await).await;
    assert_eq!(job["status"], "TIMED_OUT");
    assert!(
        job["error"].as_str().unwrap().contains("executionTimeout"),
        "{job}"
    );
    worker.is_empty().await;
    assert_eq!(worker.engine.counters().cancelled, 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_submission_is_told() {
    let worker = local(Setup::default()).await;
    for (path, body, status, words) in [
        ("/run", json!({}), 400, "input is missing"),
        (
            "/run",
            json!({"input": 1, "policy": {"execution_timeout_ms": 1}}),
            400,
            "execution_timeout_ms",
        ),
        (
            "/run",
            json!({"input": 1, "webhook": "https://example.com"}),
            400,
            "webhook",
        ),
        ("/runsync?wait=5", json!({"input": 1}), 400, "wait must be"),
        ("/status/nobody", json!({}), 404, "nobody"),
        ("/stream/nobody", json!({}), 404, "nobody"),
        ("/cancel/nobody", json!({}), 404, "nobody"),
    ] {
        let (code, body) = worker.refusal(path, body).await;
        assert_eq!(code, status, "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
    }
    let options = LocalOptions {
        body_limit: 100,
        ..options()
    };
    let setup = Setup {
        local: Some(options),
        ..Setup::default()
    };
    let small = local(setup).await;
    let (code, body) = small
        .refusal("/run", json!({"input": "a".repeat(200)}))
        .await;
    assert_eq!(code, 413, "{body}");
}

#[tokio::test]
async fn keys_stand_before_these_routes_and_they_are_off_unless_asked_for() {
    let mut setup = Setup::default();
    setup.api.api_keys = vec!["secret".into()].into();
    let worker = local(setup).await;
    for path in [
        "/run",
        "/v2/mine/runsync",
        "/v2/mine/openai/v1/chat/completions",
    ] {
        assert_eq!(
            worker
                .post(path, json!({"input": {"prompt": "a"}}))
                .await
                .status(),
            401
        );
    }
    let request = worker
        .client
        .post(worker.url("/runsync"))
        .bearer_auth("secret");
    let job = good(
        request
            .json(&json!({"input": {"prompt": "a"}}))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(job["status"], "COMPLETED");
    let plain = Setup::default().start().await;
    assert_eq!(
        plain
            .post("/run", json!({"input": {"prompt": "a"}}))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn the_platforms_own_paths_lead_to_the_workers() {
    let worker = local(Setup::default()).await;
    let health = good(worker.get("/v2/mine/health").await).await;
    assert!(health["jobs"]["inQueue"].is_u64() && health["workers"]["ready"] == 1);
    let models = good(worker.get("/v2/mine/openai/v1/models").await).await;
    assert_eq!(models["data"][0]["id"], "chandler/mock");
    let body = json!({"messages": [{"role": "user", "content": "a"}], "stream": true});
    let events = worker
        .events("/v2/mine/openai/v1/chat/completions", body)
        .await;
    assert_eq!(events.last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn a_hook_is_told_when_a_job_with_a_webhook_has_ended() {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel::<Notice>();
    let options = LocalOptions {
        hook: Some(Arc::new(move |notice| drop(sender.send(notice)))),
        ..options()
    };
    let setup = Setup {
        local: Some(options),
        ..Setup::default()
    };
    let worker = local(setup).await;
    let body = json!({"input": {"prompt": "a"}, "webhook": "https://example.com/hook"});
    let job = good(worker.post("/runsync", body).await).await;
    let notice = told.recv().await.unwrap();
    assert_eq!(notice.url, "https://example.com/hook");
    assert_eq!(notice.body, job);
    good(
        worker
            .post("/runsync", json!({"input": {"prompt": "a"}}))
            .await,
    )
    .await;
    assert!(told.try_recv().is_err());
}

fn test_input(arguments: &[&str], directory: &std::path::Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(["serve", "--model", "mock"])
        .args(arguments)
        .current_dir(directory);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHANDLER_")) {
        command.env_remove(name);
    }
    let done = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        done.status.code().unwrap(),
        text(&done.stdout),
        text(&done.stderr),
    )
}

#[test]
fn one_job_from_the_command_line_prints_its_result() {
    let here = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| test_input(arguments, here.path());
    let (code, out, _) = run(&[
        "--test-input",
        r#"{"input": {"prompt": "a", "stream": true}}"#,
    ]);
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    let first = &result["output"][0]["choices"][0]["tokens"][0];
    assert!(first.as_str().unwrap().starts_with('a'), "{out}");
    let (code, out, _) = run(&["--test_input", r#"{"input": {"task": "tts"}}"#]);
    let result: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert!(
        result["error"].as_str().unwrap().contains("text-to-speech"),
        "{out}"
    );

    let (code, out, said) = run(&["--test-input"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(said.contains("test_input.json"), "{said}");
    std::fs::write(
        here.path().join("test_input.json"),
        r#"{"input": {"text": "b", "max_tokens": 1}}"#,
    )
    .unwrap();
    let (code, out, _) = run(&["--test-input"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(r#""text":"b""#), "{out}");
    let (code, _, said) = run(&["--test-input", "{}"]);
    assert_eq!(code, 1);
    assert!(said.contains("has no input"), "{said}");
}
