//! Cloud Run's services (run v2) and who may call them, for [`Google`](crate::google::Google): what may be asked of them.

mod ends;
mod tables;

use serde_json::{Value, json};

pub(crate) use self::ends::{end, invoke};
use self::tables::*;
use crate::google::operations::Effect;
use crate::google::schema::{Field, check, integer, labels, named, seconds, text};
use crate::google::{PROJECT, REGION, State, failure, page, refused};
use crate::{Reply, Request};

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
