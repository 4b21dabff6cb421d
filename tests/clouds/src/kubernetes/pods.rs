//! Controllers, scheduler and kubelet: pods of a deployment come up after some looks, or do not, as the test says.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Fate, Key, State, status};
use crate::{Reply, Request};

/// A deployment's pods, as a list of the workers' state.
pub(super) fn list(state: &mut State, request: &Request) -> Reply {
    let selector = request
        .parameter("labelSelector")
        .unwrap_or_default()
        .to_owned();
    let keys: Vec<Key> = mains(state);
    let mut items = Vec::new();
    for key in keys {
        let object = state.objects[&key].object.clone();
        let version = version(&key, &object);
        *state.pod_looks.entry(version).or_default() += 1;
        items.extend(
            pods(state, &key)
                .into_iter()
                .filter(|pod| super::selected(pod, &selector)),
        );
    }
    Reply::json(
        200,
        &json!({"kind": "PodList", "apiVersion": "v1", "items": items}),
    )
}

fn mains(state: &State) -> Vec<Key> {
    let main = |key: &&Key| ["deployments", "inferenceservices"].contains(&key.0);
    state.objects.keys().filter(main).cloned().collect()
}

/// The template's metadata, which pods inherit.
fn metadata(key: &Key, object: &Value) -> Value {
    match key.0 {
        "deployments" => object["spec"]["template"]["metadata"].clone(),
        _ => json!({
            "labels": object["spec"]["predictor"]["labels"],
            "annotations": object["spec"]["predictor"]["annotations"],
        }),
    }
}

fn version(key: &Key, object: &Value) -> String {
    format!("{} {}", key.1, metadata(key, object)["annotations"])
}

fn pods(state: &State, key: &Key) -> Vec<Value> {
    let object = &state.objects[key].object;
    let replicas = match key.0 {
        "deployments" => object["spec"]["replicas"].as_u64().unwrap_or(1),
        _ => object["spec"]["predictor"]["minReplicas"]
            .as_u64()
            .unwrap_or(1),
    };
    let looks = state
        .pod_looks
        .get(&version(key, object))
        .copied()
        .unwrap_or(0);
    let ready = looks > state.knobs.looks;
    let (phase, conditions, containers) = told(&state.knobs.fate, ready, looks);
    let mut metadata = metadata(key, object);
    let pod = |index: u64| {
        metadata["name"] = format!("{}-7d4b9c-{index}", key.1).into();
        json!({
            "metadata": metadata.clone(),
            "spec": {"nodeSelector": object["spec"]["template"]["spec"]["nodeSelector"]},
            "status": {"phase": phase, "conditions": conditions, "containerStatuses": containers},
        })
    };
    (0..replicas).map(pod).collect()
}

/// Phase, conditions and containers of a pod.
fn told(fate: &Fate, ready: bool, looks: u32) -> (&'static str, Value, Value) {
    let scheduled = |ready: bool| {
        let ready = if ready { "True" } else { "False" };
        json!([{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready}])
    };
    let waiting =
        |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    match fate {
        Fate::Unschedulable(message) => (
            "Pending",
            json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]),
            Value::Null,
        ),
        Fate::NoImage if looks > 1 => {
            let state = waiting("ImagePullBackOff", "Back-off pulling image");
            (
                "Pending",
                scheduled(false),
                container(false, state, json!({}), 0),
            )
        }
        Fate::Crash(_) if looks > 1 => {
            let state = waiting(
                "CrashLoopBackOff",
                "back-off 10s restarting failed container",
            );
            let last = json!({"terminated": {"reason": "Error", "exitCode": 2}});
            (
                "Running",
                scheduled(false),
                container(false, state, last, 2),
            )
        }
        Fate::Killed if looks > 1 => {
            let last = json!({"terminated": {"reason": "OOMKilled", "exitCode": 137}});
            (
                "Running",
                scheduled(false),
                container(false, json!({"running": {}}), last, 1),
            )
        }
        Fate::Serve if ready => (
            "Running",
            scheduled(true),
            container(true, json!({"running": {}}), json!({}), 0),
        ),
        _ if looks <= 1 => {
            let state = waiting("ContainerCreating", "pulling");
            (
                "Pending",
                scheduled(false),
                container(false, state, json!({}), 0),
            )
        }
        _ => {
            let state = json!({"running": {}});
            (
                "Running",
                scheduled(false),
                container(false, state, json!({}), 0),
            )
        }
    }
}

/// A worker's container that is not ready, or is.
fn container(ready: bool, state: Value, last: Value, restarts: u32) -> Value {
    json!([{"name": "worker", "ready": ready, "restartCount": restarts, "state": state, "lastState": last}])
}

/// What controllers write when somebody looks at an object.
pub(super) fn control(state: &mut State, key: &Key) {
    match key.0 {
        "deployments" => deployment(state, key),
        "inferenceservices" => {
            let ready = any_ready(state, &key.1);
            let object = &mut state.objects.get_mut(key).unwrap().object;
            let told = if ready { "True" } else { "False" };
            object["status"] = json!({
                "conditions": [{"type": "Ready", "status": told}],
                "url": format!("http://{}-models.example.com", key.1),
            });
        }
        _ => {}
    }
}

fn deployment(state: &mut State, key: &Key) {
    // The autoscaler sets the number, as another owner of it.
    let name = key.1.clone();
    let scaler = state.objects.get(&("horizontalpodautoscalers", name));
    let least = scaler.and_then(|scaler| scaler.object["spec"]["minReplicas"].as_u64());
    let now = state.objects[key].object["spec"]["replicas"]
        .as_u64()
        .unwrap_or(1);
    if let Some(least) = least.filter(|least| now < *least) {
        let patch = json!({"spec": {"replicas": least}});
        super::apply::update(state, key.clone(), &patch, "kube-controller-manager");
    }
    let all = pods(state, key);
    let ready = all.iter().filter(|pod| is_ready(pod)).count();
    let object = &mut state.objects.get_mut(key).unwrap().object;
    object["status"] = json!({
        "observedGeneration": object["metadata"]["generation"],
        "replicas": all.len(), "updatedReplicas": all.len(), "readyReplicas": ready,
    });
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether a service of this name has a pod behind it.
pub(super) fn any_ready(state: &State, service: &str) -> bool {
    let name = service.strip_suffix("-predictor").unwrap_or(service);
    let mains = mains(state);
    let mut of = mains.iter().filter(|key| key.1 == name);
    of.any(|key| pods(state, key).iter().any(is_ready))
}

/// A worker's log.
pub(super) fn log(state: &State, pod: &str, request: &Request) -> Reply {
    let known = ["container", "follow", "tailLines", "previous"];
    if let Some((key, _)) = request
        .query
        .iter()
        .find(|(key, _)| !known.contains(&key.as_str()))
    {
        return status(400, "BadRequest", &format!("unknown parameter {key}"));
    }
    let mains = mains(state);
    let exists = mains.iter().any(|key| {
        pods(state, key)
            .iter()
            .any(|one| one["metadata"]["name"] == pod)
    });
    if !exists {
        return status(404, "NotFound", &format!("pods \"{pod}\" not found"));
    }
    let text = match &state.knobs.fate {
        Fate::Crash(lines) => lines.clone(),
        _ => format!("line one of {pod}\nline two of {pod}\n"),
    };
    match request.parameter("follow") {
        Some("true") => {
            let pieces = text
                .split_inclusive('\n')
                .map(|line| (Duration::from_millis(20), line.to_owned().into()));
            Reply::stream("text/plain", pieces.collect())
        }
        _ => Reply::bytes(200, "text/plain", text),
    }
}
