//! The worker's pod: container, probes, resources, and what it may not do. Apart from the objects around it because KServe
//! wants the same pod in another frame.

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::manifests::Wanted;
use super::options::{Cache, CacheAccess};
use crate::provision::ProvisionError;

/// The user that the image has (docker/Dockerfile).
const USER: u32 = 65_532;
/// Between two questions whether a worker would serve.
const ASK_SECONDS: u64 = 5;
/// Until every load balancer knows that a pod is leaving.
const LEAVE_SECONDS: u64 = 5;
/// For the last bytes after the drain.
const LAST_SECONDS: u64 = 10;
/// What a worker takes when neither a plan nor a person says: enough for the demo model (docker/).
const DEFAULT_CPU_MILLIS: u32 = 2_000;
const DEFAULT_MEMORY_MIB: u64 = 4_096;
/// What a node carries that has a GPU of a kind, by NVIDIA's feature discovery.
pub(super) const PRODUCT: &str = "nvidia.com/gpu.product";
const GPU: &str = "nvidia.com/gpu";

/// The pod's specification.
pub(super) fn spec(wanted: &Wanted<'_>) -> Result<Value, ProvisionError> {
    let options = wanted.options;
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            // A cache with many files is not gone through at every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": LEAVE_SECONDS + drain(wanted) + LAST_SECONDS,
        "containers": [container(wanted)?],
        "volumes": [
            volume(wanted),
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        ],
    });
    let mut set = |key: &str, value: Option<Value>| {
        if let (Some(fields), Some(value)) = (spec.as_object_mut(), value) {
            fields.insert(key.to_owned(), value);
        }
    };
    set(
        "serviceAccountName",
        options.service_account.as_deref().map(Value::from),
    );
    set(
        "runtimeClassName",
        options.runtime_class.as_deref().map(Value::from),
    );
    let pull = options.pull_secret.as_ref();
    set("imagePullSecrets", pull.map(|name| json!([{"name": name}])));
    if !wanted.deployment.hardware.is_empty() {
        // Nodes with GPUs keep others away by this taint on most clouds.
        let toleration = json!([{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]);
        set("tolerations", Some(toleration));
    }
    let (selector, affinity) = place(wanted)?;
    set("nodeSelector", selector);
    set("affinity", affinity);
    Ok(spec)
}

/// Seconds that a worker may take for its last requests.
fn drain(wanted: &Wanted<'_>) -> u64 {
    wanted.deployment.request_timeout.as_secs().max(1)
}

/// Which nodes: by labels that were given, else by the GPU's product. Of several GPUs the first is preferred.
fn place(wanted: &Wanted<'_>) -> Result<(Option<Value>, Option<Value>), ProvisionError> {
    let given = &wanted.options.node_selector;
    if !given.is_empty() {
        return Ok((Some(json!(given)), None));
    }
    let product = |card: &crate::catalog::Hardware| {
        card.kubernetes
            .clone()
            .ok_or_else(|| ProvisionError::Missing {
                platform: super::ID,
                what: format!("the label of nodes that have a {}", card.name),
                remedy: "give --node-selector KEY=VALUE (`kubectl get nodes --show-labels`)"
                    .to_owned(),
            })
    };
    let hardware = &wanted.deployment.hardware;
    let products: Vec<String> = hardware.iter().map(product).collect::<Result<_, _>>()?;
    Ok(match products.as_slice() {
        [] => (None, None),
        [one] => (Some(json!({PRODUCT: one})), None),
        [first, ..] => {
            let among = |values: Value| json!({"matchExpressions": [{"key": PRODUCT, "operator": "In", "values": values}]});
            let affinity = json!({"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [among(json!(products))]},
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": among(json!([first]))}],
            }});
            (None, Some(affinity))
        }
    })
}

fn container(wanted: &Wanted<'_>) -> Result<Value, ProvisionError> {
    let deployment = wanted.deployment;
    let probe = |path: &str, period: u64, timeout: u64, failures: u64| {
        json!({
            "httpGet": {"path": path, "port": "http"},
            "periodSeconds": period,
            "timeoutSeconds": timeout,
            "failureThreshold": failures,
        })
    };
    let starts = deployment
        .start_timeout
        .as_secs()
        .div_ceil(ASK_SECONDS)
        .max(1);
    Ok(json!({
        "name": wanted.container(),
        "image": deployment.image(super::ID)?,
        "args": ["serve"],
        "ports": [{"name": "http", "containerPort": deployment.port()?, "protocol": "TCP"}],
        "env": environment(wanted),
        // Ready when a request would be served; while the model loads nothing restarts it.
        "startupProbe": probe("/isalive", ASK_SECONDS, 3, starts),
        "readinessProbe": probe("/isalive", ASK_SECONDS, 3, 2),
        // Whether the process answers at all: a worker that drains or is full must not be killed for it.
        "livenessProbe": probe("/livez", 10, 5, 6),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", LEAVE_SECONDS.to_string()]}}},
        "resources": resources(wanted),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }))
}

/// Plain variables, and secret ones by reference.
fn environment(wanted: &Wanted<'_>) -> Vec<Value> {
    let deployment = wanted.deployment;
    let mut plain = deployment.environment();
    plain
        .entry("CHANDLER_DRAIN_GRACE".to_owned())
        .or_insert_with(|| format!("{}s", drain(wanted)));
    let plain = plain
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}));
    let secret = Kind::Secret.called(&deployment.name);
    let secrets = deployment.secrets.names().map(
        |name| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}),
    );
    plain.chain(secrets).collect()
}

fn resources(wanted: &Wanted<'_>) -> Value {
    let (options, needs) = (wanted.options, &wanted.deployment.needs);
    let or = |planned: u64, otherwise: u64| match planned {
        0 => otherwise,
        planned => planned,
    };
    let cpu = or(u64::from(needs.cpu_millis), u64::from(DEFAULT_CPU_MILLIS));
    let cpu = options.cpu_millis.map_or(cpu, u64::from);
    let memory = or(needs.host_bytes.div_ceil(1 << 20), DEFAULT_MEMORY_MIB);
    let memory = options.memory_mib.unwrap_or(memory);
    let mut both = Map::new();
    // As written by the API itself, so that nothing seems to differ.
    let cpu = match cpu % 1000 {
        0 => (cpu / 1000).to_string(),
        _ => format!("{cpu}m"),
    };
    both.insert("cpu".to_owned(), cpu.into());
    both.insert("memory".to_owned(), mebibytes(memory).into());
    if !wanted.deployment.hardware.is_empty() {
        both.insert(GPU.to_owned(), "1".into());
    }
    let limits = both.clone();
    if wanted.cache == Cache::EmptyDir {
        let gib = options.cache_gib(needs.disk_bytes);
        both.insert("ephemeral-storage".to_owned(), format!("{gib}Gi").into());
    }
    json!({"requests": both, "limits": limits})
}

fn mebibytes(mib: u64) -> String {
    match mib % 1024 {
        0 => format!("{}Gi", mib / 1024),
        _ => format!("{mib}Mi"),
    }
}

fn volume(wanted: &Wanted<'_>) -> Value {
    let claimed =
        |claim: &str| json!({"name": "cache", "persistentVolumeClaim": {"claimName": claim}});
    match &wanted.cache {
        Cache::Pvc => claimed(&Kind::Claim.called(&wanted.deployment.name)),
        Cache::Claim(name) => claimed(name),
        Cache::EmptyDir => {
            let gib = wanted.options.cache_gib(wanted.deployment.needs.disk_bytes);
            json!({"name": "cache", "emptyDir": {"sizeLimit": format!("{gib}Gi")}})
        }
        Cache::HostPath(path) => {
            json!({"name": "cache", "hostPath": {"path": path, "type": "Directory"}})
        }
    }
}

/// How the pods of a new version take over. A claim that one node holds has to be let go first.
pub(super) fn strategy(wanted: &Wanted<'_>) -> Value {
    match (&wanted.cache, wanted.access) {
        (Cache::Pvc, CacheAccess::Rwo) => json!({"type": "Recreate"}),
        _ => {
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
        }
    }
}
