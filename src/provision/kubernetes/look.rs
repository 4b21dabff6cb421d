//! How a deployment is: what its Deployment says of itself, and why pods do not come up.

use reqwest::Method;
use serde_json::Value;

use super::kind::{APP, INSTANCE, Kind};
use super::manifests::REVISION;
use super::{Kubernetes, pod};
use crate::provision::{Call, MANAGED_BY, Name, Phase, ProvisionError, Secrets, Status, Workers};

/// Reasons for which a container waits and will wait for ever.
const STUCK: [&str; 7] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// Lines of a failed worker's log that are repeated.
const LAST_LINES: u32 = 5;

/// How a pod is.
#[derive(Debug, Clone, PartialEq)]
enum PodState {
    Ready,
    Starting(Option<String>),
    /// No node takes it.
    Waiting(String),
    Failed {
        reason: String,
        ended: bool,
    },
    Leaving,
}

impl Kubernetes {
    /// The workers of a deployment, as the cluster lists them.
    pub(super) async fn pods(&self, name: &Name) -> Result<Vec<Value>, ProvisionError> {
        let cluster = self.cluster()?;
        let url = format!(
            "{}/api/v1/namespaces/{}/pods?labelSelector={}%3D{MANAGED_BY},{}%3D{name}",
            cluster.url,
            self.options.namespace,
            APP.replace('/', "%2F"),
            INSTANCE.replace('/', "%2F"),
        );
        let call = Call::new("list the workers", Method::GET, url);
        let answer = cluster.api.send(&call, &Secrets::default()).await?;
        let items = answer.get("items").and_then(Value::as_array);
        items
            .cloned()
            .ok_or_else(|| cluster.api.malformed(&call, "it has no `items`"))
    }

    pub(super) async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        let kind = match self.options.kserve {
            true => Kind::InferenceService,
            false => Kind::Deployment,
        };
        let Some(main) = self.find(kind, name).await? else {
            return Ok(Status::of(Phase::Absent));
        };
        if main.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(Status::of(Phase::Deleting));
        }
        let pods = self.pods(name).await?;
        let newest = revision(&main, kind);
        let current = pods.iter().filter(|pod| pod_revision(pod) == newest);
        let states: Vec<(&Value, PodState)> = current.map(|pod| (pod, state(pod))).collect();
        let mut status = Status::of(Phase::Creating);
        status.workers = count(&states);
        status.hardware = pods.iter().find_map(hardware);
        status.scale = self.scale_of(name, &main).await?;
        let settled = settled(&main, kind, &pods, newest);
        let failed = states.iter().find_map(|(pod, state)| match state {
            PodState::Failed { reason, ended } => Some((*pod, reason.clone(), *ended)),
            _ => None,
        });
        let waiting = states.iter().find_map(|(_, state)| match state {
            PodState::Waiting(reason) => Some(reason.clone()),
            _ => None,
        });
        (status.phase, status.reason) = if status.workers.ready > 0 && settled {
            (Phase::Serving, failed.map(|(_, reason, _)| reason))
        } else if let Some((pod, reason, ended)) = failed {
            (
                Phase::Failed,
                Some(self.with_last_words(pod, reason, ended).await),
            )
        } else if let Some(reason) = waiting {
            (lacking(&reason), Some(reason))
        } else if !states.is_empty() {
            let reason = states.iter().find_map(|(_, state)| match state {
                PodState::Starting(reason) => reason.clone(),
                _ => None,
            });
            (Phase::Starting, reason)
        } else {
            without_pods(&main, status.scale)
        };
        Ok(status)
    }

    /// A failure, with the worker's last lines where it had any.
    async fn with_last_words(&self, pod: &Value, reason: String, ended: bool) -> String {
        if !ended {
            return reason;
        }
        match self.last_lines(pod, LAST_LINES).await {
            Ok(lines) if !lines.is_empty() => {
                format!("{reason}; its last words: {}", lines.join(" | "))
            }
            // The reason stands without them.
            Ok(_) | Err(_) => reason,
        }
    }

    /// Fewest and most workers: as the autoscaler has them, where there is one.
    async fn scale_of(
        &self,
        name: &Name,
        main: &Value,
    ) -> Result<Option<(u32, u32)>, ProvisionError> {
        let number = |object: &Value, path: &str| {
            let number = object.pointer(path)?.as_u64()?;
            u32::try_from(number).ok()
        };
        if self.options.kserve {
            let of = |key: &str| number(main, &format!("/spec/predictor/{key}"));
            return Ok(of("minReplicas").zip(of("maxReplicas")));
        }
        for (kind, least, most) in [
            (
                Kind::HorizontalAutoscaler,
                "/spec/minReplicas",
                "/spec/maxReplicas",
            ),
            (
                Kind::ScaledObject,
                "/spec/minReplicaCount",
                "/spec/maxReplicaCount",
            ),
        ] {
            if let Some(scaler) = self.find(kind, name).await? {
                return Ok(number(&scaler, least).zip(number(&scaler, most)));
            }
        }
        Ok(number(main, "/spec/replicas").map(|replicas| (replicas, replicas)))
    }
}

/// Whether what serves is the newest version: pods of an older one do not prove it.
fn settled(main: &Value, kind: Kind, pods: &[Value], newest: Option<&str>) -> bool {
    let number = |path: &str| main.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let seen = number("/status/observedGeneration") >= number("/metadata/generation");
    let alone = pods
        .iter()
        .filter(|pod| state(pod) == PodState::Ready)
        .all(|pod| pod_revision(pod) == newest);
    match kind {
        Kind::InferenceService => {
            let ready = condition(main, "Ready");
            let status = ready.and_then(|ready| ready.get("status"));
            alone && status.and_then(Value::as_str) == Some("True")
        }
        _ => {
            let updated = number("/status/updatedReplicas");
            seen && alone && number("/status/readyReplicas") > 0 && updated > 0
        }
    }
}

/// No worker at all: on its way, asleep, or stopped by somebody.
fn without_pods(main: &Value, scale: Option<(u32, u32)>) -> (Phase, Option<String>) {
    let replicas = main.pointer("/spec/replicas").and_then(Value::as_u64);
    let trouble = ["ReplicaFailure", "Progressing", "PredictorReady"]
        .iter()
        .find_map(|kind| {
            let condition = condition(main, kind)?;
            let bad = match *kind {
                "ReplicaFailure" => "True",
                _ => "False",
            };
            let status = condition.get("status")?.as_str()?;
            let message = condition.get("message").and_then(Value::as_str);
            (status == bad).then(|| message.unwrap_or(kind).to_owned())
        });
    match (replicas, scale, trouble) {
        (Some(0), Some((0, most)), _) if most > 0 => (Phase::Asleep, None),
        (Some(0), _, _) => (
            Phase::Failed,
            Some("somebody has set its replicas to 0; `chandler endpoints scale` brings workers back".to_owned()),
        ),
        (_, _, Some(trouble)) => (Phase::Failed, Some(trouble)),
        _ => (Phase::Creating, None),
    }
}

/// What no node takes, by why: only a lack of machines is one of capacity.
fn lacking(reason: &str) -> Phase {
    match reason.contains("PersistentVolumeClaim") || reason.contains("persistentvolumeclaim") {
        true => Phase::Creating,
        false => Phase::NoCapacity,
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let all = object.pointer("/status/conditions")?.as_array()?;
    all.iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
}

/// The version that pods of a deployment should be of.
fn revision(main: &Value, kind: Kind) -> Option<&str> {
    let annotations = match kind {
        Kind::InferenceService => main.pointer("/spec/predictor/annotations"),
        _ => main.pointer("/spec/template/metadata/annotations"),
    };
    annotations?.get(REVISION)?.as_str()
}

fn pod_revision(pod: &Value) -> Option<&str> {
    pod.pointer("/metadata/annotations")?
        .get(REVISION)?
        .as_str()
}

fn count(states: &[(&Value, PodState)]) -> Workers {
    let mut workers = Workers::default();
    for (_, state) in states {
        match state {
            PodState::Ready => workers.ready += 1,
            PodState::Starting(_) => workers.starting += 1,
            PodState::Waiting(_) => workers.waiting += 1,
            PodState::Failed { .. } => workers.failed += 1,
            PodState::Leaving => {}
        }
    }
    workers
}

/// The GPU of the node that a pod was asked onto.
fn hardware(pod: &Value) -> Option<String> {
    let product = pod.pointer("/spec/nodeSelector")?.get(pod::PRODUCT)?;
    product.as_str().map(str::to_owned)
}

fn state(pod: &Value) -> PodState {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return PodState::Leaving;
    }
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    if let Some(unscheduled) = condition(pod, "PodScheduled") {
        let of = |key: &str| unscheduled.get(key).and_then(Value::as_str);
        if of("status") == Some("False") && of("reason") == Some("Unschedulable") {
            return PodState::Waiting(of("message").unwrap_or("no node takes it").to_owned());
        }
    }
    let statuses = pod.pointer("/status/containerStatuses");
    let statuses = statuses.and_then(Value::as_array);
    if let Some(failed) = statuses.and_then(|all| all.iter().find_map(container_failure)) {
        return failed;
    }
    if text("/status/phase") == Some("Failed") {
        let reason = text("/status/message").or(text("/status/reason"));
        return PodState::Failed {
            reason: reason.unwrap_or("the pod failed").to_owned(),
            ended: true,
        };
    }
    let ready = condition(pod, "Ready").and_then(|ready| ready.get("status"));
    if ready.and_then(Value::as_str) == Some("True") {
        return PodState::Ready;
    }
    let waits = statuses.and_then(|all| {
        let waiting = all.iter().find_map(|one| one.pointer("/state/waiting"))?;
        Some(told(waiting))
    });
    PodState::Starting(waits.flatten())
}

/// Why a container will not run, when it will not.
fn container_failure(status: &Value) -> Option<PodState> {
    let last = status.pointer("/lastState/terminated");
    let now = status.pointer("/state/terminated");
    let killed = [now, last]
        .into_iter()
        .flatten()
        .any(|ended| ended.get("reason").and_then(Value::as_str) == Some("OOMKilled"));
    if killed && status.get("ready").and_then(Value::as_bool) != Some(true) {
        return Some(PodState::Failed {
            reason: "the worker was killed for its memory (OOMKilled): give --memory more"
                .to_owned(),
            ended: true,
        });
    }
    let waiting = status.pointer("/state/waiting")?;
    let reason = waiting.get("reason")?.as_str()?;
    STUCK.contains(&reason).then(|| PodState::Failed {
        reason: told(waiting).unwrap_or_else(|| reason.to_owned()),
        ended: reason == "CrashLoopBackOff",
    })
}

fn told(waiting: &Value) -> Option<String> {
    let of = |key: &str| waiting.get(key).and_then(Value::as_str);
    match (of("reason"), of("message")) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (Some(reason), None) => Some(reason.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_no_node_takes_waits_and_one_whose_image_is_missing_has_failed() {
        let pending = json!({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]}});
        let PodState::Waiting(reason) = state(&pending) else {
            panic!("{:?}", state(&pending))
        };
        assert_eq!(lacking(&reason), Phase::NoCapacity);
        assert_eq!(
            lacking("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
            Phase::Creating
        );
        let waiting = |reason: &str| {
            json!({"status": {"phase": "Pending", "containerStatuses": [
                {"ready": false, "state": {"waiting": {"reason": reason, "message": "why"}}}]}})
        };
        assert_eq!(
            state(&waiting("ImagePullBackOff")),
            PodState::Failed {
                reason: "ImagePullBackOff: why".to_owned(),
                ended: false
            }
        );
        assert_eq!(
            state(&waiting("ContainerCreating")),
            PodState::Starting(Some("ContainerCreating: why".to_owned()))
        );
        let killed = json!({"status": {"phase": "Running", "containerStatuses": [
            {"ready": false, "state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}]}});
        assert!(matches!(
            state(&killed),
            PodState::Failed { ended: true, .. }
        ));
    }
}
