//! The schemas of what an endpoint is made and changed with, as the OpenAPI document has them, and the rules that it tells in
//! words.

use serde_json::{Map, Value, json};

use super::{Problem, stock};

/// What a field may be.
enum Kind {
    Text,
    TextOrNull,
    Whole(u64, u64),
    Texts,
    TextMap,
    Within(&'static [(&'static str, Kind)]),
    List(&'static [(&'static str, Kind)]),
    OneOf(&'static [&'static str]),
    Scaling,
}

use Kind::{List, OneOf, Scaling, Text, TextMap, TextOrNull, Texts, Whole, Within};

const MOST: u64 = u64::MAX;

const GPU: &[(&str, Kind)] = &[
    ("pools", Texts),
    ("excludedTypes", Texts),
    ("count", Whole(1, MOST)),
    ("allowedCudaVersions", Texts),
    ("minCudaVersion", Text),
];

const FIELDS: &[(&str, Kind)] = &[
    ("args", Text),
    ("disk", Whole(1, MOST)),
    ("env", TextMap),
    ("image", Text),
    ("ports", Texts),
    ("registry", TextOrNull),
    ("name", Text),
    ("gpu", Within(GPU)),
    ("cpu", List(&[("id", Text), ("vcpuCount", Whole(2, MOST))])),
    ("scaling", Scaling),
    ("dataCenterIds", Texts),
    (
        "flashboot",
        OneOf(&["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"]),
    ),
    ("networkVolumes", Texts),
    ("templateId", Text),
    ("timeout", Whole(0, MOST)),
    (
        "workers",
        Within(&[
            ("min", Whole(0, MOST)),
            ("max", Whole(0, MOST)),
            ("idleTimeout", Whole(1, 3600)),
        ]),
    ),
];
/// Only where an endpoint is made.
const TYPE: (&str, Kind) = ("type", OneOf(&["QUEUE", "LOAD_BALANCER"]));

fn fits(at: &str, value: &Value, kind: &Kind, errors: &mut Vec<String>) {
    let texts = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_string))
    };
    let fine = match kind {
        Text => value.is_string(),
        TextOrNull => value.is_string() || value.is_null(),
        Whole(least, most) => value
            .as_u64()
            .is_some_and(|n| (*least..=*most).contains(&n)),
        Texts => texts(value),
        TextMap => value
            .as_object()
            .is_some_and(|map| map.values().all(Value::is_string)),
        OneOf(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Within(fields) => match value.as_object() {
            Some(map) => return object(at, map, &[fields], errors),
            None => false,
        },
        List(fields) => match value.as_array() {
            Some(list) if !list.is_empty() => {
                for one in list {
                    fits(at, one, &Within(fields), errors);
                }
                return;
            }
            _ => false,
        },
        Scaling => scaling(value),
    };
    if !fine {
        errors.push(format!("{at}: {value} is not allowed here"));
    }
}

fn scaling(value: &Value) -> bool {
    let Some(map) = value.as_object().filter(|map| map.len() == 2) else {
        return false;
    };
    match map.get("type").and_then(Value::as_str) {
        Some("QUEUE_DELAY") => map
            .get("queueDelay")
            .and_then(Value::as_f64)
            .is_some_and(|delay| delay >= 0.5),
        Some("REQUEST_COUNT") => map
            .get("requestCount")
            .and_then(Value::as_u64)
            .is_some_and(|count| count >= 1),
        _ => false,
    }
}

fn object(
    at: &str,
    map: &Map<String, Value>,
    schemas: &[&[(&str, Kind)]],
    errors: &mut Vec<String>,
) {
    for (key, value) in map {
        let mut known = schemas.iter().flat_map(|fields| fields.iter());
        match known.find(|(name, _)| name == key) {
            Some((_, kind)) => fits(&format!("{at}.{key}"), value, kind, errors),
            None => errors.push(format!("{at}: additional properties '{key}' not allowed")),
        }
    }
}

fn checked(body: &Value, more: &[(&str, Kind)]) -> Result<Map<String, Value>, Problem> {
    let Some(map) = body.as_object() else {
        return Err(Problem::of(400, "the body is no JSON object"));
    };
    let mut errors = Vec::new();
    object("$", map, &[FIELDS, more], &mut errors);
    match errors.is_empty() {
        true => Ok(map.clone()),
        false => Err(Problem::schema(errors)),
    }
}

/// A body that makes an endpoint.
pub fn create(body: &Value) -> Result<Map<String, Value>, Problem> {
    let map = checked(body, &[TYPE])?;
    let required = ["name", "type", "scaling", "image"];
    let missing: Vec<String> = required
        .iter()
        .filter(|key| !map.contains_key(**key))
        .map(|key| format!("$: missing property '{key}'"))
        .collect();
    if !missing.is_empty() {
        return Err(Problem::schema(missing));
    }
    if map.contains_key("gpu") == map.contains_key("cpu") {
        return Err(Problem::of(400, "exactly one of gpu and cpu is required"));
    }
    let pools = map.get("gpu").map(|gpu| &gpu["pools"]);
    if pools.is_some_and(|pools| pools.as_array().is_none_or(Vec::is_empty)) {
        return Err(Problem::schema(vec![
            "$.gpu: missing property 'pools'".to_owned(),
        ]));
    }
    rules(&map, &map["type"], &map["scaling"])?;
    Ok(map)
}

/// A body that changes one.
pub fn update(body: &Value, there: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    let map = checked(body, &[])?;
    if let Some(gpu) = map.get("gpu") {
        if gpu.get("excludedTypes").is_some() && gpu.get("pools").is_none() {
            let error = "$.gpu: excludedTypes requires pools";
            return Err(Problem::schema(vec![error.to_owned()]));
        }
        if !there.contains_key("gpu") {
            return Err(Problem::of(400, "gpu on a CPU endpoint"));
        }
    }
    if map.contains_key("cpu") && !there.contains_key("cpu") {
        return Err(Problem::of(400, "cpu on a GPU endpoint"));
    }
    let scaling = map.get("scaling").unwrap_or(&there["scaling"]);
    rules(&map, &there["type"], scaling)?;
    Ok(map)
}

/// What the document says in words.
fn rules(map: &Map<String, Value>, kind: &Value, scaling: &Value) -> Result<(), Problem> {
    let by_requests = scaling["type"] == "REQUEST_COUNT";
    if kind == "LOAD_BALANCER" && !by_requests {
        let error = "$.scaling: a load balancer scales by REQUEST_COUNT";
        return Err(Problem::schema(vec![error.to_owned()]));
    }
    let idle = map
        .get("workers")
        .and_then(|workers| workers.get("idleTimeout"));
    if kind == "QUEUE" && by_requests && idle.is_some() {
        return Err(Problem::of(
            400,
            "idleTimeout is not applicable to REQUEST_COUNT",
        ));
    }
    for cpu in map
        .get("cpu")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if !cpu["vcpuCount"].as_u64().is_some_and(u64::is_power_of_two) {
            return Err(Problem::of(400, "vcpuCount must be a power of two"));
        }
    }
    match map.get("gpu") {
        Some(gpu) => gpu_rules(gpu),
        None => Ok(()),
    }
}

fn gpu_rules(gpu: &Value) -> Result<(), Problem> {
    let texts = |key: &str| -> Vec<String> {
        let list = gpu.get(key).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    };
    let version = |text: &str| {
        let parts: Vec<&str> = text.split('.').collect();
        let digits = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        text.is_empty() || (parts.len() == 2 && parts.iter().all(digits))
    };
    let floor = gpu.get("minCudaVersion").and_then(Value::as_str);
    if floor.is_some_and(|floor| !version(floor)) {
        let error = "$.gpu.minCudaVersion: does not match pattern";
        return Err(Problem::schema(vec![error.to_owned()]));
    }
    if floor.is_some_and(|floor| !floor.is_empty()) && !texts("allowedCudaVersions").is_empty() {
        return Err(Problem::of(
            400,
            "minCudaVersion and allowedCudaVersions exclude each other",
        ));
    }
    if gpu.get("pools").is_none() {
        return Ok(());
    }
    let (pools, excluded) = (texts("pools"), texts("excludedTypes"));
    let inside: Vec<String> = pools
        .iter()
        .flat_map(|pool| stock::types_of(pool))
        .collect();
    if let Some(pool) = pools.iter().find(|pool| stock::types_of(pool).is_empty()) {
        return Err(Problem::of(400, format!("unknown GPU pool '{pool}'")));
    }
    if let Some(stranger) = excluded.iter().find(|id| !inside.contains(id)) {
        return Err(Problem::of(
            400,
            format!("'{stranger}' is not a GPU type in one of pools"),
        ));
    }
    match inside.iter().all(|id| excluded.contains(id)) {
        true => Err(Problem::of(400, "the selection leaves no GPU type")),
        false => Ok(()),
    }
}

/// What an endpoint is where its body does not say.
pub fn defaults() -> Map<String, Value> {
    let defaults = json!({
        "args": "", "disk": 20, "env": {}, "ports": [], "registry": null, "dataCenterIds": [], "networkVolumes": [],
        "timeout": 300_000, "flashboot": "OFF", "workers": {"min": 0, "max": 3},
    });
    match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Puts a checked body into what is told.
pub fn merge(shown: &mut Map<String, Value>, body: &Map<String, Value>) {
    for (key, value) in body {
        match key.as_str() {
            "workers" => {
                for (inner, value) in value.as_object().into_iter().flatten() {
                    shown["workers"][inner] = value.clone();
                }
            }
            "gpu" => gpu(shown, value),
            "cpu" => {
                let mut list = value.clone();
                for cpu in list.as_array_mut().into_iter().flatten() {
                    let vcpus = cpu["vcpuCount"].as_u64().unwrap_or(0);
                    cpu["memory"] = json!(vcpus * 2);
                }
                shown.insert(key.clone(), list);
            }
            _ => {
                shown.insert(key.clone(), value.clone());
            }
        }
    }
    let by_requests = shown
        .get("scaling")
        .is_some_and(|s| s["type"] == "REQUEST_COUNT");
    let queue = shown.get("type").is_some_and(|kind| kind == "QUEUE");
    if queue && by_requests {
        if let Some(workers) = shown["workers"].as_object_mut() {
            workers.remove("idleTimeout");
        }
    } else if shown["workers"].get("idleTimeout").is_none() {
        shown["workers"]["idleTimeout"] = json!(10);
    }
}

fn gpu(shown: &mut Map<String, Value>, value: &Value) {
    let before = shown.get("gpu").cloned();
    let mut gpu = before.unwrap_or_else(
        || json!({"pools": [], "count": 1, "allowedCudaVersions": [], "minCudaVersion": null}),
    );
    // Pools without exclusions clear them.
    if value.get("pools").is_some()
        && let Some(map) = gpu.as_object_mut()
    {
        map.remove("excludedTypes");
    }
    for (inner, value) in value.as_object().into_iter().flatten() {
        gpu[inner] = match (inner.as_str(), value.as_str()) {
            ("minCudaVersion", Some("")) => Value::Null,
            _ => value.clone(),
        };
    }
    shown.insert("gpu".to_owned(), gpu);
}
