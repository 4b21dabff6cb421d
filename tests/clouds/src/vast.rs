//! Vast.ai's market as its OpenAPI documents describe it: offers that go when they are taken, instances that load for some
//! looks before they have an address, pages of a list, logs at another address. Written from the documents; nothing of the
//! platform's own has spoken to it.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::{Cloud, Reply, Request};

/// The key that is let in.
pub const KEY: &str = "vast-key-of-a-test";

/// Fields of a search that are filters.
const FILTERS: &[&str] = &[
    "verified",
    "rentable",
    "rented",
    "gpu_name",
    "num_gpus",
    "gpu_ram",
    "cuda_max_good",
    "disk_space",
    "cpu_ram",
    "direct_port_count",
    "reliability",
    "dph_total",
    "geolocation",
];
/// Fields of a creation.
const CREATION: &[&str] = &[
    "image",
    "label",
    "disk",
    "runtype",
    "args_str",
    "target_state",
    "cancel_unavail",
    "env",
    "onstart",
];

/// What the market does in a test.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// `HOST:PORT` of the worker that every instance is.
    pub worker: Option<String>,
    /// Looks at the list until an instance runs.
    pub looks: u32,
    /// Looks until a running one has its address.
    pub address_looks: u32,
    /// Offers, as ids and prices.
    pub offers: Vec<(u64, f64)>,
    /// Of these, the ones that are gone when they are asked for.
    pub gone: Vec<u64>,
    /// What instances end as in place of running.
    pub ends_as: Option<(&'static str, &'static str)>,
    /// Instances of a page.
    pub page: usize,
    /// Repeats the request in errors.
    pub echo: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            worker: None,
            looks: 1,
            address_looks: 1,
            offers: vec![(101, 0.31), (102, 0.22), (103, 0.45)],
            gone: Vec::new(),
            ends_as: None,
            page: 25,
            echo: false,
        }
    }
}

#[derive(Default)]
struct State {
    knobs: Knobs,
    instances: Vec<(Value, u32)>,
    made: u32,
    searches: Vec<Value>,
    log_asked: u32,
}

/// The market.
pub struct Vast {
    state: Mutex<State>,
}

impl Vast {
    /// One that does as the knobs say.
    pub fn new(knobs: Knobs) -> Self {
        let state = State {
            knobs,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Turns the knobs.
    pub fn turn(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.state.lock().unwrap().knobs);
    }

    /// What is rented.
    pub fn instances(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state
            .instances
            .iter()
            .map(|(instance, _)| instance.clone())
            .collect()
    }

    /// How many were ever rented.
    pub fn made(&self) -> u32 {
        self.state.lock().unwrap().made
    }

    /// Searches, as they were asked.
    pub fn searches(&self) -> Vec<Value> {
        self.state.lock().unwrap().searches.clone()
    }

    /// Puts an instance there that somebody else has.
    pub fn put(&self, instance: Value) {
        self.state.lock().unwrap().instances.push((instance, 0));
    }
}

impl Cloud for Vast {
    fn answer(&self, request: &Request) -> Reply {
        let mut state = self.state.lock().unwrap();
        if request.path.starts_with("/stored-log/") {
            // Somewhere else, where the platform's login has no business; not there at once.
            assert_eq!(request.header("authorization"), None);
            state.log_asked += 1;
            return match state.log_asked {
                1 => Reply::bytes(404, "application/xml", "<Error>NoSuchKey</Error>"),
                _ => Reply::bytes(200, "text/plain", "first line\nsecond line\n"),
            };
        }
        if request.header("authorization") != Some(&format!("Bearer {KEY}")) {
            return refused(401, "auth_error", "Invalid user key");
        }
        let path = request.path.clone();
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let slash = path.ends_with('/');
        let reply = match (request.method.as_str(), segments.as_slice(), slash) {
            ("POST", ["api", "v0", "bundles"], true) => search(&mut state, request),
            ("PUT", ["api", "v0", "asks", id], true) => create(&mut state, request, id),
            ("GET", ["api", "v1", "instances"], true) => list(&mut state, request),
            ("DELETE", ["api", "v0", "instances", id], true) => destroy(&mut state, id),
            ("PUT", ["api", "v0", "instances", "request_logs", id], false) => {
                log(&state, request, id)
            }
            _ => refused(404, "not_found", "no such route"),
        };
        if state.knobs.echo && reply.status >= 400 {
            let body = String::from_utf8_lossy(&request.bytes).into_owned();
            return refused(reply.status, "invalid_args", &body);
        }
        reply
    }
}

fn refused(status: u16, error: &str, message: &str) -> Reply {
    Reply::json(
        status,
        &json!({"success": false, "error": error, "msg": message}),
    )
}

fn search(state: &mut State, request: &Request) -> Reply {
    let query = request.json();
    state.searches.push(query.clone());
    let Some(fields) = query.as_object() else {
        return refused(400, "invalid_request", "Invalid json body");
    };
    for (field, value) in fields {
        let right = match field.as_str() {
            "type" => ["ondemand", "bid", "reserved"]
                .iter()
                .any(|kind| value == kind),
            "limit" => value.is_u64(),
            "allocated_storage" => value.is_number(),
            "order" => value.as_array().is_some_and(|all| {
                all.iter()
                    .all(|pair| pair.as_array().is_some_and(|pair| pair.len() == 2))
            }),
            filter if FILTERS.contains(&filter) => value.as_object().is_some_and(|filter| {
                filter.keys().all(|key| {
                    ["eq", "neq", "gt", "lt", "gte", "lte", "in", "notin"].contains(&key.as_str())
                })
            }),
            _ => false,
        };
        if !right {
            return refused(400, "invalid_request", &format!("{field} is wrong"));
        }
    }
    let most = query["dph_total"]["lte"].as_f64().unwrap_or(f64::MAX);
    let mut offers = state.knobs.offers.clone();
    offers.retain(|(_, price)| *price <= most);
    offers.sort_by(|one, other| one.1.total_cmp(&other.1));
    let offer = |(id, price): &(u64, f64)| json!({"id": id, "ask_contract_id": id, "dph_total": price, "gpu_name": gpu(&query), "gpu_ram": 24576, "num_gpus": 1, "rentable": true});
    let offers: Vec<Value> = offers.iter().map(offer).collect();
    Reply::json(200, &json!({"offers": offers}))
}

fn gpu(query: &Value) -> String {
    let first = query["gpu_name"]["in"][0].as_str();
    first.unwrap_or("RTX 4090").to_owned()
}

fn create(state: &mut State, request: &Request, id: &str) -> Reply {
    let body = request.json();
    let Some(fields) = body.as_object() else {
        return refused(400, "invalid_args", "invalid json");
    };
    if let Some(field) = fields
        .keys()
        .find(|field| !CREATION.contains(&field.as_str()))
    {
        return refused(400, "invalid_args", &format!("unknown field {field}"));
    }
    let texts = ["image", "label", "runtype", "args_str", "target_state"];
    let wrong = texts
        .iter()
        .find(|field| body.get(**field).is_some_and(|value| !value.is_string()));
    if let Some(field) = wrong {
        return refused(400, "invalid_args", &format!("{field} is no string"));
    }
    let args_alone = body["runtype"] == "args" || body.get("args_str").is_none();
    let environment = body["env"].as_object().cloned().unwrap_or_default();
    let disk = body["disk"].as_f64().unwrap_or(8.0);
    if !body["image"].is_string()
        || disk < 8.0
        || !args_alone
        || !environment.values().all(Value::is_string)
    {
        return refused(400, "invalid_args", "Invalid args");
    }
    let id: u64 = id.parse().unwrap();
    let offered = state
        .knobs
        .offers
        .iter()
        .find(|(offer, _)| *offer == id)
        .copied();
    let Some((_, price)) = offered.filter(|_| !state.knobs.gone.contains(&id)) else {
        let message =
            format!("error 404/3603: no_such_ask Instance type by id {id} is not available.");
        return refused(404, "no_such_ask", &message);
    };
    state.knobs.offers.retain(|(offer, _)| *offer != id);
    state.made += 1;
    let contract = 7_000 + u64::from(state.made);
    let pairs: Vec<Value> = environment
        .iter()
        .map(|(name, value)| json!([name, value]))
        .collect();
    let searched = state.searches.last().cloned().unwrap_or_default();
    let instance = json!({
        "id": contract, "label": body["label"], "image_uuid": body["image"], "disk_space": disk, "extra_env": pairs,
        "image_runtype": body["runtype"], "intended_status": "running", "actual_status": null, "status_msg": null,
        "gpu_name": gpu(&searched), "dph_total": price, "public_ipaddr": "", "ports": null,
    });
    state.instances.push((instance, 0));
    Reply::json(200, &json!({"success": true, "new_contract": contract}))
}

fn list(state: &mut State, request: &Request) -> Reply {
    let known = [
        "limit",
        "after_token",
        "order_by",
        "select_cols",
        "select_filters",
    ];
    if request
        .query
        .iter()
        .any(|(key, _)| !known.contains(&key.as_str()))
    {
        return refused(400, "invalid_args", "unknown parameter");
    }
    let token = request
        .parameter("after_token")
        .unwrap_or("0=")
        .trim_end_matches('=');
    let Ok(from) = token.parse::<usize>() else {
        return refused(400, "invalid_args", "invalid token");
    };
    let knobs = state.knobs.clone();
    if from == 0 {
        for (instance, looks) in &mut state.instances {
            *looks += 1;
            advance(instance, *looks, &knobs);
        }
    }
    let all: Vec<Value> = state
        .instances
        .iter()
        .map(|(instance, _)| instance.clone())
        .collect();
    let page: Vec<&Value> = all.iter().skip(from).take(knobs.page).collect();
    let end = from + page.len();
    let next = (end < all.len()).then(|| format!("{end}="));
    Reply::json(
        200,
        &json!({
            "success": true, "instances_found": page.len(), "total_instances": all.len(), "instances": page, "next_token": next,
        }),
    )
}

fn advance(instance: &mut Value, looks: u32, knobs: &Knobs) {
    if instance.get("extra_env").is_none() {
        return;
    }
    if looks <= knobs.looks {
        instance["actual_status"] = "loading".into();
        instance["status_msg"] = "pulling the image".into();
        return;
    }
    if let Some((status, message)) = knobs.ends_as {
        instance["actual_status"] = status.into();
        instance["status_msg"] = message.into();
        return;
    }
    instance["actual_status"] = "running".into();
    if looks > knobs.looks + knobs.address_looks
        && let Some((host, port)) = knobs
            .worker
            .as_deref()
            .and_then(|worker| worker.split_once(':'))
    {
        instance["public_ipaddr"] = host.into();
        instance["ports"] = json!({"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": port}]});
    }
}

fn destroy(state: &mut State, id: &str) -> Reply {
    let before = state.instances.len();
    state.instances.retain(|(instance, _)| !is(instance, id));
    match state.instances.len() == before {
        true => refused(404, "not_found", "Instance not found"),
        false => Reply::json(200, &json!({"success": true})),
    }
}

fn log(state: &State, request: &Request, id: &str) -> Reply {
    if !state.instances.iter().any(|(instance, _)| is(instance, id)) {
        return refused(404, "invalid_id", "Invalid instance id.");
    }
    let body = request.json();
    if body
        .as_object()
        .is_some_and(|body| body.values().any(|value| !value.is_string()))
    {
        return refused(400, "invalid_args", "tail is a string");
    }
    let host = request.header("host").unwrap_or_default();
    Reply::json(
        200,
        &json!({"success": true, "result_url": format!("http://{host}/stored-log/{id}")}),
    )
}

fn is(instance: &Value, id: &str) -> bool {
    instance["id"].as_u64() == id.parse().ok()
}
