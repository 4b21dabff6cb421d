//! Vertex AI's models and endpoints (aiplatform v1), for [`Google`](crate::google::Google): what may be asked of them.

mod calls;
mod ends;
mod tables;

use serde_json::Value;

pub(crate) use self::calls::{invoked, wrapped};
pub(crate) use self::ends::end;
use self::tables::*;
use crate::google::operations::Effect;
use crate::google::schema::{Field, check, integer, labels, named, seconds, text};
use crate::google::{PROJECT, REGION, State, failure, page, refused};
use crate::{Reply, Request};

/// A type of Google's, as operations name it.
macro_rules! typed {
    ($name:literal) => {
        concat!("type.googleapis.com/google.cloud.aiplatform.v1.", $name)
    };
}

use typed;

type Answer = Result<Value, Reply>;

fn invalid<T>(message: impl Into<String>) -> Result<T, Reply> {
    Err(refused(400, message))
}

fn precondition<T>(message: impl Into<String>) -> Result<T, Reply> {
    Err(failure(400, "FAILED_PRECONDITION", message))
}

fn resource(kind: &str, id: &str) -> String {
    format!("projects/{PROJECT}/locations/{REGION}/{kind}/{id}")
}

fn body(request: &Request, fields: &[Field]) -> Answer {
    let body = request.json();
    check(&body, fields).map_err(|message| refused(400, message))?;
    Ok(body)
}

/// Carries out a request for what is below the location.
pub(crate) fn answer(state: &mut State, request: &Request, path: &str) -> Reply {
    let answered = route(state, request, path);
    answered.map_or_else(|reply| reply, |body| Reply::json(200, &body))
}

fn route(state: &mut State, request: &Request, path: &str) -> Answer {
    let (path, verb) = path.split_once(':').unwrap_or((path, ""));
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method.as_str(), parts.as_slice(), verb) {
        ("POST", ["models"], "upload") => upload(state, request),
        ("GET", ["models"], "") => {
            let all = state.models.keys().filter_map(|id| model(state, id, None));
            let all: Vec<Value> = all.collect();
            page(all, "models", request, state.setup.page).map_err(|wrong| refused(400, wrong))
        }
        ("GET", ["models", id], "") => {
            let (id, version) = id
                .split_once('@')
                .map_or((*id, None), |(id, v)| (id, Some(v)));
            model(state, id, version).ok_or_else(|| missing(&resource("models", id)))
        }
        ("DELETE", ["models", id], "") => delete_model(state, id),
        ("POST", ["endpoints"], "") => create(state, request),
        ("GET", ["endpoints"], "") => {
            let all = state.endpoints.values().cloned().collect();
            page(all, "endpoints", request, state.setup.page).map_err(|wrong| refused(400, wrong))
        }
        (method, ["endpoints", id], verb) => {
            if !state.endpoints.contains_key(*id) {
                return Err(missing(&resource("endpoints", id)));
            }
            match (method, verb) {
                ("GET", "") => Ok(shown(&state.endpoints[*id], request)),
                ("PATCH", "") => patch(state, request, id),
                ("DELETE", "") => delete_endpoint(state, id),
                ("POST", "deployModel") => deploy(state, request, id),
                ("POST", "undeployModel") => undeploy(state, request, id),
                ("POST", "mutateDeployedModel") => mutate(state, request, id),
                ("POST", "update") => update(state, request, id),
                _ => Err(refused(404, "no such method")),
            }
        }
        _ => Err(refused(404, "no such method")),
    }
}

fn missing(name: &str) -> Reply {
    refused(404, format!("The resource {name} was not found."))
}

/// An endpoint as it is shown: its own address is wherever it was asked for.
fn shown(endpoint: &Value, request: &Request) -> Value {
    let mut shown = endpoint.clone();
    if endpoint["dedicatedEndpointEnabled"] == true {
        shown["dedicatedEndpointDns"] = request.header("host").unwrap_or_default().into();
    }
    shown
}

fn model(state: &State, id: &str, version: Option<&str>) -> Option<Value> {
    let versions = state.models.get(id)?;
    let wanted = |model: &&Value| match version {
        Some(version) => model["versionId"] == version,
        None => model["versionAliases"]
            .as_array()
            .is_some_and(|all| all.contains(&"default".into())),
    };
    versions
        .iter()
        .find(wanted)
        .or_else(|| versions.last().filter(|_| version.is_none()))
        .cloned()
}

fn good_id(id: &str, more: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
    (1..=63).contains(&id.len())
        && id.chars().all(plain)
        && id.starts_with(|c: char| c.is_ascii_lowercase())
}

fn upload(state: &mut State, request: &Request) -> Answer {
    let body = body(request, UPLOAD)?;
    let model = &body["model"];
    let container = &model["containerSpec"];
    named_well(model)?;
    labels(model).or_else(invalid)?;
    container_well(container)?;
    let parent = text(&body, "/parentModel");
    let id = match (parent.rsplit('/').next(), text(&body, "/modelId")) {
        (Some(id), "") if !id.is_empty() => {
            if parent != resource("models", id) || !state.models.contains_key(id) {
                return Err(missing(parent));
            }
            id.to_owned()
        }
        (_, "") => {
            state.count += 1;
            (4_000_000 + state.count).to_string()
        }
        (_, id) if !good_id(id, "_-") => return invalid(format!("Invalid model ID {id}.")),
        (_, id) if state.models.contains_key(id) => {
            return Err(refused(409, format!("Model {id} already exists.")));
        }
        (_, id) => id.to_owned(),
    };
    let effect = Effect::Upload {
        model: id.clone(),
        body: model.clone(),
    };
    let kind = typed!("UploadModelOperationMetadata");
    Ok(state.begin(&format!("models/{id}/"), kind, effect))
}

fn named_well(thing: &Value) -> Result<(), Reply> {
    match text(thing, "/displayName").len() {
        1..=128 => Ok(()),
        _ => invalid("displayName is required, and has 128 characters at most."),
    }
}

fn container_well(container: &Value) -> Result<(), Reply> {
    let image = text(container, "/imageUri");
    let known = |host: &str| host.ends_with("-docker.pkg.dev") || host.ends_with("gcr.io");
    if !image.split('/').next().is_some_and(known) {
        return invalid(format!(
            "Image {image} must be in Artifact Registry or Container Registry."
        ));
    }
    let route = |field: &str| container.get(field).and_then(Value::as_str);
    match (route("predictRoute"), route("invokeRoutePrefix")) {
        (Some(_), Some(_)) => {
            return invalid("Only one of predict_route and invoke_route_prefix can be set.");
        }
        (None, Some(prefix)) if prefix != "/*" => {
            return invalid("invoke_route_prefix: \"/*\" is the only supported value.");
        }
        _ => {}
    }
    let mut names = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = text(variable, "/name");
        if name.is_empty() || name.starts_with("AIP_") || names.contains(&name) {
            return invalid(format!("Environment variable {name} is invalid."));
        }
        names.push(name);
    }
    let timeout = seconds(text(container, "/deploymentTimeout")).unwrap_or(0.0);
    if timeout > 7200.0 {
        return invalid("deployment_timeout: 2 hours at most.");
    }
    let probe = &container["startupProbe"];
    if integer(probe, "/timeoutSeconds") > integer(probe, "/periodSeconds") {
        return invalid("startup_probe: timeout_seconds is longer than period_seconds.");
    }
    Ok(())
}

fn create(state: &mut State, request: &Request) -> Answer {
    let body = body(request, ENDPOINT)?;
    named_well(&body)?;
    labels(&body).or_else(invalid)?;
    connection_well(&body["clientConnectionConfig"])?;
    let id = match request
        .parameter("endpointId")
        .or(request.parameter("endpoint_id"))
    {
        None => {
            state.count += 1;
            (7_000_000 + state.count).to_string()
        }
        Some(id) if !good_id(id, "-") || id.ends_with('-') => {
            return invalid(format!("Invalid endpoint ID {id}."));
        }
        Some(id) => id.to_owned(),
    };
    let begun = format!("/endpoints/{id}/operations/");
    let being_made = state
        .operations
        .iter()
        .any(|one| one.ended.is_none() && one.name.contains(&begun));
    if state.endpoints.contains_key(&id) || being_made {
        return Err(refused(409, format!("Endpoint {id} already exists.")));
    }
    let effect = Effect::Create {
        endpoint: id.clone(),
        body,
    };
    let kind = typed!("CreateEndpointOperationMetadata");
    Ok(state.begin(&format!("endpoints/{id}/"), kind, effect))
}

fn connection_well(connection: &Value) -> Result<(), Reply> {
    match seconds(text(connection, "/inferenceTimeout")) {
        Some(time) if !(1.0..=3600.0).contains(&time) => {
            invalid("inference_timeout: one hour at most.")
        }
        _ => Ok(()),
    }
}

fn patch(state: &mut State, request: &Request, id: &str) -> Answer {
    let body = body(request, ENDPOINT)?;
    labels(&body).or_else(invalid)?;
    let mask = request
        .parameter("updateMask")
        .unwrap_or_default()
        .to_owned();
    let endpoint = state.endpoints.get_mut(id).unwrap();
    for field in mask.split(',') {
        let field = match field {
            "display_name" => "displayName",
            "traffic_split" => "trafficSplit",
            "labels" | "displayName" | "description" | "trafficSplit" => field,
            other => return invalid(format!("updateMask: {other} cannot be updated.")),
        };
        if field == "trafficSplit" {
            split_well(&body[field], endpoint, false)?;
        }
        endpoint[field] = body[field].clone();
    }
    Ok(shown(endpoint, request))
}

fn ids(endpoint: &Value) -> Vec<&str> {
    let deployed = endpoint["deployedModels"].as_array();
    let deployed = deployed.into_iter().flatten();
    deployed.map(|one| text(one, "/id")).collect()
}

/// Percentages of what is deployed; `0` is what is being deployed.
fn split_well(split: &Value, endpoint: &Value, new: bool) -> Result<(), Reply> {
    let Some(split) = split.as_object().filter(|split| !split.is_empty()) else {
        return Ok(());
    };
    let known = ids(endpoint);
    for key in split.keys() {
        if !(known.contains(&key.as_str()) || new && key == "0") {
            return invalid(format!("traffic_split: {key} is no deployed model."));
        }
    }
    let sum: i64 = split.values().filter_map(Value::as_i64).sum();
    match sum {
        100 => Ok(()),
        _ => invalid("traffic_split: percentages must add up to 100."),
    }
}

fn deploy(state: &mut State, request: &Request, id: &str) -> Answer {
    let body = body(request, DEPLOY)?;
    let deployed = &body["deployedModel"];
    let name = text(deployed, "/model");
    let (name, version) = name
        .split_once('@')
        .map_or((name, None), |(n, v)| (n, Some(v)));
    let model_id = name.rsplit('/').next().unwrap_or_default();
    let found = model(state, model_id, version).filter(|_| name == resource("models", model_id));
    let Some(model) = found else {
        return Err(missing(text(deployed, "/model")));
    };
    let endpoint = &state.endpoints[id];
    if model.pointer("/containerSpec/invokeRoutePrefix").is_some()
        && endpoint["dedicatedEndpointEnabled"] != true
    {
        return invalid(
            "A model with invoke_route_prefix is deployed to dedicated endpoints only.",
        );
    }
    split_well(&body["trafficSplit"], endpoint, true)?;
    let resources = &deployed["dedicatedResources"];
    let (min, max) = (
        integer(resources, "/minReplicaCount"),
        integer(resources, "/maxReplicaCount"),
    );
    let spec = &resources["machineSpec"];
    let accelerator = named(&spec["acceleratorType"], ACCELERATORS);
    if text(spec, "/machineType").is_empty() || min < 1 || (max != 0 && max < min) {
        return invalid("dedicated_resources: a machine type and one replica at least.");
    }
    if !accelerator.is_empty() && integer(spec, "/acceleratorCount") < 1 {
        return invalid("machine_spec: accelerator_count is required with accelerator_type.");
    }
    if state.setup.quota {
        return Err(refused(
            429,
            "The following quotas are exceeded: CustomModelServingCPUsPerProjectPerRegion",
        ));
    }
    let mut deployed = deployed.clone();
    deployed["model"] = name.into();
    deployed["modelVersionId"] = model["versionId"].clone();
    if !accelerator.is_empty() {
        deployed["dedicatedResources"]["machineSpec"]["acceleratorType"] = accelerator.into();
    }
    if max == 0 {
        deployed["dedicatedResources"]["maxReplicaCount"] = min.into();
    }
    let effect = Effect::Deploy {
        endpoint: id.to_owned(),
        deployed,
        traffic: body["trafficSplit"].clone(),
    };
    let kind = typed!("DeployModelOperationMetadata");
    Ok(state.begin(&format!("endpoints/{id}/"), kind, effect))
}

fn undeploy(state: &mut State, request: &Request, id: &str) -> Answer {
    let body = body(request, UNDEPLOY)?;
    let endpoint = &state.endpoints[id];
    let deployed = text(&body, "/deployedModelId");
    if !ids(endpoint).contains(&deployed) {
        return Err(missing(&format!(
            "{}/deployedModels/{deployed}",
            resource("endpoints", id)
        )));
    }
    let split = &body["trafficSplit"];
    split_well(split, endpoint, false)?;
    let effective = match split.as_object() {
        Some(given) if !given.is_empty() => split,
        _ => &endpoint["trafficSplit"],
    };
    if integer(effective, &format!("/{deployed}")) > 0 && ids(endpoint).len() > 1 {
        return precondition(format!("Deployed model {deployed} still has traffic."));
    }
    let effect = Effect::Undeploy {
        endpoint: id.to_owned(),
        id: deployed.to_owned(),
        traffic: split.clone(),
    };
    let kind = typed!("UndeployModelOperationMetadata");
    Ok(state.begin(&format!("endpoints/{id}/"), kind, effect))
}

fn mutate(state: &mut State, request: &Request, id: &str) -> Answer {
    let body = body(request, MUTATE)?;
    let deployed = text(&body, "/deployedModel/id");
    if !ids(&state.endpoints[id]).contains(&deployed) {
        return Err(missing(deployed));
    }
    let mask = text(&body, "/updateMask");
    if mask.is_empty() || mask.split(',').any(|field| !SCALE.contains(&field)) {
        return invalid(format!("update_mask: {mask} cannot be mutated."));
    }
    let resources = body["deployedModel"]["dedicatedResources"].clone();
    if integer(&resources, "/minReplicaCount") < 1
        || integer(&resources, "/maxReplicaCount") < integer(&resources, "/minReplicaCount")
    {
        return invalid("min_replica_count is 1 at least, max_replica_count no less.");
    }
    let effect = Effect::Mutate {
        endpoint: id.to_owned(),
        id: deployed.to_owned(),
        resources,
    };
    let kind = typed!("MutateDeployedModelOperationMetadata");
    Ok(state.begin(&format!("endpoints/{id}/"), kind, effect))
}

fn update(state: &mut State, request: &Request, id: &str) -> Answer {
    let body = body(request, UPDATE)?;
    let config = body["endpoint"]["clientConnectionConfig"].clone();
    connection_well(&config)?;
    let effect = Effect::Connect {
        endpoint: id.to_owned(),
        config,
    };
    let kind = typed!("UpdateEndpointOperationMetadata");
    Ok(state.begin(&format!("endpoints/{id}/"), kind, effect))
}

fn delete_endpoint(state: &mut State, id: &str) -> Answer {
    if !ids(&state.endpoints[id]).is_empty() {
        return precondition(format!(
            "Endpoint {id} has deployed models: undeploy them first."
        ));
    }
    let kind = typed!("DeleteOperationMetadata");
    let path = format!("endpoints/{id}");
    Ok(state.begin("", kind, Effect::Delete { path }))
}

fn delete_model(state: &mut State, id: &str) -> Answer {
    if !state.models.contains_key(id) {
        return Err(missing(&resource("models", id)));
    }
    let name = resource("models", id);
    let mut deployed = state.endpoints.values().flat_map(|endpoint| {
        let deployed = endpoint["deployedModels"].as_array();
        deployed.into_iter().flatten()
    });
    if deployed.any(|one| text(one, "/model") == name) {
        return precondition(format!("Model {id} is deployed."));
    }
    let kind = typed!("DeleteOperationMetadata");
    let path = format!("models/{id}");
    Ok(state.begin("", kind, Effect::Delete { path }))
}
