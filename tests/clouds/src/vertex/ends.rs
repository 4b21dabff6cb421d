//! What an operation of Vertex AI comes to when it ends.

use serde_json::{Map, Value, json};

use super::{ids, resource, typed};
use crate::google::operations::Effect;
use crate::google::schema::{integer, text};
use crate::google::{REGION, State};

/// What happens when an operation ends.
pub(crate) fn end(state: &mut State, effect: &Effect) -> Result<Value, (i64, String)> {
    match effect {
        Effect::Upload { model, body } => uploaded(state, model, body),
        Effect::Create { endpoint, body } => {
            let mut made = body.clone();
            made["name"] = resource("endpoints", endpoint).into();
            made["etag"] = "AMEw9yN".into();
            let mut response = made.clone();
            response["@type"] = typed!("Endpoint").into();
            state.endpoints.insert(endpoint.clone(), made);
            Ok(response)
        }
        Effect::Deploy {
            endpoint,
            deployed,
            traffic,
        } => deployed_now(state, endpoint, deployed, traffic),
        Effect::Undeploy {
            endpoint,
            id,
            traffic,
        } => undeployed(state, endpoint, (id, traffic)),
        Effect::Mutate {
            endpoint,
            id,
            resources,
        } => {
            let there = state.endpoints.get_mut(endpoint).ok_or_else(gone)?;
            let all = there["deployedModels"].as_array_mut().ok_or_else(gone)?;
            let one = all.iter_mut().find(|one| text(one, "/id") == id);
            let one = one.ok_or_else(gone)?;
            for (field, value) in resources.as_object().into_iter().flatten() {
                one["dedicatedResources"][field] = value.clone();
            }
            Ok(json!({"@type": typed!("MutateDeployedModelResponse"), "deployedModel": one}))
        }
        Effect::Connect { endpoint, config } => {
            let there = state.endpoints.get_mut(endpoint).ok_or_else(gone)?;
            there["clientConnectionConfig"] = config.clone();
            let mut response = there.clone();
            response["@type"] = typed!("Endpoint").into();
            Ok(response)
        }
        Effect::Delete { path } => {
            match path.split_once('/') {
                Some(("models", id)) => drop(state.models.remove(id)),
                Some((_, id)) => drop(state.endpoints.remove(id)),
                None => {}
            }
            Ok(json!({"@type": "type.googleapis.com/google.protobuf.Empty"}))
        }
        Effect::Start { .. } | Effect::Stop { .. } => Err(gone()),
    }
}

fn gone() -> (i64, String) {
    (5, "it is gone".to_owned())
}

fn uploaded(state: &mut State, id: &str, body: &Value) -> Result<Value, (i64, String)> {
    let image = text(body, "/containerSpec/imageUri");
    if image.contains("missing") {
        return Err((
            5,
            format!("The image {image} was not found, or cannot be read."),
        ));
    }
    let versions = state.models.entry(id.to_owned()).or_default();
    let number = versions.len() + 1;
    let takes_default = body["versionAliases"]
        .as_array()
        .is_some_and(|aliases| aliases.contains(&"default".into()));
    let mut made = body.clone();
    if number == 1 || takes_default {
        for old in versions.iter_mut() {
            old["versionAliases"] = json!([]);
        }
        made["versionAliases"] = json!(["default"]);
    }
    made["name"] = resource("models", id).into();
    made["versionId"] = number.to_string().into();
    versions.push(made);
    Ok(json!({
        "@type": typed!("UploadModelResponse"),
        "model": resource("models", id), "modelVersionId": number.to_string(),
    }))
}

fn deployed_now(
    state: &mut State,
    id: &str,
    deployed: &Value,
    traffic: &Value,
) -> Result<Value, (i64, String)> {
    let spec = &deployed["dedicatedResources"]["machineSpec"];
    let machine = [text(spec, "/machineType"), text(spec, "/acceleratorType")];
    if state.lacks(&machine) {
        let message = format!(
            "{REGION} does not have enough resources available to fulfil the request ({machine:?})"
        );
        return Err((8, message));
    }
    if let Some(broken) = &state.setup.broken {
        return Err((9, format!("Model server never became ready: {broken}")));
    }
    state.count += 1;
    let number = (5_000_000_000 + state.count).to_string();
    let there = state.endpoints.get_mut(id).ok_or_else(gone)?;
    let mut made = deployed.clone();
    made["id"] = number.clone().into();
    made["status"] =
        json!({"availableReplicaCount": integer(&made, "/dedicatedResources/minReplicaCount")});
    let mut all = there["deployedModels"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.push(made.clone());
    there["deployedModels"] = all.into();
    if let Some(split) = traffic.as_object().filter(|split| !split.is_empty()) {
        let own = |(key, share): (&String, &Value)| match key.as_str() {
            "0" => (number.clone(), share.clone()),
            _ => (key.clone(), share.clone()),
        };
        let split: Map<String, Value> = split.iter().map(own).collect();
        there["trafficSplit"] = split.into();
    }
    Ok(json!({"@type": typed!("DeployModelResponse"), "deployedModel": made}))
}

fn undeployed(
    state: &mut State,
    endpoint: &str,
    (id, traffic): (&str, &Value),
) -> Result<Value, (i64, String)> {
    let there = state.endpoints.get_mut(endpoint).ok_or_else(gone)?;
    if let Some(all) = there["deployedModels"].as_array_mut() {
        all.retain(|one| text(one, "/id") != id);
    }
    if traffic.as_object().is_some_and(|split| !split.is_empty()) {
        there["trafficSplit"] = traffic.clone();
    }
    if ids(there).is_empty() {
        there["trafficSplit"] = json!({});
    }
    Ok(json!({"@type": typed!("UndeployModelResponse")}))
}
