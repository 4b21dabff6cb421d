//! Requests as they are built, without a network.

use std::collections::BTreeMap;
use std::time::Duration;

use chandler_core::Task;
use serde_json::{Value, json};

use super::differ::Differences;
use super::endpoint::Endpoint;
use super::gpus::{CpuTypes, GpuTypes, Selection, processors};
use super::shape::{Compute, Shape};
use super::*;
use crate::provision::{Needs, Scaling, Served};

fn card(id: &str, pool: Option<&str>) -> Hardware {
    let card = json!({
        "id": id, "name": id, "memory_gb": 24, "architecture": "ada", "capability": "8.9", "cost_order": 1,
        "runpod": id, "runpod_pool": pool,
    });
    serde_json::from_value(card).unwrap()
}

fn wanted(hardware: Vec<Hardware>) -> Deployment {
    Deployment {
        name: Name::parse("turbo").unwrap(),
        owner: "me".to_owned(),
        served: Served {
            model: "org/model".to_owned(),
            name: "model".to_owned(),
            task: Task::TextToImage,
            hub: Some(("org/model".to_owned(), Some("v1".to_owned()))),
        },
        image: "image:cuda".to_owned(),
        env: BTreeMap::new(),
        secrets: [("HF_TOKEN".to_owned(), "hf_hush".into())]
            .into_iter()
            .collect(),
        hardware,
        needs: Needs::default(),
        scaling: Scaling {
            min: 0,
            max: 3,
            idle: Duration::from_secs(60),
            concurrency: 4,
        },
        start_timeout: Duration::from_secs(800),
        request_timeout: Duration::from_secs(300),
    }
}

fn selection() -> Selection {
    Selection {
        pools: vec!["ADA_24".to_owned(), "AMPERE_24".to_owned()],
        excluded: vec!["NVIDIA L4".to_owned()],
        minimum_cuda: Some("12.4".to_owned()),
    }
}

fn shape(options: &Options) -> Shape {
    let wanted = wanted(vec![card("a", Some("ADA_24"))]);
    Shape::of(&wanted, options, Compute::Gpu(selection())).unwrap()
}

/// What RunPod tells of an endpoint that was made so.
fn told(shape: &Shape) -> Value {
    let mut told = shape.body();
    let more = json!({
        "id": "ep1", "createdAt": "2026-06-01T12:00:00Z", "args": "", "registry": null, "dataCenterIds": [], "networkVolumes": [],
    });
    for (key, value) in more.as_object().unwrap() {
        told[key] = value.clone();
    }
    // Names of pools have no order there.
    if let Some(pools) = told.pointer_mut("/gpu/pools").and_then(Value::as_array_mut) {
        pools.reverse();
    }
    told["env"]["HF_TOKEN"] = json!("hf_hush");
    told
}

fn differences(shape: &Shape, told: Value) -> Differences {
    let there: Endpoint = serde_json::from_value(told).unwrap();
    Differences::of(shape, &there, &wanted(Vec::new()).secrets)
}

#[test]
fn each_kind_of_endpoint_is_asked_for_in_the_apis_words() {
    let queue = shape(&Options::default()).body();
    assert_eq!(queue["name"], "chandler-turbo");
    assert_eq!(
        queue["workers"],
        json!({"min": 0, "max": 3, "idleTimeout": 60})
    );
    assert_eq!(
        queue["gpu"],
        json!({"pools": ["ADA_24", "AMPERE_24"], "excludedTypes": ["NVIDIA L4"], "count": 1, "minCudaVersion": "12.4"})
    );
    assert_eq!(queue["env"]["RUNPOD_INIT_TIMEOUT"], "800");
    let by_requests = shape(&Options {
        request_count: Some(2),
        ..Options::default()
    });
    // RunPod refuses an idle time for a queue that scales so.
    assert_eq!(by_requests.body()["workers"], json!({"min": 0, "max": 3}));
    let balancer = shape(&Options {
        load_balancer: true,
        secrets: [("OPENAI_KEY".to_owned(), "mine".to_owned())].into(),
        ..Options::default()
    });
    let balancer = balancer.body();
    assert_eq!(
        balancer["scaling"],
        json!({"type": "REQUEST_COUNT", "requestCount": 4})
    );
    assert_eq!(balancer["workers"]["idleTimeout"], 60);
    assert_eq!(balancer["ports"], json!(["8000/http"]));
    assert_eq!(balancer["env"]["HEALTH_CHECK_PATH"], "/ping");
    assert_eq!(balancer["env"]["OPENAI_KEY"], "{{ RUNPOD_SECRET_mine }}");
}

#[test]
fn a_plan_shows_the_requests_and_no_secret() {
    let cloud = RunPod::new(Options::default(), None, Patience::default()).unwrap();
    let plan = |options: Options, hardware: Vec<Hardware>| {
        let cloud = RunPod::new(options, None, Patience::default()).unwrap();
        let steps = cloud.plan(&wanted(hardware)).unwrap();
        steps.iter().map(Step::to_string).collect::<String>()
    };
    let gpu = plan(Options::default(), vec![card("a", Some("ADA_24"))]);
    for said in [
        "GET https://api.runpod.io/v2/catalog/gpus",
        "POST https://api.runpod.io/v2/serverless",
        "\"HF_TOKEN\": \"********\"",
        "{these pools' types that were not asked for}",
    ] {
        assert!(gpu.contains(said), "{said} is not in {gpu}");
    }
    let cached = Options {
        cached_model: true,
        ..Options::default()
    };
    let cached = plan(cached, vec![card("a", Some("ADA_24"))]);
    assert!(
        cached.contains("POST https://api.runpod.io/graphql"),
        "{cached}"
    );
    assert!(
        cached.contains("https://huggingface.co/org/model:v1"),
        "{cached}"
    );
    assert!(!format!("{gpu}{cached}").contains("hush"));
    assert_eq!(cloud.groups(&[]), vec![Vec::new()]);
}

#[test]
fn three_pools_are_tried_together_and_the_rest_after_them() {
    let cloud = RunPod::new(Options::default(), None, Patience::default()).unwrap();
    let cards = [
        card("a", Some("P1")),
        card("b", Some("P2")),
        card("c", Some("P1")),
        card("d", Some("P3")),
        card("e", Some("P4")),
        card("f", Some("P2")),
        Hardware {
            runpod: None,
            ..card("elsewhere", None)
        },
    ];
    let groups = cloud.groups(&cards);
    let ids: Vec<Vec<&str>> = groups
        .iter()
        .map(|group| group.iter().map(|card| card.id.as_str()).collect())
        .collect();
    assert_eq!(ids, [vec!["a", "b", "c", "d", "f"], vec!["e"]]);
}

#[test]
fn types_that_are_too_small_or_were_not_asked_for_are_excluded() {
    let gpu = |id: &str, pool: Option<&str>, memory: u32| json!({"id": id, "pool": pool, "memory": memory, "price": {"serverless": 0.5}});
    let types = json!({"gpus": [
        gpu("small", Some("P"), 16), gpu("big", Some("P"), 20), gpu("other", Some("P"), 24), gpu("none", None, 24),
        gpu("far", Some("Q"), 80),
    ]});
    let types: GpuTypes = serde_json::from_value(types).unwrap();
    let needs = Needs {
        device_bytes: 18_000_000_000,
        ..Needs::default()
    };
    let selected = types.select(
        &[card("small", None), card("big", None), card("none", None)],
        &needs,
    );
    let selected = selected.unwrap();
    assert_eq!(selected.pools, ["P"]);
    assert_eq!(selected.excluded, ["small", "other"]);
    let nothing = types.select(&[card("small", None), card("none", None)], &needs);
    assert!(nothing.unwrap_err().is_capacity());
    assert_eq!(types.price_of("big", 2).unwrap().usd_per_hour, 1.0);
    assert_eq!(types.price_of("gone", 1), None);
}

#[test]
fn processors_have_memory_for_the_model_or_it_is_said_which_would() {
    let flavors = json!({"cpus": [
        {"id": "cpu5c", "ramGbPerVcpu": 2.0, "vcpu": {"min": 2, "max": 8}},
        {"id": "cpu5g", "ramGbPerVcpu": 4.0, "vcpu": {"min": 2, "max": 32}},
    ]});
    let flavors: CpuTypes = serde_json::from_value(flavors).unwrap();
    let needs = |host_bytes: u64| Needs {
        host_bytes,
        cpu_millis: 5000,
        ..Needs::default()
    };
    let small = needs(16_000_000_000);
    assert_eq!(processors(&[], &small), ["cpu5c:8".parse().unwrap()]);
    assert!(flavors.check(&processors(&[], &small), &small).is_ok());
    let large = needs(40_000_000_000);
    let error = flavors.check(&processors(&[], &large), &large).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("RunPod's catalog has it with cpu5g:16"),
        "{error}"
    );
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    for options in [
        Options::default(),
        Options {
            request_count: Some(2),
            ..Options::default()
        },
        Options {
            load_balancer: true,
            ..Options::default()
        },
    ] {
        let shape = shape(&options);
        let found = differences(&shape, told(&shape));
        assert_eq!(found.changes, [], "{options:?}");
        assert!(found.patch.is_empty());
    }
}

#[test]
fn only_what_differs_is_sent_and_no_value_that_may_be_secret_is_shown() {
    let shape = shape(&Options::default());
    let mut there = told(&shape);
    there["workers"]["max"] = json!(1);
    there["env"]["HF_TOKEN"] = json!("hf_before");
    there["env"]["LEFT"] = json!("hf_left");
    let found = differences(&shape, there);
    let shown: Vec<String> = found
        .changes
        .iter()
        .map(|change| format!("{}: {} -> {}", change.field, change.from, change.to))
        .collect();
    assert_eq!(
        shown,
        [
            "env.HF_TOKEN: ******** -> ********",
            "env.LEFT: ******** -> none",
            "workers.max: 1 -> 3",
        ]
    );
    let keys: Vec<&String> = found.patch.keys().collect();
    assert_eq!(keys, ["env", "workers"]);
    assert_eq!(found.patch["workers"], json!({"max": 3}));
    assert_eq!(
        found.patch["env"]["HF_TOKEN"],
        Secrets::placeholder("HF_TOKEN")
    );
    // One selection: exclusions alone would be dropped, and pools alone would clear them.
    let mut there = told(&shape);
    there["gpu"]["excludedTypes"] = json!([]);
    let found = differences(&shape, there);
    let gpu = json!({"pools": ["ADA_24", "AMPERE_24"], "excludedTypes": ["NVIDIA L4"]});
    assert_eq!(found.patch["gpu"], gpu);
    // What no PATCH can change is an error.
    let mut there = told(&shape);
    there["type"] = json!("LOAD_BALANCER");
    assert!(differences(&shape, there).check().is_err());
}
