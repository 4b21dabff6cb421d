//! Endpoints with GPUs, through the library: pools in order, no capacity, cached models.

use std::time::Duration;

use chandler::catalog::Hardware;
use chandler::provision::runpod::Options;
use chandler::provision::{
    Deployment, Flow, Name, Needs, Outcome, Platform as _, ProvisionError, Records, Scaling,
    Secrets, Served, Times,
};
use chandler_core::Task;
use serde_json::json;

use super::*;

const CARDS: [(&str, &str, &str, u32); 6] = [
    ("rtx-a4000", "NVIDIA RTX A4000", "AMPERE_16", 16),
    ("l4", "NVIDIA L4", "AMPERE_24", 24),
    ("rtx-3090", "NVIDIA GeForce RTX 3090", "AMPERE_24", 24),
    ("rtx-4090", "NVIDIA GeForce RTX 4090", "ADA_24", 24),
    ("a40", "NVIDIA A40", "AMPERE_48", 48),
    ("a100", "NVIDIA A100 80GB PCIe", "AMPERE_80", 80),
];

fn card(id: &str) -> Hardware {
    let (id, name, pool, memory) = CARDS.into_iter().find(|card| card.0 == id).unwrap();
    serde_json::from_value(json!({
        "id": id, "name": name, "memory_gb": memory, "architecture": "ampere", "capability": "8.6", "cost_order": 1,
        "runpod": name, "runpod_pool": pool,
    }))
    .unwrap()
}

pub fn wanted(name: &str, cards: &[&str]) -> Deployment {
    Deployment {
        name: Name::parse(name).unwrap(),
        owner: "tests".to_owned(),
        served: Served {
            model: "mock".to_owned(),
            name: "mock".to_owned(),
            task: Task::TextGeneration,
            hub: Some(("org/model".to_owned(), None)),
        },
        image: "registry.example/chandler:cuda".to_owned(),
        env: BTreeMap::new(),
        secrets: Secrets::default(),
        hardware: cards.iter().map(|id| card(id)).collect(),
        needs: Needs {
            device_bytes: 10_000_000_000,
            disk_bytes: 16_000_000_000,
            minimum_cuda: Some("12.4".to_owned()),
            ..Needs::default()
        },
        scaling: Scaling {
            min: 0,
            max: 1,
            idle: Duration::from_secs(5),
            concurrency: 8,
        },
        start_timeout: Duration::from_secs(30),
        request_timeout: Duration::from_secs(300),
    }
}

async fn flow(
    world: &World,
    wanted: &Deployment,
) -> (Result<Outcome, ProvisionError>, Vec<String>) {
    let said = std::sync::Mutex::new(Vec::new());
    let say = |line: &str| said.lock().unwrap().push(line.to_owned());
    let cloud = world.cloud(Options::default());
    let records = Records::open(&world.machine.records()).unwrap();
    let flow = Flow {
        platform: &cloud,
        records: &records,
        say: &say,
        times: Times {
            capacity: Duration::from_secs(30),
            pace: PACE,
            ..Times::default()
        },
        wait: true,
        keep: false,
        courier: None,
    };
    let outcome = flow.run(wanted, std::future::pending()).await;
    drop(flow);
    let said = said.lock().unwrap().clone();
    (outcome, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_without_machines_are_followed_by_the_next_and_only_what_was_asked_for_is_taken() {
    let world = World::new().await;
    world
        .double
        .set(|settings| settings.capacity = Some(vec!["AMPERE_48"]));
    let worker =
        world.worker_when(|endpoint| endpoint["gpu"]["pools"] == json!(["AMPERE_48", "AMPERE_80"]));
    let mut wanted = wanted(
        "several",
        &["l4", "rtx-4090", "rtx-3090", "rtx-a4000", "a40", "a100"],
    );
    wanted.scaling.min = 1;
    let (outcome, said) = flow(&world, &wanted).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let _worker = worker.await.unwrap();
    let changes = world.changes(0);
    let create = changes[0].json();
    assert_eq!(
        create["gpu"],
        json!({
            "pools": ["AMPERE_24", "ADA_24", "AMPERE_16"], "count": 1, "minCudaVersion": "12.4",
            "excludedTypes": ["NVIDIA RTX A4500", "NVIDIA RTX A5000"],
        })
    );
    assert_eq!(create["disk"], 18);
    let moved = json!({"gpu": {"pools": ["AMPERE_48", "AMPERE_80"], "excludedTypes": []}});
    assert_eq!(changes[1].json(), moved);
    assert_eq!(changes.len(), 2);
    // The next run leaves it where it found a machine.
    let before = world.server.seen().len();
    flow(&world, &wanted).await.0.unwrap();
    assert_eq!(world.changes(before).len(), 0);
    assert_eq!(outcome.status.hardware.as_deref(), Some("NVIDIA A40"));
    let price = outcome.status.price.unwrap();
    assert!((price.usd_per_hour - 1.2).abs() < 1e-6, "{price:?}");
    assert!(price.source.contains("/v2/catalog/gpus"), "{price:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_where_nobody_has_a_machine() {
    let world = World::new().await;
    world
        .double
        .set(|settings| settings.capacity = Some(Vec::new()));
    let (outcome, said) = flow(&world, &wanted("none", &["l4", "a40"])).await;
    let error = outcome.unwrap_err();
    assert!(error.is_capacity(), "{error}: {said:?}");
    assert_eq!(world.double.endpoints().len(), 0);
    // The queued prediction was taken back.
    assert_eq!(world.queue.health()["jobs"]["inQueue"], 0);
    // Said when it is made, it is the same.
    let no = "There are no longer any instances available with the requested specifications.";
    world
        .double
        .set(|settings| settings.refusal = Some(no.to_owned()));
    let (outcome, _) = flow(&world, &wanted("none", &["l4", "a40"])).await;
    assert!(outcome.unwrap_err().is_capacity());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_model_is_asked_for_through_graphql_and_the_rest_through_v2() {
    let world = World::new().await;
    let options = Options {
        cached_model: true,
        registry: Some("reg1".to_owned()),
        ..Options::default()
    };
    let cloud = world.cloud(options.clone());
    let wanted = wanted("cached", &["l4"]);
    assert!(cloud.apply(&wanted, &|_| {}).await.unwrap().created);
    let [endpoint] = world.double.endpoints().try_into().unwrap();
    let id = endpoint["id"].as_str().unwrap();
    assert_eq!(
        world.double.models(id),
        ["https://huggingface.co/org/model:main"]
    );
    // GraphQL's inline template has no field for it.
    assert_eq!(endpoint["registry"], "reg1");
    let before = world.server.seen().len();
    let again = cloud.apply(&wanted, &|_| {}).await.unwrap();
    assert_eq!((again.created, again.changed), (false, Vec::new()));
    assert_eq!(world.changes(before).len(), 0);
    // Without it, it is another endpoint.
    let error = world.cloud(Options {
        cached_model: false,
        ..options
    });
    let error = error.apply(&wanted, &|_| {}).await.unwrap_err();
    assert!(error.is_usage(), "{error}");
    assert!(cloud.delete(&wanted.name, &|_| {}).await.unwrap());
    assert_eq!(world.double.endpoints().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_without_its_endpoint_is_found_and_removed() {
    let world = World::new().await;
    let cloud = world.cloud(Options {
        cached_model: true,
        ..Options::default()
    });
    world.double.set(|settings| settings.half = true);
    let wanted = wanted("half", &["l4"]);
    let error = cloud.apply(&wanted, &|_| {}).await.unwrap_err();
    assert!(
        error.to_string().contains("Something went wrong"),
        "{error}"
    );
    let [piece] = cloud.ours().await.unwrap().try_into().unwrap();
    assert!(piece.orphan);
    assert_eq!(piece.kind, "template");
    cloud.remove(&piece).await.unwrap();
    assert_eq!(world.double.templates(), 0);
    cloud.apply(&wanted, &|_| {}).await.unwrap_err();
    assert!(cloud.delete(&wanted.name, &|_| {}).await.unwrap());
    assert_eq!(world.double.templates(), 0);
}
