//! Calls of what is deployed on Vertex AI, handed on to a worker.

use serde_json::{Value, json};

use super::{invalid, missing, model, precondition, resource};
use crate::google::schema::{integer, text};
use crate::google::{State, failure};
use crate::{Reply, Request};

/// A call of what is deployed: where its worker is, under which path, and what the platform adds to its answer.
pub(crate) struct Call {
    pub worker: String,
    pub path: String,
    pub added: Option<Value>,
}

/// Whether a request is for a worker.
pub(crate) fn invoked(state: &State, request: &Request, path: &str) -> Option<Result<Call, Reply>> {
    let rest = path.strip_prefix("endpoints/")?;
    let (id, verb) = match (rest.split_once(":"), rest.split_once("/invoke/")) {
        (_, Some((id, below))) => (id, format!("/{below}")),
        (Some((id, verb @ ("predict" | "rawPredict" | "streamRawPredict"))), None) => {
            (id, verb.to_owned())
        }
        _ => return None,
    };
    Some(call(state, request, id, &verb))
}

fn call(state: &State, request: &Request, id: &str, verb: &str) -> Result<Call, Reply> {
    let endpoint = state.endpoints.get(id);
    let endpoint = endpoint.ok_or_else(|| missing(&resource("endpoints", id)))?;
    let serves =
        |one: &&Value| integer(&endpoint["trafficSplit"], &format!("/{}", text(one, "/id"))) > 0;
    let deployed = endpoint["deployedModels"].as_array();
    let Some(deployed) = deployed.into_iter().flatten().find(serves) else {
        return precondition(format!("Endpoint {id} has no deployed model with traffic."));
    };
    let version = text(deployed, "/modelVersionId");
    let model_id = text(deployed, "/model")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let model = model(state, model_id, Some(version)).unwrap_or_default();
    let worker = state.setup.worker.clone();
    let Some(worker) = worker else {
        return Err(failure(503, "UNAVAILABLE", "no worker"));
    };
    let container = &model["containerSpec"];
    if verb.starts_with('/') {
        return match container.get("invokeRoutePrefix") {
            Some(_) => Ok(Call {
                worker,
                path: verb.to_owned(),
                added: None,
            }),
            None => invalid("The model has no invoke_route_prefix."),
        };
    }
    let Some(route) = container["predictRoute"].as_str() else {
        return invalid("The model has no predict_route.");
    };
    if verb == "predict" && !request.json()["instances"].is_array() {
        return invalid("instances is required.");
    }
    let added = json!({
        "deployedModelId": deployed["id"], "model": deployed["model"],
        "modelDisplayName": model["displayName"], "modelVersionId": version,
    });
    Ok(Call {
        worker,
        path: route.to_owned(),
        added: Some(added).filter(|_| verb == "predict"),
    })
}

/// A worker's answer as the platform hands it on.
pub(crate) fn wrapped(reply: Reply, added: Option<&Value>) -> Reply {
    let whole = reply.pieces.first().map(|(_, bytes)| bytes.clone());
    let body: Value = whole
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    match (added, body) {
        (Some(added), Value::Object(mut body)) if reply.status == 200 => {
            for (field, value) in added.as_object().into_iter().flatten() {
                body.insert(field.clone(), value.clone());
            }
            Reply::json(200, &Value::Object(body))
        }
        _ => reply,
    }
}
