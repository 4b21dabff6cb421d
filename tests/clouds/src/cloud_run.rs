//! Cloud Run's services (run v2) and who may call them, for [`Google`](crate::google::Google).

use serde_json::{Value, json};

use crate::google::login::identity;
use crate::google::operations::Effect;
use crate::google::schema::Kind::{Duration, Enum, Flag, Int, List, Map as MapOf, Object, Text};
use crate::google::schema::{Field, check, integer, labels, named, seconds, text};
use crate::google::{PROJECT, REGION, State, failure, page, refused};
use crate::{Reply, Request};

const INGRESS: &[(&str, i64)] = &[
    ("INGRESS_TRAFFIC_UNSPECIFIED", 0),
    ("INGRESS_TRAFFIC_ALL", 1),
    ("INGRESS_TRAFFIC_INTERNAL_ONLY", 2),
    ("INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", 3),
    ("INGRESS_TRAFFIC_NONE", 4),
];
const EXECUTION: &[(&str, i64)] = &[
    ("EXECUTION_ENVIRONMENT_UNSPECIFIED", 0),
    ("EXECUTION_ENVIRONMENT_GEN1", 1),
    ("EXECUTION_ENVIRONMENT_GEN2", 2),
];
const REFERENCE: &[Field] = &[("secret", Text), ("version", Text)];
const SOURCE: &[Field] = &[("secretKeyRef", Object(REFERENCE))];
const VARIABLE: &[Field] = &[
    ("name", Text),
    ("value", Text),
    ("valueSource", Object(SOURCE)),
];
const RESOURCES: &[Field] = &[
    ("limits", MapOf(&Text)),
    ("cpuIdle", Flag),
    ("startupCpuBoost", Flag),
];
const HTTP_GET: &[Field] = &[("path", Text), ("port", Int)];
const PROBE: &[Field] = &[
    ("httpGet", Object(HTTP_GET)),
    ("initialDelaySeconds", Int),
    ("timeoutSeconds", Int),
    ("periodSeconds", Int),
    ("failureThreshold", Int),
];
const PORT: &[Field] = &[("name", Text), ("containerPort", Int)];
const MOUNT: &[Field] = &[("name", Text), ("mountPath", Text), ("subPath", Text)];
const CONTAINER: &[Field] = &[
    ("name", Text),
    ("image", Text),
    ("command", List(&Text)),
    ("args", List(&Text)),
    ("env", List(&Object(VARIABLE))),
    ("resources", Object(RESOURCES)),
    ("ports", List(&Object(PORT))),
    ("volumeMounts", List(&Object(MOUNT))),
    ("workingDir", Text),
    ("livenessProbe", Object(PROBE)),
    ("startupProbe", Object(PROBE)),
];
const GCS: &[Field] = &[
    ("bucket", Text),
    ("readOnly", Flag),
    ("mountOptions", List(&Text)),
];
const VOLUME: &[Field] = &[("name", Text), ("gcs", Object(GCS))];
const SCALING: &[Field] = &[("minInstanceCount", Int), ("maxInstanceCount", Int)];
const SELECTOR: &[Field] = &[("accelerator", Text)];
const TEMPLATE: &[Field] = &[
    ("revision", Text),
    ("labels", MapOf(&Text)),
    ("annotations", MapOf(&Text)),
    ("scaling", Object(SCALING)),
    ("timeout", Duration),
    ("serviceAccount", Text),
    ("containers", List(&Object(CONTAINER))),
    ("volumes", List(&Object(VOLUME))),
    ("executionEnvironment", Enum(EXECUTION)),
    ("maxInstanceRequestConcurrency", Int),
    ("sessionAffinity", Flag),
    ("nodeSelector", Object(SELECTOR)),
    ("gpuZonalRedundancyDisabled", Flag),
];
const SERVICE: &[Field] = &[
    ("name", Text),
    ("description", Text),
    ("labels", MapOf(&Text)),
    ("annotations", MapOf(&Text)),
    ("client", Text),
    ("ingress", Enum(INGRESS)),
    ("template", Object(TEMPLATE)),
    ("scaling", Object(SCALING)),
    ("invokerIamDisabled", Flag),
    ("etag", Text),
];
const BINDING: &[Field] = &[("role", Text), ("members", List(&Text))];
const POLICY: &[Field] = &[
    ("version", Int),
    ("bindings", List(&Object(BINDING))),
    ("etag", Text),
];
const SET_POLICY: &[Field] = &[
    ("policy", Object(POLICY)),
    ("updateMask", Text),
    ("resource", Text),
];
/// What a mask of an update may name here.
const CHANGEABLE: [&str; 6] = [
    "labels",
    "description",
    "ingress",
    "template",
    "scaling",
    "client",
];
/// Least processors and GiB beside an accelerator.
const ACCELERATORS: [(&str, f64, f64); 2] = [
    ("nvidia-l4", 4.0, 16.0),
    ("nvidia-rtx-pro-6000", 20.0, 80.0),
];

/// A service and who may call it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub body: Value,
    policy: Value,
    generation: i64,
}

impl Service {
    pub(crate) fn of(body: Value) -> Self {
        Self {
            body,
            policy: json!({"version": 1, "etag": "ACAB"}),
            generation: 1,
        }
    }
}

type Answer = Result<Value, Reply>;

fn invalid<T>(message: impl Into<String>) -> Result<T, Reply> {
    Err(refused(400, message))
}

fn resource(id: &str) -> String {
    format!("projects/{PROJECT}/locations/{REGION}/services/{id}")
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
        ("POST", ["services"], "") => create(state, request),
        ("GET", ["services"], "") => {
            let all = state.services.values().map(|service| service.body.clone());
            let all = all.collect();
            page(all, "services", request, state.setup.page).map_err(|wrong| refused(400, wrong))
        }
        (method, ["services", id], verb) => {
            if method == "GET" {
                pass(state, id);
            }
            let Some(service) = state.services.get(*id) else {
                return Err(refused(
                    404,
                    format!(
                        "Resource '{id}' of kind 'SERVICE' in region '{REGION}' in project '{PROJECT}' does not exist."
                    ),
                ));
            };
            match (method, verb) {
                ("GET", "") => Ok(service.body.clone()),
                ("GET", "getIamPolicy") => Ok(service.policy.clone()),
                ("POST", "setIamPolicy") => set_policy(state, request, id),
                ("PATCH", "") => patch(state, request, id),
                ("DELETE", "") => {
                    let effect = Effect::Stop {
                        service: (*id).to_owned(),
                    };
                    Ok(state.begin(
                        "",
                        "type.googleapis.com/google.cloud.run.v2.Service",
                        effect,
                    ))
                }
                _ => Err(refused(404, "no such method")),
            }
        }
        _ => Err(refused(404, "no such method")),
    }
}

/// A look at a service is a look at what is under way with it.
fn pass(state: &mut State, id: &str) {
    for at in 0..state.operations.len() {
        let (Effect::Start { service, .. } | Effect::Stop { service }) =
            &state.operations[at].effect
        else {
            continue;
        };
        if service == id {
            state.look(at);
        }
    }
}

fn set_policy(state: &mut State, request: &Request, id: &str) -> Answer {
    let body = body(request, SET_POLICY)?;
    let service = state.services.get_mut(id).unwrap();
    let given = text(&body, "/policy/etag");
    if !given.is_empty() && given != text(&service.policy, "/etag") {
        return Err(failure(
            409,
            "ABORTED",
            "There were concurrent policy changes. Please retry the whole read-modify-write.",
        ));
    }
    state.count += 1;
    service.policy = body["policy"].clone();
    service.policy["etag"] = format!("BwX{:05}", state.count).into();
    Ok(service.policy.clone())
}

fn create(state: &mut State, request: &Request) -> Answer {
    let body = body(request, SERVICE)?;
    let id = request
        .parameter("serviceId")
        .or(request.parameter("service_id"));
    let id = id.unwrap_or_default().to_owned();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..50).contains(&id.len())
        && id.chars().all(plain)
        && id.starts_with(|c: char| c.is_ascii_lowercase())
        && !id.ends_with('-');
    if !good {
        return invalid(format!("service_id: {id} is invalid."));
    }
    if body.get("name").is_some() {
        return invalid("service.name: must be empty on create.");
    }
    if state.services.contains_key(&id) {
        return Err(refused(409, format!("Resource '{id}' already exists.")));
    }
    service_well(state, &body)?;
    let mut made = body;
    made["name"] = resource(&id).into();
    made["uri"] = format!(
        "http://{}/run/{id}",
        request.header("host").unwrap_or_default()
    )
    .into();
    let service = Service {
        generation: 0,
        ..Service::of(made)
    };
    state.services.insert(id.clone(), service);
    Ok(start(state, &id))
}

fn patch(state: &mut State, request: &Request, id: &str) -> Answer {
    let given = body(request, SERVICE)?;
    let mask = request
        .parameter("updateMask")
        .or(request.parameter("update_mask"))
        .unwrap_or_default();
    let mut wanted = state.services[id].body.clone();
    let all = CHANGEABLE.join(",");
    for field in if mask.is_empty() { &all } else { mask }.split(',') {
        if !CHANGEABLE.contains(&field) {
            return invalid(format!("update_mask: {field} cannot be updated here."));
        }
        match given.get(field) {
            Some(value) => wanted[field] = value.clone(),
            None => {
                wanted.as_object_mut().unwrap().remove(field);
            }
        }
    }
    service_well(state, &wanted)?;
    state.services.get_mut(id).unwrap().body = wanted;
    Ok(start(state, id))
}

/// A new generation, whose revision is on its way.
fn start(state: &mut State, id: &str) -> Value {
    let service = state.services.get_mut(id).unwrap();
    service.generation += 1;
    let generation = service.generation;
    let body = &mut service.body;
    body["generation"] = generation.to_string().into();
    body["reconciling"] = true.into();
    body["terminalCondition"] = json!({"type": "Ready", "state": "CONDITION_RECONCILING"});
    body["latestCreatedRevision"] =
        format!("{}/revisions/{id}-{generation:05}", resource(id)).into();
    let ingress = named(&body["ingress"], INGRESS);
    if !ingress.is_empty() {
        body["ingress"] = ingress.into();
    }
    let template = &mut body["template"];
    let execution = named(&template["executionEnvironment"], EXECUTION);
    if !execution.is_empty() {
        template["executionEnvironment"] = execution.into();
    }
    if template.get("serviceAccount").is_none() {
        template["serviceAccount"] = "123-compute@developer.gserviceaccount.com".into();
    }
    let effect = Effect::Start {
        service: id.to_owned(),
        generation,
    };
    state.begin(
        "",
        "type.googleapis.com/google.cloud.run.v2.Service",
        effect,
    )
}

fn service_well(state: &State, service: &Value) -> Result<(), Reply> {
    labels(service).or_else(invalid)?;
    let reserved = ["run.googleapis.com", "cloud.googleapis.com", "knative.dev"];
    let keys = service["labels"].as_object().into_iter().flatten();
    if keys
        .into_iter()
        .any(|(key, _)| reserved.iter().any(|word| key.contains(word)))
    {
        return invalid("labels: reserved namespace.");
    }
    let template = &service["template"];
    let Some([container]) = template["containers"].as_array().map(Vec::as_slice) else {
        return invalid("template.containers: exactly one container is expected here.");
    };
    if text(container, "/image").is_empty() {
        return invalid("template.containers[0].image: is required.");
    }
    if let Some(time) = seconds(text(template, "/timeout"))
        && !(1.0..=3600.0).contains(&time)
    {
        return invalid("template.timeout: 3600 s at most.");
    }
    if !(0..=1000).contains(&integer(template, "/maxInstanceRequestConcurrency")) {
        return invalid("template.max_instance_request_concurrency: 1000 at most.");
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = text(variable, "/name");
        if name.is_empty() || name == "PORT" || name.starts_with("K_") {
            return invalid(format!(
                "The following reserved env names were provided: {name}"
            ));
        }
    }
    for probe in ["/startupProbe", "/livenessProbe"] {
        let probe = container.pointer(probe).unwrap_or(&Value::Null);
        let period = integer(probe, "/periodSeconds");
        if integer(probe, "/timeoutSeconds") > period || period > 240 {
            return invalid("probe: timeout_seconds must not exceed period_seconds, nor that 240.");
        }
    }
    let volumes = template["volumes"].as_array();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        if !volumes
            .into_iter()
            .flatten()
            .any(|volume| volume["name"] == mount["name"])
        {
            return invalid("volume_mounts: no such volume.");
        }
    }
    resources_well(state, template, container)
}

fn resources_well(state: &State, template: &Value, container: &Value) -> Result<(), Reply> {
    let limits = &container["resources"]["limits"];
    let cpu: f64 = text(limits, "/cpu").parse().unwrap_or(1.0);
    let memory = text(limits, "/memory");
    let gib: f64 = match memory.strip_suffix("Gi") {
        Some(number) => number.parse().unwrap_or(0.0),
        None if memory.is_empty() => 0.5,
        None => return invalid(format!("memory: {memory} is not understood here.")),
    };
    let gpu = text(limits, "/nvidia.com~1gpu");
    let accelerator = text(template, "/nodeSelector/accelerator");
    if gpu.is_empty() && accelerator.is_empty() {
        let most = [(1.0, 4.0), (2.0, 8.0), (4.0, 16.0), (8.0, 32.0)];
        return match most.iter().find(|(processors, _)| *processors == cpu) {
            Some((_, most)) if gib <= *most && gib >= (cpu / 2.0).floor() => Ok(()),
            Some(_) => invalid(format!("memory: {memory} is not possible with {cpu} CPU.")),
            None => invalid(format!("cpu: {cpu} must be one of 1, 2, 4, 8.")),
        };
    }
    let beside = ACCELERATORS.iter().find(|(name, ..)| *name == accelerator);
    let Some((_, processors, least)) = beside else {
        return invalid(format!(
            "node_selector.accelerator: {accelerator} is not supported."
        ));
    };
    if gpu != "1" || cpu < *processors || gib < *least {
        return invalid(format!(
            "{accelerator} takes nvidia.com/gpu 1, {processors} CPU and {least}Gi at least."
        ));
    }
    if container["resources"]["cpuIdle"] == true {
        return invalid("cpu_idle must be false with GPU.");
    }
    if template["gpuZonalRedundancyDisabled"] != true {
        return invalid("You do not have quota for using GPUs with zonal redundancy.");
    }
    if state.setup.quota {
        return Err(refused(
            429,
            "Quota exceeded for total allowable count of GPUs per project per region.",
        ));
    }
    Ok(())
}

/// What happens when an operation ends.
pub(crate) fn end(state: &mut State, effect: &Effect) -> Result<Value, (i64, String)> {
    let gone = || (5, "it is gone".to_owned());
    let (id, generation) = match effect {
        Effect::Stop { service } => {
            let there = state.services.remove(service).ok_or_else(gone)?;
            return Ok(typed(there.body));
        }
        Effect::Start {
            service,
            generation,
        } => (service, *generation),
        _ => return Err(gone()),
    };
    let flaw = flaw(state, id);
    let service = state.services.get_mut(id).ok_or_else(gone)?;
    if service.generation != generation {
        return Ok(typed(service.body.clone()));
    }
    let body = &mut service.body;
    body["reconciling"] = false.into();
    body["observedGeneration"] = generation.to_string().into();
    match flaw {
        None => {
            body["latestReadyRevision"] = body["latestCreatedRevision"].clone();
            body["terminalCondition"] = json!({"type": "Ready", "state": "CONDITION_SUCCEEDED"});
            Ok(typed(body.clone()))
        }
        Some((code, reason, message)) => {
            body["terminalCondition"] = json!({
                "type": "Ready", "state": "CONDITION_FAILED", "message": message,
                "revisionReason": reason, "severity": "ERROR",
            });
            Err((code, message))
        }
    }
}

fn typed(mut service: Value) -> Value {
    service["@type"] = "type.googleapis.com/google.cloud.run.v2.Service".into();
    service
}

/// Why a service's newest revision does not start.
fn flaw(state: &State, id: &str) -> Option<(i64, &'static str, String)> {
    let body = &state.services.get(id)?.body;
    let container = &body["template"]["containers"][0];
    let image = text(container, "/image");
    if image.contains("missing") {
        return Some((
            5,
            "CONTAINER_MISSING",
            format!("Image '{image}' not found."),
        ));
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let secret = text(variable, "/valueSource/secretKeyRef/secret");
        if !secret.is_empty() && !state.setup.secrets.iter().any(|known| known == secret) {
            let message =
                format!("Permission denied on secret: {secret} for Revision service account");
            return Some((7, "SECRETS_ACCESS_CHECK_FAILED", message));
        }
    }
    let accelerator = text(body, "/template/nodeSelector/accelerator");
    if state.lacks(&[accelerator]) {
        let message = format!("{REGION} does not have enough resources for {accelerator}");
        return Some((8, "REVISION_FAILED", message));
    }
    let broken = state.setup.broken.as_ref()?;
    let message = format!(
        "The user-provided container failed to start and listen on the port defined provided by the PORT=8080 \
         environment variable within the allocated timeout: {broken}"
    );
    Some((9, "HEALTH_CHECK_CONTAINER_ERROR", message))
}

/// Who is called by a request for `NAME/…`, and under which path.
pub(crate) fn invoke(
    state: &State,
    request: &Request,
    path: &str,
) -> Result<(String, String), Reply> {
    let (id, below) = path.split_once('/').unwrap_or((path, ""));
    let Some(service) = state.services.get(id) else {
        return Err(Reply::bytes(
            404,
            "text/html",
            "<html>Page not found</html>",
        ));
    };
    let bindings = service.policy["bindings"].as_array();
    let public = bindings.into_iter().flatten().any(|binding| {
        let members = binding["members"].as_array();
        binding["role"] == "roles/run.invoker"
            && members.is_some_and(|members| members.contains(&"allUsers".into()))
    });
    let token = format!("Bearer {}", identity(text(&service.body, "/uri")));
    if !public && request.header("authorization") != Some(&token) {
        return Err(Reply::bytes(
            403,
            "text/html",
            "<html>Your client does not have permission</html>",
        ));
    }
    match (&state.setup.worker, service.body.get("latestReadyRevision")) {
        (Some(worker), Some(_)) => Ok((worker.clone(), format!("/{below}"))),
        _ => Err(Reply::bytes(503, "text/plain", "Service Unavailable")),
    }
}
