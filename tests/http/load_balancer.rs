//! RunPod's load balancer: `/ping` as it asks it, on the worker's port and on one of its own.

use chandler::api::{self, ApiSettings};
use chandler::engine::Status;
use serde_json::Value;
use tokio::net::TcpListener;

use super::worker::{Setup, Worker, chat, worker};

#[tokio::test]
async fn a_ping_is_204_while_loading_200_when_ready_and_503_at_the_end() {
    let (hold, loading) = std::sync::mpsc::channel();
    let mut setup = Setup {
        loading: Some(loading),
        ..Setup::default()
    };
    setup.api.api_keys = vec!["a-key".into()].into();
    let worker = setup.start().await;
    let initializing = worker.get("/ping").await;
    assert_eq!(initializing.status(), 204);
    assert_eq!(initializing.bytes().await.unwrap().len(), 0);
    drop(hold);
    let mut status = worker.engine.watch();
    status.wait_for(|s| *s == Status::Ready).await.unwrap();
    // Nobody asked for the key.
    assert_eq!(worker.get("/ping").await.status(), 200);
    worker.engine.drain();
    let draining = worker.get("/ping").await;
    assert_eq!(draining.status(), 503);
    let said: Value = draining.json().await.unwrap();
    assert!(["draining", "stopped"].contains(&said["status"].as_str().unwrap()));
}

#[tokio::test]
async fn a_model_that_failed_is_503() {
    let mut setup = Setup::default();
    setup.mock.poison = Some("poison".into());
    setup.mock.fault = chandler_core::mock::Fault::Fatal;
    let worker = setup.start().await;
    let refused = worker
        .post("/v1/chat/completions", chat("poison a b"))
        .await;
    assert!(refused.status().is_server_error());
    worker.engine.stopped().await;
    let failed = worker.get("/ping").await;
    assert_eq!(failed.status(), 503);
    assert_eq!(failed.json::<Value>().await.unwrap()["status"], "unhealthy");
}

#[tokio::test]
async fn the_endpoint_may_name_another_path_also_one_of_ours() {
    for path in ["/up/and running", "/health", "/ping"] {
        let (hold, loading) = std::sync::mpsc::channel();
        let mut setup = Setup {
            loading: Some(loading),
            ..Setup::default()
        };
        setup.api.ping_route = Some(path.replace(' ', "%20"));
        let worker = setup.start().await;
        let asked = path.replace(' ', "%20");
        assert_eq!(worker.get(&asked).await.status(), 204, "{path}");
        assert_eq!(worker.get("/ping").await.status(), 204);
        assert_eq!(worker.get("/isalive").await.status(), 503);
        drop(hold);
    }
}

/// The same engine's health on a port of its own.
async fn health_port(worker: &Worker) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = ApiSettings {
        api_keys: vec!["a-key".into()].into(),
        ..ApiSettings::default()
    };
    let stall = settings.write_stall;
    let router = api::health_router(settings, worker.engine.clone());
    tokio::spawn(api::serve(
        listener,
        router,
        stall,
        std::future::pending::<()>(),
    ));
    url
}

#[tokio::test]
async fn a_second_port_answers_health_and_nothing_else_to_the_very_end() {
    let worker = worker().await;
    let url = health_port(&worker).await;
    for path in ["/ping", "/isalive", "/livez", "/health"] {
        let answer = worker.client.get(format!("{url}{path}")).send().await;
        assert_eq!(answer.unwrap().status(), 200, "{path}");
    }
    for path in ["/v1/chat/completions", "/predict", "/metrics"] {
        let request = worker.client.post(format!("{url}{path}")).json(&chat("a"));
        assert_eq!(request.send().await.unwrap().status(), 404, "{path}");
    }
    let client = worker.client.clone();
    worker.stop().await;
    let answer = client.get(format!("{url}/ping")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
}
