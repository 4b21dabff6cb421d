//! How the number of workers follows the load: Kubernetes' own autoscaler by processors, or KEDA by the requests that wait and
//! run, which workers tell Prometheus.

use serde_json::{Value, json};

use super::ID;
use super::manifests::Wanted;
use super::options::{Autoscale, Options};
use crate::provision::{Deployment, ProvisionError};

/// How busy processors are when another worker comes, in percent.
const BUSY: u32 = 80;
/// Seconds between KEDA's questions.
const POLLING: u32 = 15;

/// What the number follows: what was said, else the processors where there may be several workers.
pub(super) fn mode(
    deployment: &Deployment,
    options: &Options,
) -> Result<Autoscale, ProvisionError> {
    let (min, max) = (deployment.scaling.min, deployment.scaling.max);
    let said = options.autoscale;
    if said == Some(Autoscale::Queue) && options.prometheus.is_none() && !options.kserve {
        return Err(ProvisionError::Missing {
            platform: ID,
            what: "the address of Prometheus for --autoscale queue".to_owned(),
            remedy: "give --prometheus URL, as KEDA reaches it".to_owned(),
        });
    }
    if said != Some(Autoscale::Queue) && options.wake_query.is_some() {
        return Err(ProvisionError::invalid(
            "--wake-query",
            options.wake_query.as_deref().unwrap_or_default(),
            "it is for --autoscale queue",
        ));
    }
    Ok(said.unwrap_or(match max > min.max(1) {
        true => Autoscale::Cpu,
        false => Autoscale::Off,
    }))
}

/// Fewest and most workers. Only KEDA wakes a sleeping endpoint, and only by a number that is there without workers.
pub(super) fn range(
    deployment: &Deployment,
    options: &Options,
    autoscale: Autoscale,
) -> (u32, u32) {
    let (min, max) = (deployment.scaling.min, deployment.scaling.max);
    let wakes = autoscale == Autoscale::Queue && options.wake_query.is_some();
    match (autoscale, wakes) {
        (Autoscale::Off, _) => (max, max),
        (_, true) => (min, max),
        (_, false) => (min.max(1), max),
    }
}

pub(super) fn by_cpu(wanted: &Wanted<'_>) -> Value {
    let (min, max) = wanted.scale;
    let idle = wanted.deployment.scaling.idle.as_secs().min(3600);
    json!({"spec": {
        "scaleTargetRef": target(wanted),
        "minReplicas": min,
        "maxReplicas": max,
        "metrics": [{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": BUSY}},
        }],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": idle}},
    }})
}

pub(super) fn by_queue(wanted: &Wanted<'_>) -> Value {
    let (min, max) = wanted.scale;
    let name = &wanted.deployment.name;
    let namespace = &wanted.options.namespace;
    let address = wanted.options.prometheus.as_deref().unwrap_or_default();
    let of = |gauge: &str| format!("sum({gauge}{{namespace=\"{namespace}\",pod=~\"{name}-.+\"}})");
    let waiting = format!(
        "{} + {}",
        of("chandler_queue_depth"),
        of("chandler_running")
    );
    let trigger = |query: &str, threshold: String| {
        json!({
            "type": "prometheus",
            "metadata": {"serverAddress": address, "query": query, "threshold": threshold},
        })
    };
    let concurrency = wanted.deployment.scaling.concurrency.max(1);
    let mut triggers = vec![trigger(&waiting, concurrency.to_string())];
    if let Some(query) = &wanted.options.wake_query {
        // Any of it wakes one worker; how many there are after that is the queue's business.
        triggers.push(trigger(query, u32::MAX.to_string()));
    }
    json!({"spec": {
        "scaleTargetRef": target(wanted),
        "minReplicaCount": min,
        "maxReplicaCount": max,
        "pollingInterval": POLLING,
        "cooldownPeriod": wanted.deployment.scaling.idle.as_secs(),
        "triggers": triggers,
    }})
}

fn target(wanted: &Wanted<'_>) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": wanted.deployment.name})
}
