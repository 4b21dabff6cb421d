//! What there is on Vertex AI, read from its documents: what is compared, what is deployed, how it is.

use serde_json::Value;

use super::request::{self, Placement};
use super::{ID, Options, Vertex};
use crate::provision::google::{
    Facts, Operation, changes, entries, environment, fact, is_ours, labels, no_capacity, number,
    text,
};
use crate::provision::{Change, Deployment, Name, Phase, ProvisionError, Status, Workers};

/// Fields of a container that are compared.
const CONTAINER: [&str; 8] = [
    "imageUri",
    "predictRoute",
    "invokeRoutePrefix",
    "healthRoute",
    "deploymentTimeout",
    "startupProbe/httpGet/path",
    "startupProbe/failureThreshold",
    "ports/0/containerPort",
];

/// What is compared of a model.
pub(super) fn of_model(model: &Value, wanted: &Deployment) -> Facts {
    let mut facts = Facts::new();
    for field in CONTAINER {
        let value = model.pointer(&format!("/containerSpec/{field}"));
        fact(
            &mut facts,
            &format!("container.{}", field.replace('/', ".")),
            value,
        );
    }
    fact(&mut facts, "artifacts", model.get("artifactUri"));
    let list = model.pointer("/containerSpec/env");
    environment(&mut facts, list.unwrap_or(&Value::Null), wanted);
    facts
}

/// What is compared of an endpoint.
pub(super) fn of_endpoint(endpoint: &Value) -> Facts {
    let mut facts = Facts::new();
    labels(&mut facts, endpoint);
    let timeout = endpoint.pointer("/clientConnectionConfig/inferenceTimeout");
    fact(&mut facts, "request_timeout", timeout);
    facts
}

/// What is compared of a deployed model, apart from its version.
fn of_deployed(deployed: &Value) -> Facts {
    let mut facts = Facts::new();
    for (field, pointer) in [
        ("machine", "/dedicatedResources/machineSpec/machineType"),
        (
            "accelerator",
            "/dedicatedResources/machineSpec/acceleratorType",
        ),
        ("service_account", "/serviceAccount"),
    ] {
        fact(&mut facts, field, deployed.pointer(pointer));
    }
    for (field, pointer) in [
        ("workers.min", "/dedicatedResources/minReplicaCount"),
        ("workers.max", "/dedicatedResources/maxReplicaCount"),
    ] {
        let workers = number(deployed, pointer);
        // The most are the fewest when nothing is said.
        let workers = match workers {
            0 => number(deployed, "/dedicatedResources/minReplicaCount"),
            workers => workers,
        };
        facts.insert(field.to_owned(), workers.to_string());
    }
    facts
}

fn of_placement(placement: &Placement) -> Facts {
    let mut facts = Facts::new();
    let text = |text: &str| Value::String(text.to_owned());
    fact(
        &mut facts,
        "machine",
        Some(&text(&placement.machine.machine)),
    );
    let accelerator = placement.machine.accelerator.as_deref().map(text);
    fact(&mut facts, "accelerator", accelerator.as_ref());
    let account = placement.service_account.as_deref().map(text);
    fact(&mut facts, "service_account", account.as_ref());
    facts.insert("workers.min".to_owned(), placement.scale.0.to_string());
    facts.insert("workers.max".to_owned(), placement.scale.1.to_string());
    facts
}

/// What differs between a deployed model and what should be: machine and account first, then the number of workers.
pub(super) fn of_placements(deployed: &Value, placement: &Placement) -> (Vec<Change>, Vec<Change>) {
    changes(&of_deployed(deployed), &of_placement(placement))
        .into_iter()
        .partition(|change| !change.field.starts_with("workers."))
}

/// Deployed models of an endpoint; the one that gets most requests last.
pub(super) fn deployed(endpoint: &Value) -> Vec<&Value> {
    let share = |deployed: &Value| {
        let share = endpoint.pointer(&format!("/trafficSplit/{}", text(deployed, "/id")));
        share.and_then(Value::as_u64).unwrap_or(0)
    };
    let mut all: Vec<&Value> = entries(endpoint, "/deployedModels").iter().collect();
    all.sort_by_key(|deployed| share(deployed));
    all
}

/// Whether a deployed model gets all requests.
pub(super) fn has_all_traffic(endpoint: &Value, deployed: &str) -> bool {
    let share = endpoint.pointer(&format!("/trafficSplit/{deployed}"));
    share.and_then(Value::as_u64) == Some(100)
}

/// Nothing that somebody else made is touched.
pub(super) fn own<'a>(
    thing: Option<&'a Value>,
    what: &'static str,
    name: &Name,
) -> Result<Option<&'a Value>, ProvisionError> {
    match thing {
        Some(thing) if !is_ours(thing, name) => Err(ProvisionError::Foreign {
            platform: ID,
            what,
            name: name.to_string(),
        }),
        thing => Ok(thing),
    }
}

impl Vertex {
    /// What exists and differs.
    pub(super) async fn compare(
        &self,
        wanted: &Deployment,
    ) -> Result<Option<Vec<Change>>, ProvisionError> {
        request::check(wanted)?;
        let placement = Placement::of(wanted, &self.options)?;
        let name = &wanted.name;
        let (model, endpoint) = (self.model(name).await?, self.endpoint(name).await?);
        let model = own(model.as_ref(), "model", name)?;
        let endpoint = own(endpoint.as_ref(), "endpoint", name)?;
        if model.is_none() && endpoint.is_none() {
            return Ok(None);
        }
        let mut all = Vec::new();
        if let Some(model) = model {
            all.extend(model_changes(model, wanted, &self.options)?);
        }
        if let Some(endpoint) = endpoint {
            all.extend(changes(
                &of_endpoint(endpoint),
                &of_endpoint(&request::endpoint(wanted)),
            ));
        }
        match endpoint.and_then(|endpoint| deployed(endpoint).last().copied()) {
            Some(deployed) => {
                let (other, scale) = of_placements(deployed, &placement);
                all.extend(other.into_iter().chain(scale));
            }
            None => all.push(Change {
                field: "deployed".to_owned(),
                from: String::new(),
                to: placement.machine.to_string(),
            }),
        }
        Ok(Some(all))
    }

    pub(super) async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        let Some(endpoint) = self.endpoint(name).await? else {
            return Ok(match self.model(name).await? {
                Some(model) if is_ours(&model, name) => Status::of(Phase::Creating).because(
                    "the model is uploaded and there is no endpoint: run provision again, or delete it",
                ),
                _ => Status::of(Phase::Absent),
            });
        };
        own(Some(&endpoint), "endpoint", name)?;
        let operations = self.operations("endpoint", name.as_str()).await?;
        let under_way = operations
            .iter()
            .any(|operation| Operation::read(operation) == Operation::Pending);
        Ok(match deployed(&endpoint).last() {
            Some(deployed) => of_workers(deployed, under_way),
            None if under_way => Status::of(Phase::Creating).because("the model is being deployed"),
            None => of_nothing(&operations),
        })
    }
}

/// What differs between a model and what it should be: a new version makes up for it.
pub(super) fn model_changes(
    model: &Value,
    wanted: &Deployment,
    options: &Options,
) -> Result<Vec<Change>, ProvisionError> {
    let should = request::model(wanted, options)?;
    Ok(changes(
        &of_model(model, wanted),
        &of_model(&should, wanted),
    ))
}

/// How a deployed model is.
pub(super) fn of_workers(deployed: &Value, under_way: bool) -> Status {
    let scale = (
        number(deployed, "/dedicatedResources/minReplicaCount"),
        number(deployed, "/dedicatedResources/maxReplicaCount"),
    );
    let ready = match deployed.get("status") {
        Some(status) => number(status, "/availableReplicaCount"),
        // A model is listed when its replicas have passed their health checks, and while its operation runs.
        None if under_way => 0,
        None => scale.0,
    };
    let mut status = Status::of(match ready {
        0 => Phase::Starting,
        _ => Phase::Serving,
    });
    status.workers = Workers {
        ready,
        starting: scale.0.saturating_sub(ready),
        ..Workers::default()
    };
    let said = text(deployed, "/status/message");
    status.reason = (!said.is_empty()).then(|| said.to_owned());
    let machine = |pointer| text(deployed, pointer).to_owned();
    let kind = machine("/dedicatedResources/machineSpec/machineType");
    let accelerator = machine("/dedicatedResources/machineSpec/acceleratorType");
    status.hardware = Some(match accelerator.as_str() {
        "" => kind,
        accelerator => format!("{kind} with {accelerator}"),
    });
    status.scale = Some((scale.0, scale.1.max(scale.0)));
    status
}

/// How an endpoint is on which nothing is deployed and nothing is under way: as its last operation says.
pub(super) fn of_nothing(operations: &[Value]) -> Status {
    let when = |operation: &Value| {
        let time = "/metadata/genericMetadata/createTime";
        text(operation, time).to_owned()
    };
    let last = operations.iter().max_by_key(|operation| when(operation));
    match last.map(Operation::read) {
        Some(Operation::Failed { code, message }) => {
            let phase = match no_capacity(Some(code), &message) {
                true => Phase::NoCapacity,
                false => Phase::Failed,
            };
            Status::of(phase).because(message)
        }
        _ => Status::of(Phase::Creating)
            .because("nothing is deployed on the endpoint: run provision again, or delete it"),
    }
}
