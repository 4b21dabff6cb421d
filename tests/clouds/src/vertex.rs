//! Vertex AI's models and endpoints (aiplatform v1), for [`Google`](crate::google::Google).

use serde_json::{Map, Value, json};

use crate::google::operations::Effect;
use crate::google::schema::Kind::{
    Duration, Enum, Flag, Int, List, Long, Map as MapOf, Object, Text,
};
use crate::google::schema::{Field, check, integer, labels, named, seconds, text};
use crate::google::{PROJECT, REGION, State, failure, page, refused};
use crate::{Reply, Request};

const ACCELERATORS: &[(&str, i64)] = &[
    ("ACCELERATOR_TYPE_UNSPECIFIED", 0),
    ("NVIDIA_TESLA_P100", 2),
    ("NVIDIA_TESLA_V100", 3),
    ("NVIDIA_TESLA_P4", 4),
    ("NVIDIA_TESLA_T4", 5),
    ("NVIDIA_TESLA_A100", 8),
    ("NVIDIA_A100_80GB", 9),
    ("NVIDIA_L4", 11),
    ("NVIDIA_H100_80GB", 13),
    ("NVIDIA_H100_MEGA_80GB", 14),
    ("NVIDIA_H200_141GB", 15),
    ("NVIDIA_B200", 16),
    ("NVIDIA_GB200", 17),
    ("NVIDIA_RTX_PRO_6000", 18),
];
const PORT: &[Field] = &[("containerPort", Int)];
const VARIABLE: &[Field] = &[("name", Text), ("value", Text)];
const HTTP_GET: &[Field] = &[
    ("path", Text),
    ("port", Int),
    ("host", Text),
    ("scheme", Text),
];
const PROBE: &[Field] = &[
    ("httpGet", Object(HTTP_GET)),
    ("periodSeconds", Int),
    ("timeoutSeconds", Int),
    ("failureThreshold", Int),
    ("successThreshold", Int),
    ("initialDelaySeconds", Int),
];
const CONTAINER: &[Field] = &[
    ("imageUri", Text),
    ("command", List(&Text)),
    ("args", List(&Text)),
    ("env", List(&Object(VARIABLE))),
    ("ports", List(&Object(PORT))),
    ("predictRoute", Text),
    ("healthRoute", Text),
    ("invokeRoutePrefix", Text),
    ("grpcPorts", List(&Object(PORT))),
    ("deploymentTimeout", Duration),
    ("sharedMemorySizeMb", Long),
    ("startupProbe", Object(PROBE)),
    ("healthProbe", Object(PROBE)),
    ("livenessProbe", Object(PROBE)),
];
const MODEL: &[Field] = &[
    ("displayName", Text),
    ("description", Text),
    ("versionAliases", List(&Text)),
    ("versionDescription", Text),
    ("artifactUri", Text),
    ("labels", MapOf(&Text)),
    ("containerSpec", Object(CONTAINER)),
];
const UPLOAD: &[Field] = &[
    ("parent", Text),
    ("parentModel", Text),
    ("modelId", Text),
    ("model", Object(MODEL)),
    ("serviceAccount", Text),
];
const CONNECTION: &[Field] = &[("inferenceTimeout", Duration)];
const ENDPOINT: &[Field] = &[
    ("name", Text),
    ("displayName", Text),
    ("description", Text),
    ("labels", MapOf(&Text)),
    ("trafficSplit", MapOf(&Int)),
    ("network", Text),
    ("dedicatedEndpointEnabled", Flag),
    ("clientConnectionConfig", Object(CONNECTION)),
];
const MACHINE: &[Field] = &[
    ("machineType", Text),
    ("acceleratorType", Enum(ACCELERATORS)),
    ("acceleratorCount", Int),
];
const METRIC: &[Field] = &[("metricName", Text), ("target", Int)];
const RESOURCES: &[Field] = &[
    ("machineSpec", Object(MACHINE)),
    ("minReplicaCount", Int),
    ("maxReplicaCount", Int),
    ("requiredReplicaCount", Int),
    ("autoscalingMetricSpecs", List(&Object(METRIC))),
    ("spot", Flag),
];
const DEPLOYED: &[Field] = &[
    ("id", Text),
    ("model", Text),
    ("displayName", Text),
    ("serviceAccount", Text),
    ("dedicatedResources", Object(RESOURCES)),
    ("disableContainerLogging", Flag),
    ("enableAccessLogging", Flag),
];
const DEPLOY: &[Field] = &[
    ("deployedModel", Object(DEPLOYED)),
    ("trafficSplit", MapOf(&Int)),
];
const UNDEPLOY: &[Field] = &[("deployedModelId", Text), ("trafficSplit", MapOf(&Int))];
const MUTATE: &[Field] = &[("deployedModel", Object(DEPLOYED)), ("updateMask", Text)];
const UPDATE: &[Field] = &[("endpoint", Object(ENDPOINT))];
/// What a replica count's mask may name.
const SCALE: [&str; 2] = [
    "dedicatedResources.minReplicaCount",
    "dedicatedResources.maxReplicaCount",
];

/// A type of Google's, as operations name it.
macro_rules! typed {
    ($name:literal) => {
        concat!("type.googleapis.com/google.cloud.aiplatform.v1.", $name)
    };
}

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
        } => {
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
