//! Requests to Vertex AI as data: pure functions of a deployment, which the dry run, the work and the tests share.
//!
//! Models and endpoints get the deployment's name as their id (`modelId`, `endpointId`), so that a second one cannot come into
//! being however many answers are lost.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::machine::{self, Machine};
use super::{ID, Options};
use crate::provision::google::seconds;
use crate::provision::{Call, Deployment, Name, ProvisionError};

/// The port in the container; what Vertex AI takes by itself.
const PORT: u16 = 8080;
/// Where the worker says that it would serve; liveness is Vertex AI's own look at the port.
const READY: &str = "/isalive";
/// The worker's route of instances and predictions.
const PREDICT: &str = "/predict";
/// `deploymentTimeout` at most.
const LONGEST_START: Duration = Duration::from_secs(7200);
/// `inferenceTimeout` at most.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
/// Seconds between two probes, and how long one may take: neither longer than the other, since Google's documents contradict
/// each other on which may be.
const PROBE: u64 = 10;

/// Builds requests; `charged` is the project of a user's login.
pub(super) struct Requests<'a> {
    pub options: &'a Options,
    pub charged: Option<&'a str>,
}

/// What is deployed: which version, on what, how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    pub machine: Machine,
    pub service_account: Option<String>,
    pub scale: (u32, u32),
}

impl Placement {
    pub(super) fn of(wanted: &Deployment, options: &Options) -> Result<Self, ProvisionError> {
        Ok(Self {
            machine: machine::choose(wanted, options.machine.as_deref())?,
            service_account: options.service_account.clone(),
            scale: (wanted.scaling.min, wanted.scaling.max),
        })
    }
}

/// What stands in the way of a deployment on Vertex AI.
pub(super) fn check(wanted: &Deployment) -> Result<(), ProvisionError> {
    wanted.image(ID)?;
    if wanted.scaling.min == 0 {
        return Err(ProvisionError::invalid(
            "--min-workers",
            "0",
            "Vertex AI keeps one worker at least, which costs all the time; give --min-workers 1, or use cloudrun, which \
             sleeps",
        ));
    }
    let longer = |field, time: Duration, most: Duration| match time > most {
        true => Err(ProvisionError::invalid(
            field,
            &format!("{} s", time.as_secs()),
            format!("Vertex AI allows {} s at most", most.as_secs()),
        )),
        false => Ok(()),
    };
    longer("--start-timeout", wanted.start_timeout, LONGEST_START)?;
    longer("--request-timeout", wanted.request_timeout, LONGEST_REQUEST)?;
    let names = wanted.environment_with_placeholders();
    match names.keys().find(|name| name.starts_with("AIP_")) {
        Some(name) => Err(ProvisionError::invalid(
            "--env",
            name,
            "Vertex AI sets the variables that begin with AIP_ itself",
        )),
        None => Ok(()),
    }
}

impl Requests<'_> {
    fn call(&self, purpose: &str, method: Method, path: &str) -> Call {
        let call = Call::new(purpose, method, format!("{}{path}", self.options.base()));
        match self.charged {
            Some(project) => call.header("x-goog-user-project", project),
            None => call,
        }
    }

    /// The first version of a model, or one more.
    pub(super) fn upload(&self, wanted: &Deployment, more: bool) -> Result<Call, ProvisionError> {
        let name = &wanted.name;
        let mut body = Map::new();
        match more {
            true => body.insert("parentModel".to_owned(), self.options.model(name).into()),
            false => body.insert("modelId".to_owned(), name.as_str().into()),
        };
        body.insert("model".to_owned(), model(wanted, self.options)?);
        let purpose = match more {
            true => "upload a new version of the model",
            false => "upload the model",
        };
        Ok(self
            .call(purpose, Method::POST, "/models:upload")
            .with(Value::Object(body)))
    }

    pub(super) fn create(&self, wanted: &Deployment) -> Call {
        let path = format!("/endpoints?endpointId={}", wanted.name);
        self.call("create the endpoint", Method::POST, &path)
            .with(endpoint(wanted))
    }

    pub(super) fn label(&self, wanted: &Deployment) -> Call {
        let path = format!("/endpoints/{}?updateMask=labels", wanted.name);
        self.call("label the endpoint", Method::PATCH, &path)
            .with(json!({"labels": wanted.labels()}))
            .repeatable()
    }

    /// How long a request may take is changed by a call of its own.
    pub(super) fn connect(&self, wanted: &Deployment) -> Call {
        let path = format!("/endpoints/{}:update", wanted.name);
        let endpoint = json!({
            "name": self.options.endpoint(&wanted.name),
            "clientConnectionConfig": connection(wanted),
        });
        self.call("change the request timeout", Method::POST, &path)
            .with(json!({"endpoint": endpoint}))
            .repeatable()
    }

    /// Deploys a version and sends it all requests once it serves.
    pub(super) fn deploy(&self, name: &Name, version: &str, placement: &Placement) -> Call {
        let machine = &placement.machine;
        let mut spec = json!({"machineType": machine.machine});
        if let (Some(accelerator), Some(spec)) = (&machine.accelerator, spec.as_object_mut()) {
            spec.insert("acceleratorType".to_owned(), accelerator.as_str().into());
            spec.insert("acceleratorCount".to_owned(), 1.into());
        }
        let mut deployed = json!({
            "model": format!("{}@{version}", self.options.model(name)),
            "displayName": name,
            "dedicatedResources": {
                "machineSpec": spec,
                "minReplicaCount": placement.scale.0,
                "maxReplicaCount": placement.scale.1,
            },
        });
        if let (Some(account), Some(deployed)) =
            (&placement.service_account, deployed.as_object_mut())
        {
            deployed.insert("serviceAccount".to_owned(), account.as_str().into());
        }
        let path = format!("/endpoints/{name}:deployModel");
        self.call("deploy the model", Method::POST, &path)
            .with(json!({"deployedModel": deployed, "trafficSplit": {"0": 100}}))
    }

    pub(super) fn scale(&self, name: &Name, deployed: &str, (min, max): (u32, u32)) -> Call {
        let path = format!("/endpoints/{name}:mutateDeployedModel");
        let resources = json!({"minReplicaCount": min, "maxReplicaCount": max});
        let mask = "dedicatedResources.minReplicaCount,dedicatedResources.maxReplicaCount";
        self.call("change the number of workers", Method::POST, &path)
            .with(json!({
                "deployedModel": {"id": deployed, "dedicatedResources": resources}, "updateMask": mask,
            }))
            .repeatable()
    }

    pub(super) fn route(&self, name: &Name, deployed: &str) -> Call {
        let path = format!("/endpoints/{name}?updateMask=trafficSplit");
        self.call("send all requests to the new version", Method::PATCH, &path)
            .with(json!({"trafficSplit": {deployed: 100}}))
            .repeatable()
    }

    pub(super) fn undeploy(&self, name: &Name, deployed: &str) -> Call {
        let path = format!("/endpoints/{name}:undeployModel");
        self.call("undeploy the model", Method::POST, &path)
            .with(json!({"deployedModelId": deployed}))
    }

    pub(super) fn delete(&self, kind: &str, id: &str) -> Call {
        self.call(
            &format!("delete the {kind}"),
            Method::DELETE,
            &format!("/{kind}s/{id}"),
        )
    }
}

/// The model as it should be.
pub(super) fn model(wanted: &Deployment, options: &Options) -> Result<Value, ProvisionError> {
    // Vertex AI copies a bucket's prefix to where the worker may read it, and tells it by AIP_STORAGE_URI: the container's own
    // account has no access to a project's buckets.
    let artifacts = wanted.served.model.starts_with("gs://");
    let variable = |(name, value): (String, String)| json!({"name": name, "value": value});
    let environment: Vec<Value> = wanted
        .environment_with_placeholders()
        .into_iter()
        .filter(|(name, _)| !(artifacts && name == "CHANDLER_MODEL"))
        .map(variable)
        .collect();
    let start = wanted.start_timeout.as_secs();
    let mut container = json!({
        "imageUri": wanted.image(ID)?,
        "env": environment,
        "ports": [{"containerPort": PORT}],
        "healthRoute": READY,
        "deploymentTimeout": seconds(wanted.start_timeout),
        "startupProbe": {
            "httpGet": {"path": READY, "port": PORT},
            "periodSeconds": PROBE, "timeoutSeconds": PROBE,
            "failureThreshold": start.div_ceil(PROBE).max(1),
        },
    });
    let route = match options.invoke {
        true => ("invokeRoutePrefix", "/*"),
        // `:predict` is the way in that every client of Vertex AI has, and rawPredict and streamRawPredict bring any OpenAI
        // body to the same route; a model has one or the other.
        false => ("predictRoute", PREDICT),
    };
    if let Some(container) = container.as_object_mut() {
        container.insert(route.0.to_owned(), route.1.into());
    }
    let mut model = json!({
        "displayName": wanted.name, "labels": wanted.labels(), "versionAliases": ["default"],
        "containerSpec": container,
    });
    if let (true, Some(model)) = (artifacts, model.as_object_mut()) {
        let place = wanted.served.model.as_str();
        model.insert("artifactUri".to_owned(), place.into());
    }
    Ok(model)
}

fn connection(wanted: &Deployment) -> Value {
    json!({"inferenceTimeout": seconds(wanted.request_timeout)})
}

/// The endpoint as it should be, without what is deployed on it.
pub(super) fn endpoint(wanted: &Deployment) -> Value {
    json!({
        "displayName": wanted.name, "labels": wanted.labels(), "dedicatedEndpointEnabled": true,
        "clientConnectionConfig": connection(wanted),
    })
}
