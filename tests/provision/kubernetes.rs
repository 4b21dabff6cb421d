//! On a cluster: from nothing to a prediction, changes and their owners, scale and logs. What documents say is told beside it.

use std::sync::Arc;

use chandler::provision::kubernetes::{Cluster, Kubernetes as Cloud, Options};
use chandler::provision::{Name, Patience, Phase, Platform};
use cloud_doubles::Server;
use cloud_doubles::kubernetes::{Knobs, Kubernetes, NAMESPACE, TOKEN};
use serde_json::{Value, json};

use super::command::Machine;
use super::wanted::deployment;
use super::worker::{WORKER_KEY, Worker};

pub const SECRET: &str = "hf_a_marked_secret_value";
pub const MAKE: [&str; 12] = [
    "provision",
    "kubernetes",
    "mock",
    "--name",
    "one",
    "--wait",
    "--secret",
    "HF_TOKEN",
    "--secret",
    "CHANDLER_API_KEYS",
    "--start-timeout",
    "20s",
];

/// A cluster, and a machine with a kubeconfig for it.
pub struct Place {
    pub cloud: Arc<Kubernetes>,
    pub server: Server,
    pub machine: Machine,
}

impl Place {
    pub fn new(knobs: Knobs) -> Self {
        let worker = Some(Worker::shared().to_owned());
        let cloud = Arc::new(Kubernetes::new(Knobs { worker, ..knobs }));
        let server = Server::start(Arc::clone(&cloud) as _);
        let machine = Machine::new();
        let file = machine.folder().join("kubeconfig");
        std::fs::write(&file, Kubernetes::kubeconfig(&server.url)).unwrap();
        let machine = machine
            .with("KUBECONFIG", file.to_str().unwrap())
            .with("CHANDLER_IMAGE", "registry.example/chandler:{kind}")
            .with("HF_TOKEN", SECRET)
            .with("CHANDLER_API_KEYS", WORKER_KEY);
        Self {
            cloud,
            server,
            machine,
        }
    }

    pub fn serving(looks: u32) -> Self {
        Self::new(Knobs {
            looks,
            lingers: 1,
            ..Knobs::default()
        })
    }

    /// The platform as the program builds it.
    pub fn platform(&self, options: Options) -> Cloud {
        let mut config = kube::Config::new(self.server.url.parse().unwrap());
        config.auth_info.token = Some(TOKEN.to_owned().into());
        let patience = Patience {
            pace: 0.01,
            ..Patience::default()
        };
        let cluster = Cluster::new(config, patience).unwrap();
        Cloud::new(options, Some(cluster), Some(WORKER_KEY.into()))
    }

    /// Requests that change something.
    pub fn changing(&self) -> Vec<String> {
        let seen = self.server.seen();
        let changing = seen.iter().filter(|request| {
            request.method != "GET"
                && request.parameter("dryRun").is_none()
                && !request.path.contains("/proxy/")
        });
        changing
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }
}

pub fn options() -> Options {
    Options {
        namespace: NAMESPACE.to_owned(),
        ..Options::default()
    }
}

fn name() -> Name {
    Name::parse("one").unwrap()
}

#[test]
fn from_nothing_to_a_prediction_and_a_second_run_changes_nothing() {
    let place = Place::serving(2);
    let made = place.machine.well(&MAKE);
    assert!(made.out.contains("one serves after"), "{made:?}");
    assert!(made.out.contains("http://one.models.svc"), "{made:?}");
    assert!(
        made.out
            .contains("kubectl -n models port-forward service/one 8080:80"),
        "{made:?}"
    );
    assert_eq!(
        place.cloud.objects(),
        [
            "deployments/one",
            "networkpolicies/one",
            "persistentvolumeclaims/one-cache",
            "secrets/one-env",
            "services/one"
        ]
    );
    let secret = place.cloud.object("secrets", "one-env").unwrap();
    assert_eq!(
        secret["data"]["HF_TOKEN"],
        "aGZfYV9tYXJrZWRfc2VjcmV0X3ZhbHVl"
    );
    let env = place
        .cloud
        .object("deployments", "one")
        .unwrap()
        .pointer("/spec/template/spec/containers/0/env")
        .unwrap()
        .clone();
    assert!(
        !env.to_string().contains(SECRET) && env.to_string().contains("secretKeyRef"),
        "{env}"
    );

    let before = place.changing().len();
    let again = place.machine.well(&[&MAKE[..], &["--json"]].concat());
    assert_eq!(
        (&again.json()["created"], &again.json()["changed"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(place.changing().len(), before, "{:?}", place.changing());
    let diff = place.machine.well(&[&MAKE[..], &["--diff"]].concat());
    assert_eq!(diff.out, "nothing differs\n");
}

#[test]
fn what_is_changed_is_changed_and_nothing_else() {
    let place = Place::serving(1);
    place.machine.well(&MAKE);
    let before = place.changing().len();
    let line = [&MAKE[..], &["--cpu-millis", "3000", "--json"]].concat();
    let diff = place.machine.well(&[&line[..], &["--diff"]].concat());
    let fields = |changes: &Value| -> Vec<String> {
        changes
            .as_array()
            .unwrap()
            .iter()
            .map(|change| change["field"].as_str().unwrap().to_owned())
            .collect()
    };
    let wanted = [
        "deployment.spec.template.metadata.annotations.chandler/revision",
        "deployment.spec.template.spec.containers[worker].resources.limits.cpu",
        "deployment.spec.template.spec.containers[worker].resources.requests.cpu",
    ];
    assert_eq!(fields(&diff.json()["changes"]), wanted);
    let changed = place.machine.well(&line);
    assert_eq!(fields(&changed.json()["changed"]), wanted);
    let sent = place.changing();
    assert_eq!(
        sent[before..],
        ["PATCH /apis/apps/v1/namespaces/models/deployments/one"]
    );

    // A new value of a secret: pods are started anew, and the value is shown nowhere.
    let other = Place {
        machine: place.machine.with("HF_TOKEN", "hf_another_marked_value"),
        ..place
    };
    let changed = other.machine.well(&line);
    assert!(
        fields(&changed.json()["changed"]).contains(&"secret.data.HF_TOKEN".to_owned()),
        "{changed:?}"
    );
    let revision = "deployment.spec.template.metadata.annotations.chandler/secret-version";
    assert!(
        fields(&changed.json()["changed"]).contains(&revision.to_owned()),
        "{changed:?}"
    );
    assert!(!format!("{changed:?}").contains("marked"), "{changed:?}");
}

#[test]
fn what_is_no_longer_wanted_goes() {
    let place = Place::serving(1);
    let line = [&MAKE[..], &["--min-workers", "2", "--max-workers", "3"]].concat();
    place.machine.well(&line);
    assert!(
        place
            .cloud
            .objects()
            .contains(&"horizontalpodautoscalers/one".to_owned())
    );
    assert!(
        place
            .cloud
            .objects()
            .contains(&"poddisruptionbudgets/one".to_owned())
    );
    // The autoscaler has set the number of workers, and that is its business.
    let before = place.changing().len();
    place.machine.well(&line);
    assert_eq!(place.changing().len(), before);
    assert_eq!(
        place.cloud.object("deployments", "one").unwrap()["spec"]["replicas"],
        2
    );

    place.machine.well(
        &[
            &MAKE[..],
            &[
                "--max-workers",
                "1",
                "--cache",
                "emptydir",
                "--open-network",
                "--force-conflicts",
            ],
        ]
        .concat(),
    );
    assert_eq!(
        place.cloud.objects(),
        ["deployments/one", "secrets/one-env", "services/one"]
    );
}

#[test]
fn a_field_that_somebody_else_has_changed_is_reported_and_not_taken() {
    let place = Place::serving(1);
    place.machine.well(&MAKE);
    place.cloud.edit(
        "deployments",
        "one",
        &json!({"spec": {"progressDeadlineSeconds": 7}}),
    );
    let refused = place.machine.run(&MAKE);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("kubectl-edit") && refused.err.contains("--force-conflicts"),
        "{refused:?}"
    );
    assert_eq!(
        place.cloud.object("deployments", "one").unwrap()["spec"]["progressDeadlineSeconds"],
        7
    );
    place
        .machine
        .well(&[&MAKE[..], &["--force-conflicts"]].concat());
    assert_eq!(
        place.cloud.object("deployments", "one").unwrap()["spec"]["progressDeadlineSeconds"],
        620
    );
}

#[test]
fn a_name_that_belongs_to_somebody_else_is_left_alone() {
    let place = Place::serving(1);
    place.cloud.put(
        "services",
        json!({"metadata": {"name": "one", "labels": {"app": "theirs"}}}),
    );
    let refused = place.machine.run(&MAKE);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("already has a service called `one`"),
        "{refused:?}"
    );
    assert_eq!(place.cloud.objects(), ["services/one"]);
    assert!(place.changing().is_empty());
}

#[test]
fn a_dry_run_and_yaml_need_no_cluster_and_hold_no_secret() {
    let machine = Machine::new()
        .with("CHANDLER_IMAGE", "registry.example/chandler:cpu")
        .with("HF_TOKEN", SECRET)
        .with("CHANDLER_API_KEYS", WORKER_KEY);
    let dry = machine.well(&[&MAKE[..], &["--dry-run"]].concat());
    assert!(dry.out.contains("PATCH https://{cluster}/apis/apps/v1/namespaces/default/deployments/one?fieldManager=chandler"), "{dry:?}");
    assert!(dry.out.contains("\"HF_TOKEN\": \"********\""), "{dry:?}");
    let yaml = machine.well(&[&MAKE[..], &["--yaml", "--namespace", "models"]].concat());
    assert!(yaml.out.contains("#   kubectl -n models create secret generic one-env --from-literal=CHANDLER_API_KEYS=\"$CHANDLER_API_KEYS\""), "{yaml:?}");
    assert_eq!(yaml.out.matches("---\n").count(), 4, "{yaml:?}");
    assert!(
        yaml.out.contains("kind: Deployment") && !yaml.out.contains("kind: Secret"),
        "{yaml:?}"
    );
    for text in [&dry.out, &yaml.out, &dry.err, &yaml.err] {
        assert!(
            !text.contains(SECRET) && !text.contains("aGZfYV9tYXJrZWRfc2VjcmV0X3ZhbHVl"),
            "{text}"
        );
    }
    let whole = machine.well(&[&MAKE[..], &["--yaml-secrets"]].concat());
    assert!(
        whole
            .out
            .contains("HF_TOKEN: aGZfYV9tYXJrZWRfc2VjcmV0X3ZhbHVl"),
        "{whole:?}"
    );
}

#[tokio::test]
async fn scale_changes_the_bounds_and_the_next_run_finds_them_its_own() {
    let place = Place::serving(0);
    let platform = place.platform(options());
    let mut wanted = deployment("one", Vec::new());
    wanted.scaling.max = 4;
    platform.apply(&wanted, &|_| {}).await.unwrap();
    platform.scale(&name(), (2, 6)).await.unwrap();
    let scaler = place
        .cloud
        .object("horizontalpodautoscalers", "one")
        .unwrap();
    assert_eq!(
        (
            &scaler["spec"]["minReplicas"],
            &scaler["spec"]["maxReplicas"]
        ),
        (&json!(2), &json!(6))
    );
    assert_eq!(platform.status(&name()).await.unwrap().scale, Some((2, 6)));
    // What was scaled is ours, and given back when the deployment says so: no conflict with ourselves.
    let applied = platform.apply(&wanted, &|_| {}).await.unwrap();
    let fields: Vec<&str> = applied
        .changed
        .iter()
        .map(|change| change.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "horizontalpodautoscaler.spec.maxReplicas",
            "horizontalpodautoscaler.spec.minReplicas"
        ]
    );
    assert!(platform.scale(&name(), (0, 0)).await.is_err());
    assert!(
        platform
            .scale(&Name::parse("two").unwrap(), (1, 1))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn every_workers_log_is_told_and_followed() {
    let place = Place::serving(0);
    let platform = place.platform(options());
    let mut wanted = deployment("one", Vec::new());
    wanted.scaling = chandler::provision::Scaling {
        min: 2,
        max: 2,
        ..wanted.scaling
    };
    platform.apply(&wanted, &|_| {}).await.unwrap();
    let lines = std::sync::Mutex::new(Vec::new());
    let sink = |line: &str| {
        lines.lock().unwrap().push(line.to_owned());
        lines.lock().unwrap().len() < 4
    };
    platform.logs(&name(), false, &sink).await.unwrap();
    let mut told = lines.lock().unwrap().clone();
    told.sort();
    assert_eq!(
        told,
        [
            "[one-7d4b9c-0] line one of one-7d4b9c-0",
            "[one-7d4b9c-0] line two of one-7d4b9c-0",
            "[one-7d4b9c-1] line one of one-7d4b9c-1",
            "[one-7d4b9c-1] line two of one-7d4b9c-1",
        ]
    );
    lines.lock().unwrap().clear();
    platform.logs(&name(), true, &sink).await.unwrap();
    assert_eq!(lines.lock().unwrap().len(), 4);
    assert!(
        platform
            .logs(&Name::parse("two").unwrap(), false, &sink)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn kserve_has_one_object_and_is_proved_through_its_service() {
    let place = Place::serving(1);
    let made = place
        .machine
        .well(&[&MAKE[..], &["--kserve", "--cache", "emptydir"]].concat());
    assert!(
        made.out.contains("http://one-models.example.com"),
        "{made:?}"
    );
    assert_eq!(
        place.cloud.objects(),
        [
            "inferenceservices/one",
            "networkpolicies/one",
            "secrets/one-env"
        ]
    );
    let platform = place.platform(Options {
        kserve: true,
        ..options()
    });
    assert_eq!(
        platform.status(&name()).await.unwrap().phase,
        Phase::Serving
    );
    assert!(platform.delete(&name(), &|_| {}).await.unwrap());
    assert!(place.cloud.objects().is_empty());
    let bad = place
        .machine
        .run(&[&MAKE[..], &["--kserve", "--ingress", "a.example"]].concat());
    assert_eq!(bad.code, Some(2), "{bad:?}");
}

#[test]
fn a_cluster_without_keda_says_that_it_needs_it() {
    let place = Place::new(Knobs {
        bare: true,
        ..Knobs::default()
    });
    let queue = [
        "--autoscale",
        "queue",
        "--prometheus",
        "http://prometheus.monitoring:9090",
        "--max-workers",
        "3",
    ];
    let refused = place.machine.run(&[&MAKE[..], &queue].concat());
    assert!(refused.err.contains("install KEDA"), "{refused:?}");
    let missing = place
        .machine
        .run(&[&MAKE[..], &["--autoscale", "queue"]].concat());
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.err.contains("--prometheus"), "{missing:?}");
}
