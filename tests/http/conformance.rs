//! The conformance runs of `tests/conformance`, on the mock. `.ci/run` does the same against the release binary.
//! `CHANDLER_PYTHON=…/bin/python cargo test conformance -- --ignored` runs them here.

use std::process::Command;

use chandler::runpod::local::LocalOptions;

use super::worker::{Setup, Worker};

async fn run(worker: &Worker, script: &str, arguments: &[&str]) {
    let python = std::env::var("CHANDLER_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("{}/tests/conformance/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.arg(script).arg(worker.url("")).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the openai package"]
async fn the_official_client_is_content() {
    let mut setup = Setup::slow(1);
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    run(&worker, "openai_client.py", &["a-key"]).await;
    run(&worker, "openai_agents_client.py", &["a-key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the openai package"]
async fn the_official_client_is_content_with_speech() {
    let mut setup = Setup::hearing(1);
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    run(&worker, "openai_audio.py", &["a-key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the anthropic package"]
async fn anthropics_client_is_content() {
    let mut setup = Setup::slow(1);
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    run(&worker, "anthropic_client.py", &["a-key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python"]
async fn plain_http_clients_are_content() {
    let worker = Setup::slow(1).start().await;
    run(&worker, "http_client.py", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with google-cloud-aiplatform"]
async fn vertexs_clients_are_content() {
    let mut setup = Setup::slow(1);
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    run(&worker, "vertex_client.py", &["a-key"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python with the runpod and openai packages"]
async fn runpods_client_is_content_with_the_local_api() {
    for key in [None, Some("a-key")] {
        let mut setup = Setup::slow(1);
        setup.api.api_keys = key.map(Into::into).into_iter().collect::<Vec<_>>().into();
        setup.local = Some(LocalOptions {
            concurrency: 4,
            body_limit: 4 << 20,
            hook: None,
            waiting: Default::default(),
        });
        let worker = setup.start().await;
        run(&worker, "runpod_local_client.py", key.as_slice()).await;
    }
}
