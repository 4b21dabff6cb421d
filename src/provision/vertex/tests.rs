//! Requests and what is read of answers, by example. The examples' shapes are those that Google's own client sends and reads.

use serde_json::json;

use super::request::{self, Placement, Requests};
use super::{Options, seen};
use crate::catalog::Hardware;
use crate::provision::google::sample::{deployment, l4};
use crate::provision::{Deployment, Needs, Phase, ProvisionError};

fn options() -> Options {
    Options {
        api: String::new(),
        logging: String::new(),
        project: "p".to_owned(),
        region: "europe-west4".to_owned(),
        machine: None,
        service_account: None,
        invoke: false,
    }
}

fn requests(options: &Options) -> Requests<'_> {
    Requests {
        options,
        charged: Some("billed"),
    }
}

#[test]
fn a_gpu_is_asked_for_with_the_machine_that_has_it() {
    let wanted = Deployment {
        hardware: vec![l4()],
        ..deployment()
    };
    let options = options();
    let placement = Placement::of(&wanted, &options).unwrap();
    let call = requests(&options).deploy(&wanted.name, "3", &placement);
    assert_eq!(
        call.url,
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/one:deployModel"
    );
    assert_eq!(call.headers, [("x-goog-user-project", "billed".to_owned())]);
    assert!(!call.repeatable);
    assert_eq!(
        call.body,
        Some(json!({
            "deployedModel": {
                "model": "projects/p/locations/europe-west4/models/one@3", "displayName": "one",
                "dedicatedResources": {
                    "machineSpec": {"machineType": "g2-standard-4", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1},
                    "minReplicaCount": 1, "maxReplicaCount": 2,
                },
            },
            "trafficSplit": {"0": 100},
        }))
    );
    let elsewhere = Deployment {
        hardware: vec![Hardware {
            vertex: None,
            ..l4()
        }],
        ..wanted
    };
    let error = Placement::of(&elsewhere, &options).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("--gpu is `l4`"));
}

#[test]
fn without_a_gpu_the_smallest_machine_that_is_large_enough_is_taken() {
    let machine = |gib: u64, millis| {
        let wanted = Deployment {
            needs: Needs {
                host_bytes: gib << 30,
                cpu_millis: millis,
                ..Needs::default()
            },
            ..deployment()
        };
        Placement::of(&wanted, &options()).map(|placement| placement.machine.to_string())
    };
    assert_eq!(machine(0, 0).unwrap(), "n2-standard-4");
    assert_eq!(machine(7, 2000).unwrap(), "n2-standard-2");
    assert_eq!(machine(8, 2000).unwrap(), "n2-standard-4");
    assert_eq!(machine(1, 8000).unwrap(), "n2-standard-8");
    assert!(
        machine(2000, 1000)
            .unwrap_err()
            .to_string()
            .contains("--machine")
    );
}

#[test]
fn the_model_is_the_image_and_how_it_is_asked() {
    let body = request::model(&deployment(), &options()).unwrap();
    let container = &body["containerSpec"];
    assert_eq!(container["deploymentTimeout"], "600s");
    assert_eq!(container["startupProbe"]["failureThreshold"], 60);
    assert_eq!(container["predictRoute"], "/predict");
    assert!(container.get("invokeRoutePrefix").is_none());
    assert!(!body.to_string().contains("hf_hush"));
    let invoked = Options {
        invoke: true,
        ..options()
    };
    let container = &request::model(&deployment(), &invoked).unwrap()["containerSpec"];
    assert_eq!(container["invokeRoutePrefix"], "/*");
    assert!(container.get("predictRoute").is_none());

    let mut bucket = deployment();
    bucket.served.model = "gs://b/m".to_owned();
    let body = request::model(&bucket, &options()).unwrap();
    assert_eq!(body["artifactUri"], "gs://b/m");
    assert!(!body.to_string().contains("CHANDLER_MODEL"));
}

#[test]
fn what_vertex_ai_would_refuse_is_refused_before() {
    let refused = |change: &dyn Fn(&mut Deployment)| {
        let mut wanted = deployment();
        change(&mut wanted);
        let error = request::check(&wanted).unwrap_err();
        assert!(error.is_usage(), "{error}");
        error.to_string()
    };
    assert!(refused(&|wanted| wanted.scaling.min = 0).contains("--min-workers"));
    assert!(refused(&|wanted| wanted.image.clear()).contains("--image"));
    let hours = std::time::Duration::from_secs(3 * 3600);
    assert!(refused(&|wanted| wanted.request_timeout = hours).contains("3600"));
    assert!(refused(&|wanted| wanted.start_timeout = hours).contains("7200"));
    let aip = |wanted: &mut Deployment| {
        wanted.env.insert("AIP_MODE".to_owned(), "x".to_owned());
    };
    assert!(refused(&aip).contains("AIP_"));
}

#[test]
fn a_secret_is_compared_and_never_told() {
    let wanted = deployment();
    let mut there = request::model(&wanted, &options()).unwrap();
    let changes =
        |there: &serde_json::Value| seen::model_changes(there, &wanted, &options()).unwrap();
    let set = |there: &mut serde_json::Value, value: &str| {
        for variable in there["containerSpec"]["env"].as_array_mut().unwrap() {
            if variable["name"] == "HF_TOKEN" {
                variable["value"] = value.into();
            }
        }
    };
    set(&mut there, "hf_hush");
    assert_eq!(changes(&there), []);
    set(&mut there, "hf_an_older_one");
    let list = there["containerSpec"]["env"].as_array_mut().unwrap();
    list.push(json!({"name": "OLD_TOKEN", "value": "hf_dropped"}));
    let told = changes(&there);
    assert_eq!(told.len(), 2, "{told:?}");
    let text = format!("{told:?}");
    assert!(!text.contains("hf_") && text.contains("********"), "{text}");
}

#[test]
fn an_endpoint_on_which_nothing_could_be_deployed_says_why() {
    let operation = |time: &str, error: serde_json::Value| json!({"name": "x", "done": true, "error": error, "metadata": {"genericMetadata": {"createTime": time}}});
    let full = operation("2026-01-02T", json!({"code": 8, "message": "no L4"}));
    let broken = operation("2026-01-01T", json!({"code": 3, "message": "bad image"}));
    let status = seen::of_nothing(&[full.clone(), broken.clone()]);
    assert_eq!(
        (status.phase, status.reason.as_deref()),
        (Phase::NoCapacity, Some("no L4"))
    );
    assert_eq!(seen::of_nothing(&[broken]).phase, Phase::Failed);
    assert_eq!(seen::of_nothing(&[]).phase, Phase::Creating);
    let deployed = json!({
        "id": "5", "dedicatedResources": {"minReplicaCount": 2, "maxReplicaCount": 3}, "status": {"availableReplicaCount": 0},
    });
    assert_eq!(seen::of_workers(&deployed, false).phase, Phase::Starting);
}

#[test]
fn what_another_made_is_foreign() {
    let name = deployment().name;
    let theirs = json!({"labels": {"managed-by": "terraform"}});
    let error = seen::own(Some(&theirs), "endpoint", &name).unwrap_err();
    assert!(matches!(error, ProvisionError::Foreign { .. }));
    assert!(seen::own(None, "endpoint", &name).unwrap().is_none());
}
