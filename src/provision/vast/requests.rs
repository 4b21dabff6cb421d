//! Requests as the platform's OpenAPI documents describe them (docs.vast.ai, read on 22 November 2026).

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{ID, Options};
use crate::provision::{Call, Deployment, ProvisionError};

/// Most instances of a page (the document's maximum).
const PAGE: u32 = 25;
/// Disk in GB when neither a plan nor a person says; the platform's least is 8.
const DISK_GB: u32 = 40;
const LEAST_DISK_GB: u32 = 8;
/// Offers that are asked for.
const LIMIT: u32 = 20;

/// Disk in GB: the platform's unit, of 10^9 bytes.
pub(super) fn disk_gb(options: &Options, wanted: &Deployment) -> u32 {
    let planned = wanted.needs.disk_bytes.div_ceil(1_000_000_000);
    let planned = match u32::try_from(planned).unwrap_or(u32::MAX) {
        0 => DISK_GB,
        planned => planned,
    };
    options.disk_gb.unwrap_or(planned).max(LEAST_DISK_GB)
}

/// Machines that would do, the cheapest first.
pub(super) fn search(options: &Options, wanted: &Deployment) -> Call {
    let disk = disk_gb(options, wanted);
    let needs = &wanted.needs;
    let mut query = Map::new();
    let mut set = |key: &str, value: Value| {
        query.insert(key.to_owned(), value);
    };
    set("type", json!("ondemand"));
    set("limit", json!(LIMIT));
    set("order", json!([["dph_total", "asc"]]));
    set("allocated_storage", json!(disk));
    set("verified", json!({"eq": true}));
    set("rentable", json!({"eq": true}));
    set("num_gpus", json!({"eq": 1}));
    // One port of its own, or nobody reaches the worker.
    set("direct_port_count", json!({"gte": 1}));
    set("disk_space", json!({"gte": disk}));
    set("reliability", json!({"gte": options.reliability}));
    let names: Vec<&str> = wanted
        .hardware
        .iter()
        .filter_map(|card| card.vast.as_deref())
        .collect();
    if !names.is_empty() {
        set("gpu_name", json!({"in": names}));
    }
    if needs.device_bytes > 0 {
        set(
            "gpu_ram",
            json!({"gte": needs.device_bytes.div_ceil(1 << 20)}),
        );
    }
    if needs.host_bytes > 0 {
        set(
            "cpu_ram",
            json!({"gte": needs.host_bytes.div_ceil(1 << 20)}),
        );
    }
    if let Some(cuda) = needs
        .minimum_cuda
        .as_ref()
        .and_then(|cuda| cuda.parse::<f64>().ok())
    {
        set("cuda_max_good", json!({"gte": cuda}));
    }
    if let Some(price) = options.max_price {
        set("dph_total", json!({"lte": price}));
    }
    if !options.countries.is_empty() {
        set("geolocation", json!({"in": options.countries}));
    }
    Call::new(
        "search for a machine",
        Method::POST,
        format!("{}/api/v0/bundles/", options.api),
    )
    .with(Value::Object(query))
    .repeatable()
}

/// Takes an offer. Sent once: the answer to a second one would be that the offer is gone.
pub(super) fn create(
    options: &Options,
    wanted: &Deployment,
    offer: &str,
) -> Result<Call, ProvisionError> {
    let url = format!("{}/api/v0/asks/{offer}/", options.api);
    let mut call = Call::new("rent the machine", Method::PUT, url).with(json!({
        "image": wanted.image(ID)?,
        "label": wanted.name,
        "disk": disk_gb(options, wanted),
        // The image's own entry point, and nothing of the platform's beside it.
        "runtype": "args",
        "args_str": "serve",
        "target_state": "running",
        // No machine that cannot start at once.
        "cancel_unavail": true,
        "env": environment(wanted)?,
    }));
    call.repeatable = false;
    Ok(call)
}

/// Variables and the port, as the platform mixes them.
pub(super) fn environment(wanted: &Deployment) -> Result<Map<String, Value>, ProvisionError> {
    let port = wanted.port()?;
    let variables = wanted.environment_with_placeholders().into_iter();
    let opened = (format!("-p {port}:{port}"), "1".to_owned());
    Ok(variables
        .chain([opened])
        .map(|(name, value)| (name, value.into()))
        .collect())
}

pub(super) fn list(options: &Options, token: Option<&str>) -> Call {
    let token = token.map(|token| {
        format!(
            "&after_token={}",
            utf8_percent_encode(token, NON_ALPHANUMERIC)
        )
    });
    let url = format!(
        "{}/api/v1/instances/?limit={PAGE}{}",
        options.api,
        token.unwrap_or_default()
    );
    Call::new("list the instances", Method::GET, url)
}

pub(super) fn destroy(options: &Options, id: u64) -> Call {
    let url = format!("{}/api/v0/instances/{id}/", options.api);
    Call::new("destroy the instance", Method::DELETE, url)
}

pub(super) fn logs(options: &Options, id: u64) -> Call {
    let url = format!("{}/api/v0/instances/request_logs/{id}", options.api);
    Call::new("ask for the log", Method::PUT, url).with(json!({"tail": "1000"}))
}
