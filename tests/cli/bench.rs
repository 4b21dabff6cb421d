//! `chandler bench` against workers on the mocks and their local RunPod routes.

use std::path::Path;
use std::process::{Output, Stdio};

use chandler::runpod::local::LocalOptions;
use serde_json::Value;

use crate::http::worker::{Setup, Worker};

/// Runs the command with an environment that has nothing but these variables.
async fn bench(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .arg("bench")
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
    command.output().await.unwrap()
}

/// The report of a command that went well.
async fn report(arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--json"]].concat(), &[]).await;
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{complaints}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn file(home: &Path, name: &str, text: &str) -> String {
    let path = home.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Requests that a worker has done, which those of the warm-up are among.
fn completed(worker: &Worker) -> u64 {
    worker.engine.counters().completed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_measured_one_at_a_time_and_several() {
    let worker = Setup::slow(5).start().await;
    let url = worker.url("");
    let report = report(&[
        &url,
        "--requests",
        "6",
        "--concurrency",
        "1,3",
        "--warmup",
        "2",
    ])
    .await;
    assert_eq!(completed(&worker), 2 * (2 + 6));
    assert_eq!(
        (&report["endpoint_kind"], &report["task"]),
        (&"openai-chat".into(), &"text-generation".into())
    );
    assert_eq!(
        (&report["model"], &report["endpoint"]),
        (&"chandler/mock".into(), &url.as_str().into())
    );
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, concurrency) in runs.iter().zip([1, 3]) {
        assert_eq!(
            (&run["concurrency"], &run["requests"], &run["failed"]),
            (&concurrency.into(), &6.into(), &0.into())
        );
        let number = |place: &str| run.pointer(place).and_then(Value::as_f64).unwrap();
        let (first, whole) = (number("/ttft_ms/p50"), number("/latency_ms/p50"));
        assert!(first >= 4.0 && first < whole, "{run}");
        let tokens = number("/completion_tokens");
        assert!(tokens >= 12.0, "{run}");
        assert!(
            (number("/tokens_per_s") * number("/duration_s") - tokens).abs() < 1.0,
            "{run}"
        );
    }
    let output = bench(&[&url, "--requests", "4", "--concurrency", "1,2"], &[]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("1 at a time  2 at a time"), "{text}");
    assert!(text.contains("first token, ms: p50"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn speech_pictures_and_predictions_are_measured() {
    let home = tempfile::tempdir().unwrap();
    file(home.path(), "talk.wav", "hello there\nworld");
    let list = file(
        home.path(),
        "talks",
        "talk.wav\n{\"audio\": \"talk.wav\"}\n",
    );
    let hearing = Setup::hearing(1).start().await;
    for (path, kind) in [("", "openai-audio"), ("/predict", "predict")] {
        let report = report(&[&hearing.url(path), "--prompts", &list, "--requests", "4"]).await;
        assert_eq!(report["endpoint_kind"], kind);
        let run = &report["runs"][0];
        let seconds = run["audio_s_per_s"].as_f64().unwrap() * run["duration_s"].as_f64().unwrap();
        // A word of the mock's lasts half a second.
        assert!((seconds - 6.0).abs() < 0.1, "{run}");
    }
    let output = bench(&[&hearing.url("")], &[]).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("--prompts FILE"), "{said}");

    let drawing = Setup::drawing(1).start().await;
    for (path, kind) in [("", "openai-images"), ("/predict", "predict")] {
        let url = drawing.url(path);
        let report = report(&[&url, "--requests", "3", "--steps", "4", "--size", "64x64"]).await;
        assert_eq!(report["endpoint_kind"], kind);
        let run = &report["runs"][0];
        let steps = run["steps_per_s"].as_f64().unwrap() * run["duration_s"].as_f64().unwrap();
        assert!((steps - 12.0).abs() < 0.2, "{run}");
    }
    let writing = Setup::default().start().await;
    let report = report(&[&writing.url("/predict"), "--requests", "3"]).await;
    assert!(
        report["runs"][0]["completion_tokens"].as_u64().unwrap() > 0,
        "{report}"
    );
    assert!(report["runs"][0].get("ttft_ms").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_measured_with_the_times_that_are_reported() {
    let setup = Setup {
        local: Some(LocalOptions {
            concurrency: 2,
            body_limit: 4 << 20,
            hook: None,
            waiting: Default::default(),
        }),
        ..Setup::slow(5)
    };
    let worker = setup.start().await;
    for submit in ["runsync", "run"] {
        let url = worker.url("/v2/abc");
        let report = report(&[
            &url,
            "--requests",
            "4",
            "--concurrency",
            "2",
            "--submit",
            submit,
        ])
        .await;
        assert_eq!(
            (&report["endpoint_kind"], &report["task"]),
            (&"runpod".into(), &"text-generation".into())
        );
        let run = &report["runs"][0];
        assert_eq!(
            (&run["requests"], &run["failed"]),
            (&4.into(), &0.into()),
            "{run}"
        );
        let number = |place: &str| run.pointer(place).and_then(Value::as_f64).unwrap();
        assert!(
            number("/execution_ms/p50") >= 5.0 && number("/delay_ms/p50") >= 0.0,
            "{run}"
        );
        assert!(number("/completion_tokens") > 0.0, "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_kept_with_a_template_and_errors_end_with_a_code() {
    let mut setup = Setup::default();
    setup.api.model_id = "mock".into();
    let worker = setup.start().await;
    let home = tempfile::tempdir().unwrap();
    let mine = home.path().join("mine.toml").display().to_string();
    let url = worker.url("");
    let record = [
        "--requests",
        "2",
        "--record",
        "demo-here",
        "--models-file",
        &mine,
    ];
    let output = bench(&[&[url.as_str()], &record[..]].concat(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("--hardware"),
        "{said}"
    );
    for more in [&["--hardware", "cpu"][..], &["--concurrency", "1,2"]] {
        let output = bench(&[&[url.as_str()], &record[..], more].concat(), &[]).await;
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = std::fs::read_to_string(&mine).unwrap();
    let read: toml::Value = toml::from_str(&text).unwrap();
    let template = &read["template"][0];
    assert_eq!(template["model"].as_str(), Some("mock"));
    let results: Vec<chandler::catalog::Benchmark> =
        template["benchmark"].clone().try_into().unwrap();
    let concurrency: Vec<u64> = results.iter().map(|result| result.concurrency).collect();
    assert_eq!(concurrency, [1, 1, 2]);
    for result in &results {
        result.check().unwrap();
        assert!(
            result
                .command
                .starts_with("chandler bench http://127.0.0.1"),
            "{}",
            result.command
        );
    }

    worker.engine.drain();
    worker.engine.stopped().await;
    let asked = [
        &url,
        "--task",
        "text",
        "--model",
        "mock",
        "--requests",
        "3",
        "--warmup",
        "0",
        "--json",
    ];
    let output = bench(&asked, &[("CHANDLER_BENCH_KEY", "hush-hush")]).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &report["runs"][0];
    assert_eq!((&run["failed"], &run["succeeded"]), (&3.into(), &0.into()));
    assert_eq!(run["errors"]["http 503"]["count"], 3, "{run}");
    assert!(run["latency_ms"].is_null());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hush-hush"));
    assert_eq!(bench(&["sd-turbo"], &[]).await.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_ends_a_run_with_the_figures_so_far() {
    let worker = Setup::slow(20).start().await;
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_chandler"))
        .args(["bench", &worker.url(""), "--requests", "100000", "--json"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    worker.counts(|counters| counters.completed >= 3).await;
    let id = rustix::process::Pid::from_raw(child.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &report["runs"][0];
    assert_eq!(
        (&run["interrupted"], &run["failed"]),
        (&true.into(), &0.into())
    );
    assert!(run["succeeded"].as_u64().unwrap() >= 1, "{run}");
    worker.is_empty().await;
}
