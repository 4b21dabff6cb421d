//! Cached models: RunPod keeps a copy of a hub's model near the workers. Only its GraphQL API can ask for one, so this is the
//! only place that speaks it, and only when one is asked for.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ID;
use super::options::Options;
use super::shape::{Compute, Shape};
use crate::provision::{Call, Deployment, ProvisionError};

/// The workers' variable that says which model was asked for: API v2 does not tell.
pub(super) const VARIABLE: &str = "CACHED_MODEL_REFERENCE";

const SAVE: &str =
    "mutation SaveEndpoint($input: EndpointInput!) { saveEndpoint(input: $input) { id } }";

/// The model as GraphQL names it.
pub(super) fn reference(
    wanted: &Deployment,
    options: &Options,
) -> Result<Option<String>, ProvisionError> {
    if !options.cached_model {
        return Ok(None);
    }
    let unsupported = |what: &str, instead: &str| ProvisionError::Unsupported {
        platform: ID,
        what: what.to_owned(),
        instead: instead.to_owned(),
    };
    if wanted.hardware.is_empty() {
        return Err(unsupported(
            "cached model for workers without a GPU",
            "leave --cached-model out, or give --gpu",
        ));
    }
    match &wanted.served.hub {
        Some((id, revision)) => Ok(Some(format!(
            "https://huggingface.co/{id}:{}",
            revision.as_deref().unwrap_or("main")
        ))),
        None => Err(unsupported(
            &format!("cached copy of `{}`", wanted.served.model),
            "only models of the Hugging Face hub have one: leave --cached-model out",
        )),
    }
}

/// The request that makes an endpoint with a cached model. What its input has no field for, such as ports and the credential
/// of a registry, is set by a PATCH behind it.
pub(super) fn create(api: &str, shape: &Shape, suffix: &str) -> Call {
    Call::new(
        "create the endpoint with a cached model (GraphQL)",
        Method::POST,
        format!("{api}/graphql"),
    )
    .with(json!({"query": SAVE, "variables": {"input": input(shape, suffix)}}))
}

/// Names of templates are taken once in an account, and what an interrupted run left may have one.
pub(super) fn suffix() -> String {
    Uuid::new_v4()
        .simple()
        .to_string()
        .chars()
        .take(8)
        .collect()
}

fn input(shape: &Shape, suffix: &str) -> Value {
    let env: Vec<Value> = shape
        .env
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    let mut template = json!({
        "name": format!("{}-{suffix}", shape.name),
        "imageName": shape.image,
        "dockerArgs": "",
        "env": env,
    });
    // GraphQL wants a number; 20 GB is what RunPod's own examples have.
    template["containerDiskInGb"] = json!(shape.disk.unwrap_or(20));
    let (scaler, value) = scaler(&shape.scaling);
    let mut input = json!({
        "name": shape.name,
        "type": if shape.kind == "QUEUE" { "QB" } else { "LB" },
        "template": template,
        "workersMin": shape.min,
        "workersMax": shape.max,
        "scalerType": scaler,
        "scalerValue": value,
        "executionTimeoutMs": shape.timeout,
        "flashBootType": shape.flashboot,
        "modelReferences": [shape.cached],
    });
    let mut set = |key: &str, value: Value| input[key] = value;
    if let Some(idle) = shape.idle {
        set("idleTimeout", json!(idle));
    }
    if !shape.data_centers.is_empty() {
        set("locations", json!(shape.data_centers.join(",")));
    }
    if !shape.volumes.is_empty() {
        let volumes: Vec<Value> = shape
            .volumes
            .iter()
            .map(|id| json!({"networkVolumeId": id}))
            .collect();
        set("networkVolumeIds", json!(volumes));
    }
    if let Compute::Gpu(selection) = &shape.compute {
        let minus = selection.excluded.iter().map(|id| format!("-{id}"));
        let ids: Vec<String> = selection.pools.iter().cloned().chain(minus).collect();
        set("gpuIds", json!(ids.join(",")));
        set("gpuCount", json!(1));
        if let Some(version) = &selection.minimum_cuda {
            set("minCudaVersion", json!(version));
        }
    }
    input
}

/// GraphQL's scaler takes whole numbers from 1.
fn scaler(scaling: &Value) -> (Value, u64) {
    let value = ["queueDelay", "requestCount"]
        .iter()
        .find_map(|key| scaling.get(*key)?.as_f64());
    (
        scaling.get("type").cloned().unwrap_or_default(),
        value.unwrap_or(1.0).ceil().max(1.0) as u64,
    )
}

/// What GraphQL says is wrong, which comes with a status of 200.
pub(super) fn errors(answer: &Value) -> Option<String> {
    let errors = answer.get("errors")?.as_array()?;
    let texts: Vec<&str> = errors
        .iter()
        .map(|error| {
            let message = error.get("message").and_then(Value::as_str);
            message.unwrap_or("no reason given")
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
