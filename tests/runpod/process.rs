//! The program itself as a queue worker, chosen by nothing but the environment.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use runpod_platform::{Options, Platform, Status};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::worker::SOON;

fn serve(platform: &Platform) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args([
            "serve",
            "--model",
            "mock",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ])
        .env_clear()
        .envs(platform.environment("w1"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().unwrap()
}

#[tokio::test]
async fn the_environment_alone_makes_a_queue_worker_that_does_jobs_and_ends_in_order() {
    let platform = Platform::start(Options::default()).await.unwrap();
    let begun = SystemTime::now();
    let mut child = serve(&platform);
    let id = platform.submit(json!({"prompt": "wax wick", "sampling_params": {"max_tokens": 4}}));
    let job = platform.ended(&id, SOON).await.unwrap();
    assert_eq!(job.status, Status::Completed, "{}", job.view);
    let first = platform.workers()["w1"].first_take.unwrap();
    let took = first.duration_since(begun).unwrap();
    assert!(took < Duration::from_secs(3), "{took:?} to the first take"); // the SDK: 1.4 s; this is a debug build on a busy machine

    let ended = Instant::now();
    let pid = child.id().unwrap().to_string();
    let killed = Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await
        .unwrap();
    assert!(killed.success());
    let status = tokio::time::timeout(SOON, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        ended.elapsed() < Duration::from_secs(4),
        "{:?}",
        ended.elapsed()
    );
    assert_eq!(platform.account().violations, []);

    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut of_the_job = 0;
    while let Some(line) = lines.next_line().await.unwrap() {
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.as_object().unwrap().len(), 3, "{line}");
        assert!(
            line["message"].is_string() && line["level"].is_string(),
            "{line}"
        );
        of_the_job += usize::from(line["requestId"] == id);
    }
    assert!(of_the_job > 0);
}

#[tokio::test]
async fn a_variable_that_makes_no_sense_is_named() {
    let platform = Platform::start(Options::default()).await.unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(["serve", "--model", "mock", "--port", "0"])
        .env_clear()
        .envs(platform.environment("w1"))
        .env("RUNPOD_PING_INTERVAL", "soon");
    let output = tokio::time::timeout(SOON, command.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("RUNPOD_PING_INTERVAL is `soon`"), "{said}");
}
