//! Requests and what is read of answers, by example.

use serde_json::json;

use super::request::{self, Requests};
use super::{KeptSecret, Options, Volume, seen};
use crate::provision::google::sample::{deployment, l4};
use crate::provision::{Deployment, Needs, Phase};

fn options() -> Options {
    Options {
        api: "https://run.googleapis.com".to_owned(),
        logging: String::new(),
        project: "p".to_owned(),
        region: "europe-west4".to_owned(),
        public: false,
        service_account: None,
        secrets: Vec::new(),
        volume: None,
    }
}

fn needing(host_gib: u64, disk_gib: u64) -> Deployment {
    Deployment {
        needs: Needs {
            host_bytes: host_gib << 30,
            disk_bytes: disk_gib << 30,
            cpu_millis: 1000,
            ..Needs::default()
        },
        ..deployment()
    }
}

fn limits(wanted: &Deployment, options: &Options) -> serde_json::Value {
    let service = request::service(wanted, options).unwrap();
    service["template"]["containers"][0]["resources"]["limits"].clone()
}

#[test]
fn a_gpu_comes_with_what_cloud_run_wants_beside_it() {
    let wanted = Deployment {
        hardware: vec![l4()],
        ..needing(1, 2)
    };
    let service = request::service(&wanted, &options()).unwrap();
    let template = &service["template"];
    assert_eq!(
        limits(&wanted, &options()),
        json!({"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"})
    );
    assert_eq!(
        template["nodeSelector"],
        json!({"accelerator": "nvidia-l4"})
    );
    assert_eq!(template["gpuZonalRedundancyDisabled"], true);
    assert_eq!(template["containers"][0]["resources"]["cpuIdle"], false);
    assert_eq!(template["timeout"], "300s");
}

#[test]
fn what_is_downloaded_is_memory_unless_a_bucket_holds_it() {
    assert_eq!(limits(&needing(2, 5), &options())["memory"], "8Gi");
    assert_eq!(limits(&needing(2, 5), &options())["cpu"], "2");
    let mounted = Options {
        volume: Some(Volume {
            bucket: "b".to_owned(),
            path: Some("hub".to_owned()),
        }),
        ..options()
    };
    assert_eq!(limits(&needing(2, 5), &mounted)["memory"], "3Gi");
    let service = request::service(&needing(2, 5), &mounted).unwrap();
    assert_eq!(
        service["template"]["volumes"],
        json!([{"name": "models", "gcs": {"bucket": "b", "readOnly": true, "mountOptions": ["only-dir=hub"]}}])
    );
    let error = request::service(&needing(2, 40), &options()).unwrap_err();
    assert!(
        error.is_usage() && error.to_string().contains("--gcs-volume"),
        "{error}"
    );
}

#[test]
fn a_kept_secret_is_named_and_not_sent() {
    let kept = |variable: &str| Options {
        secrets: vec![KeptSecret {
            variable: variable.to_owned(),
            secret: "hub-token".to_owned(),
            version: "latest".to_owned(),
        }],
        ..options()
    };
    let service = request::service(&deployment(), &kept("TOKEN")).unwrap();
    let list = service["template"]["containers"][0]["env"]
        .as_array()
        .unwrap();
    let reference = json!({"secretKeyRef": {"secret": "hub-token", "version": "latest"}});
    assert!(list.contains(&json!({"name": "TOKEN", "valueSource": reference})));
    let twice = request::service(&deployment(), &kept("HF_TOKEN")).unwrap_err();
    assert!(twice.to_string().contains("--gcp-secret"), "{twice}");
}

#[test]
fn an_update_holds_what_changes_and_nothing_else() {
    let options = options();
    let requests = Requests {
        options: &options,
        charged: None,
    };
    let wanted = deployment();
    let there = request::service(&wanted, &options).unwrap();
    assert_eq!(seen::differs(&there, &wanted, &options).unwrap(), []);
    let mut moved = wanted.clone();
    moved.owner = "you".to_owned();
    moved
        .env
        .insert("CHANDLER_QUEUE".to_owned(), "6".to_owned());
    let changes = seen::differs(&there, &moved, &options).unwrap();
    let fields: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "env.CHANDLER_OWNER",
            "env.CHANDLER_QUEUE",
            "labels.chandler-owner"
        ]
    );
    assert_eq!(seen::fields(&changes), ["labels", "template"]);
    let call = requests.update(&moved, &["labels"]).unwrap();
    assert!(
        call.url.ends_with("/services/one?updateMask=labels"),
        "{}",
        call.url
    );
    assert_eq!(call.body, Some(json!({"labels": moved.labels()})));
}

#[test]
fn other_members_of_a_policy_stay() {
    let there = json!({"etag": "a", "bindings": [
        {"role": "roles/run.invoker", "members": ["user:a@b.c", "allUsers"]},
        {"role": "roles/viewer", "members": ["allUsers"]},
    ]});
    assert_eq!(request::policy(&there, true), None);
    assert_eq!(
        request::policy(&there, false),
        Some(json!({"etag": "a", "bindings": [
            {"role": "roles/run.invoker", "members": ["user:a@b.c"]},
            {"role": "roles/viewer", "members": ["allUsers"]},
        ]}))
    );
    assert_eq!(
        request::policy(&json!({"etag": "b"}), true),
        Some(
            json!({"etag": "b", "bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]})
        )
    );
    assert_eq!(request::policy(&json!({"etag": "b"}), false), None);
}

#[test]
fn a_service_is_as_its_last_condition_says() {
    let service = |state: &str, min: u32| {
        json!({
            "reconciling": false, "template": {"scaling": {"minInstanceCount": min, "maxInstanceCount": 3}},
            "terminalCondition": {"state": state, "message": "it did not start", "revisionReason": "HEALTH_CHECK_CONTAINER_ERROR"},
        })
    };
    let phase = |state, min| seen::status(&service(state, min)).phase;
    assert_eq!(phase("CONDITION_SUCCEEDED", 1), Phase::Serving);
    assert_eq!(phase("CONDITION_SUCCEEDED", 0), Phase::Asleep);
    assert_eq!(phase("CONDITION_RECONCILING", 1), Phase::Creating);
    let failed = seen::status(&service("CONDITION_FAILED", 1));
    assert_eq!(failed.phase, Phase::Failed);
    assert_eq!(
        failed.reason.as_deref(),
        Some("HEALTH_CHECK_CONTAINER_ERROR: it did not start")
    );
    let mut full = service("CONDITION_FAILED", 1);
    full["terminalCondition"]["message"] = "Quota exceeded for GPUs".into();
    assert_eq!(seen::status(&full).phase, Phase::NoCapacity);
    let mut under_way = service("CONDITION_SUCCEEDED", 1);
    under_way["reconciling"] = true.into();
    assert_eq!(seen::status(&under_way).phase, Phase::Creating);
}
