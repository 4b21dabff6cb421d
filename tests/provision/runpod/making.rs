//! From nothing to a prediction, and what a second run does.

use std::sync::Arc;
use std::time::Duration;

use chandler::provision::runpod::Options;
use chandler::provision::{Name, Phase, Platform as _};
use cloud_doubles::{Fault, When};
use serde_json::{Value, json};

use super::*;
use crate::provision::command::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_becomes_an_endpoint_that_predicts_and_goes_again() {
    let world = World::new().await;
    let worker = world.worker_when(|_| true);
    let made = world.well(&["--wait", "--start-timeout", "60s", "--set", "dtype=f32"]);
    let _worker = worker.await.unwrap();
    let told = text(&made);
    let url = world.queue.url();
    for said in [
        url.as_str(),
        "/runsync -H \"Authorization: Bearer $RUNPOD_API_KEY\"",
        "chandler endpoints delete chandler-mock",
    ] {
        assert!(told.contains(said), "{said} is not in {told}");
    }
    let [create] = world.changes(0).try_into().unwrap();
    assert_eq!(create.path, "/v2/serverless");
    let body = create.json();
    for (field, value) in [
        ("name", json!("chandler-mock")),
        ("type", json!("QUEUE")),
        ("image", json!("registry.example/chandler:cpu")),
        ("cpu", json!([{"id": "cpu5c", "vcpuCount": 4}])),
        ("workers", json!({"min": 0, "max": 1, "idleTimeout": 60})),
        ("scaling", json!({"type": "QUEUE_DELAY", "queueDelay": 4.0})),
        ("flashboot", json!("FLASHBOOT")),
        ("timeout", json!(300_000)),
    ] {
        assert_eq!(body[field], value, "{field}");
    }
    for (variable, value) in [
        ("CHANDLER_MODEL", "mock"),
        ("CHANDLER_DTYPE", "f32"),
        ("CHANDLER_DEPLOYMENT", "chandler-mock"),
        ("RUNPOD_INIT_TIMEOUT", "60"),
    ] {
        assert_eq!(body["env"][variable], value, "{variable}");
    }
    the_second_run(&world);
    let scale = [
        "endpoints",
        "scale",
        "chandler-mock",
        "--min",
        "1",
        "--max",
        "3",
    ];
    world.machine.well(&scale);
    let [endpoint] = world.double.endpoints().try_into().unwrap();
    assert_eq!(
        endpoint["workers"],
        json!({"min": 1, "max": 3, "idleTimeout": 60})
    );
    world
        .machine
        .well(&["endpoints", "delete", "chandler-mock"]);
    assert_eq!(world.double.endpoints(), Vec::<Value>::new());
    let cloud = world.cloud(Options::default());
    let name = Name::parse("chandler-mock").unwrap();
    assert!(!cloud.delete(&name, &|_| {}).await.unwrap());
    assert_eq!(cloud.status(&name).await.unwrap().phase, Phase::Absent);
}

fn the_second_run(world: &World) {
    let same = ["--wait", "--start-timeout", "60s", "--set", "dtype=f32"];
    let before = world.server.seen().len();
    world.well(&same);
    assert_eq!(
        world.changes(before).len(),
        0,
        "a second run changes nothing"
    );
    let more = [&same[..], &["--max-workers", "2"]].concat();
    let differs = world.run(&[&more[..], &["--diff"]].concat());
    assert_eq!(differs.out, "workers.max: 1 -> 2\n");
    assert_eq!(world.changes(before).len(), 0);
    world.well(&more);
    let [change] = world.changes(before).try_into().unwrap();
    assert_eq!(change.method, "PATCH");
    assert_eq!(change.json(), json!({"workers": {"max": 2}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_is_asked_over_http() {
    let world = World::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    world.double.set(|settings| {
        settings.balancer_url = format!("http://127.0.0.1:{port}");
    });
    let worker = world.worker_when(|_| true);
    let set = format!("port={port}");
    let arguments = ["--load-balancer", "--set", &set, "--min-workers", "1"];
    let made = world.well(&[&arguments[..], &["--wait", "--start-timeout", "60s"]].concat());
    let _worker = worker.await.unwrap();
    let [endpoint] = world.double.endpoints().try_into().unwrap();
    assert_eq!(
        endpoint["scaling"],
        json!({"type": "REQUEST_COUNT", "requestCount": 8})
    );
    assert_eq!(endpoint["ports"], json!([format!("{port}/http")]));
    for variable in ["PORT", "PORT_HEALTH"] {
        assert_eq!(endpoint["env"][variable], port.to_string());
    }
    assert!(text(&made).contains(&format!("http://127.0.0.1:{port}/v1/chat/completions")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_on_the_way_is_repeated_and_never_made_twice() {
    let queue = queue().await;
    let _worker = mock_worker(&queue);
    let matching = |method, times| When::Matching {
        method,
        path: "/v2/serverless".to_owned(),
        times,
    };
    for (when, fault) in [
        (matching("GET", 2), Fault::Status(429, Some(3))),
        (matching("GET", 2), Fault::Status(503, None)),
        (matching("GET", 1), Fault::CutBefore),
        (matching("POST", 1), Fault::Status(429, Some(1))),
        (matching("POST", 1), Fault::Status(500, None)),
        (matching("POST", 1), Fault::CutBefore),
        (matching("POST", 1), Fault::CutAfter),
    ] {
        let world = World::on(Arc::clone(&queue));
        world.server.fault(when, fault.clone());
        let made = world.well(&["--wait"]);
        assert!(made.code == Some(0), "{fault:?}: {}", text(&made));
        assert_eq!(world.double.endpoints().len(), 1, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_fewer_workers_gets_as_many_as_it_may_have_and_is_told() {
    let world = World::new().await;
    for sentence in [
        "at most {} workers are allowed",
        "Your worker concurrency cannot go beyond the maximum limit of ({}). Please contact support",
    ] {
        world
            .double
            .set(|settings| settings.quota = Some((2, sentence)));
        let made = world.run(&["--max-workers", "5", "--min-workers", "3"]);
        assert!(text(&made).contains("2 workers at most"), "{}", text(&made));
        let [endpoint] = world.double.endpoints().try_into().unwrap();
        assert_eq!(endpoint["workers"]["max"], 2);
        assert_eq!(endpoint["workers"]["min"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_made_is_left_alone_and_doubles_of_ours_are_reduced() {
    let world = World::new().await;
    let endpoint = |env: Value| {
        json!({
            "name": "chandler-mock", "type": "QUEUE", "image": "x", "env": env, "cpu": [{"id": "cpu5c", "vcpuCount": 2}],
            "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
        })
    };
    let theirs = world.double.plant(endpoint(json!({"MODEL": "x"})));
    let refused = world.run(&[]);
    assert!(refused.code != Some(0));
    assert!(
        text(&refused).contains("chandler did not make"),
        "{}",
        text(&refused)
    );
    assert_eq!(world.changes(0).len(), 0);
    let mark = json!({"CHANDLER_DEPLOYMENT": "chandler-mock", "CHANDLER_OWNER": "somebody"});
    let first = world.double.plant(endpoint(mark.clone()));
    world.double.plant(endpoint(mark));
    world.well(&[]);
    let left: Vec<Value> = world.double.endpoints();
    let ids: Vec<&Value> = left.iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&json!(theirs), &json!(first)]);
    let pieces = world.cloud(Options::default()).ours().await.unwrap();
    assert_eq!(pieces.len(), 1);
    assert_eq!(pieces[0].id, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_from_every_worker_and_followed() {
    let world = World::new().await;
    world.well(&["--min-workers", "1"]);
    let cloud = world.cloud(Options::default());
    let name = Name::parse("chandler-mock").unwrap();
    cloud.status(&name).await.unwrap();
    for follow in [false, true] {
        let lines = std::sync::Mutex::new(Vec::new());
        let sink = |line: &str| {
            let mut lines = lines.lock().unwrap();
            lines.push(line.split_once("] ").unwrap().1.to_owned());
            // Followed until there was enough, read once until it is quiet.
            !(follow && lines.len() == 2)
        };
        let read = cloud.logs(&name, follow, &sink);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(*lines.lock().unwrap(), ["loading the model", "serving"]);
    }
}
