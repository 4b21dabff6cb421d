//! What there is on Cloud Run, read from a service's document: what is compared, and how it is.

use serde_json::Value;

use super::request;
use super::{CloudRun, ID, Options};
use crate::provision::google::{
    Facts, changes, environment, fact, is_ours, labels, no_capacity, number, text,
};
use crate::provision::{Change, Deployment, Name, Phase, ProvisionError, Status, Workers};

/// What is compared: our word for it, and where it stands.
const FIELDS: [(&str, &str); 18] = [
    ("ingress", "/ingress"),
    ("container.image", "/template/containers/0/image"),
    (
        "container.port",
        "/template/containers/0/ports/0/containerPort",
    ),
    (
        "container.startup_probe.path",
        "/template/containers/0/startupProbe/httpGet/path",
    ),
    (
        "container.startup_probe.failures",
        "/template/containers/0/startupProbe/failureThreshold",
    ),
    (
        "container.liveness_probe.path",
        "/template/containers/0/livenessProbe/httpGet/path",
    ),
    ("cpu", "/template/containers/0/resources/limits/cpu"),
    ("memory", "/template/containers/0/resources/limits/memory"),
    (
        "gpu",
        "/template/containers/0/resources/limits/nvidia.com~1gpu",
    ),
    ("cpu_idle", "/template/containers/0/resources/cpuIdle"),
    ("accelerator", "/template/nodeSelector/accelerator"),
    ("workers.min", "/template/scaling/minInstanceCount"),
    ("workers.max", "/template/scaling/maxInstanceCount"),
    ("concurrency", "/template/maxInstanceRequestConcurrency"),
    ("request_timeout", "/template/timeout"),
    ("volume.bucket", "/template/volumes/0/gcs/bucket"),
    ("volume.options", "/template/volumes/0/gcs/mountOptions"),
    ("execution", "/template/executionEnvironment"),
];

fn facts(service: &Value, wanted: &Deployment, options: &Options) -> Facts {
    let mut facts = Facts::new();
    for (field, pointer) in FIELDS {
        fact(&mut facts, field, service.pointer(pointer));
    }
    // Where nobody said which account, Cloud Run says the default one.
    if options.service_account.is_some() {
        let account = service.pointer("/template/serviceAccount");
        fact(&mut facts, "service_account", account);
    }
    let list = service.pointer("/template/containers/0/env");
    environment(&mut facts, list.unwrap_or(&Value::Null), wanted);
    labels(&mut facts, service);
    facts
}

/// What differs between a service and what it should be.
pub(super) fn differs(
    there: &Value,
    wanted: &Deployment,
    options: &Options,
) -> Result<Vec<Change>, ProvisionError> {
    let should = request::service(wanted, options)?;
    Ok(changes(
        &facts(there, wanted, options),
        &facts(&should, wanted, options),
    ))
}

/// The fields of a service that hold what differs.
pub(super) fn fields(changes: &[Change]) -> Vec<&'static str> {
    let field = |change: &Change| match change.field.as_str() {
        "ingress" => "ingress",
        label if label.starts_with("labels.") => "labels",
        _ => "template",
    };
    let mut all: Vec<&str> = changes.iter().map(field).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Nothing that somebody else made is touched.
pub(super) fn own<'a>(
    service: Option<&'a Value>,
    name: &Name,
) -> Result<Option<&'a Value>, ProvisionError> {
    match service {
        Some(service) if !is_ours(service, name) => Err(ProvisionError::Foreign {
            platform: ID,
            what: "service",
            name: name.to_string(),
        }),
        service => Ok(service),
    }
}

/// How a service is, by its last word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Ready,
    UnderWay,
    Failed(String),
}

pub(super) fn condition(service: &Value) -> Condition {
    let state = text(service, "/terminalCondition/state");
    let reconciling = service.get("reconciling") == Some(&Value::Bool(true));
    match state {
        _ if reconciling => Condition::UnderWay,
        "CONDITION_SUCCEEDED" => Condition::Ready,
        "CONDITION_FAILED" => Condition::Failed(reason(service)),
        _ => Condition::UnderWay,
    }
}

/// What it says about itself: `HEALTH_CHECK_CONTAINER_ERROR: the container failed to start`.
fn reason(service: &Value) -> String {
    let message = text(service, "/terminalCondition/message");
    let reason = [
        "/terminalCondition/revisionReason",
        "/terminalCondition/reason",
    ]
    .into_iter()
    .map(|pointer| text(service, pointer))
    .find(|reason| !reason.is_empty());
    match (reason, message) {
        (Some(reason), "") => reason.to_owned(),
        (Some(reason), message) => format!("{reason}: {message}"),
        (None, "") => "Cloud Run gives no reason".to_owned(),
        (None, message) => message.to_owned(),
    }
}

/// How it is, in everybody's words. Cloud Run does not say how many workers run: one that may sleep is said to sleep.
pub(super) fn status(service: &Value) -> Status {
    let min = number(service, "/template/scaling/minInstanceCount");
    let max = number(service, "/template/scaling/maxInstanceCount");
    let mut status = match condition(service) {
        _ if service.get("deleteTime").is_some() => Status::of(Phase::Deleting),
        Condition::UnderWay => {
            let said = text(service, "/terminalCondition/message");
            let status = Status::of(Phase::Creating);
            match said {
                "" => status,
                said => status.because(said),
            }
        }
        Condition::Ready if min == 0 => Status::of(Phase::Asleep)
            .because("its revision has started once; a request starts a worker when none runs"),
        Condition::Ready => Status::of(Phase::Serving),
        Condition::Failed(reason) => {
            let phase = match no_capacity(None, &reason) {
                true => Phase::NoCapacity,
                false => Phase::Failed,
            };
            Status::of(phase).because(reason)
        }
    };
    if status.phase == Phase::Serving {
        status.workers = Workers {
            ready: min,
            ..Workers::default()
        };
    }
    status.scale = Some((min, max));
    let limit = |name: &str| {
        let pointer = format!("/template/containers/0/resources/limits/{name}");
        text(service, &pointer).to_owned()
    };
    let machine = format!("{} vCPU, {}", limit("cpu"), limit("memory"));
    status.hardware = Some(match text(service, "/template/nodeSelector/accelerator") {
        "" => machine,
        accelerator => format!("{accelerator}, {machine}"),
    });
    status
}

impl CloudRun {
    /// What exists and differs; who may call it among it.
    pub(super) async fn compare(
        &self,
        wanted: &Deployment,
    ) -> Result<Option<Vec<Change>>, ProvisionError> {
        let there = self.service(&wanted.name).await?;
        let Some(there) = own(there.as_ref(), &wanted.name)? else {
            return Ok(None);
        };
        let mut all = differs(there, wanted, &self.options)?;
        if self.wrong_policy(&wanted.name).await?.is_some() {
            all.push(access_change(self.options.public));
        }
        Ok(Some(all))
    }

    pub(super) async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        match self.service(name).await? {
            Some(there) => {
                own(Some(&there), name)?;
                Ok(status(&there))
            }
            None => Ok(Status::of(Phase::Absent)),
        }
    }
}

/// Who may call it.
pub(super) fn access_change(public: bool) -> Change {
    let word = |public| match public {
        true => "everybody",
        false => "whoever has the role run.invoker",
    };
    Change {
        field: "access".to_owned(),
        from: word(!public).to_owned(),
        to: word(public).to_owned(),
    }
}
