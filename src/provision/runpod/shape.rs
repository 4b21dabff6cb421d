//! An endpoint as it should be, in RunPod's words: the body that makes it, and what differs from one that exists.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ID;
use super::cached;
use super::gpus::Selection;
use super::options::{Cpu, Options};
use crate::provision::{Deployment, MANAGED_BY, Name, ProvisionError, Secrets};

/// Where a load-balanced worker listens when nobody says where. RunPod's own default, 80, is refused to a user without rights.
const PORT: &str = "8000";
const GB: u64 = 1_000_000_000;
/// RunPod's documents bound a worker's idle seconds so.
const IDLE: std::ops::RangeInclusive<u64> = 1..=3600;

/// What workers run on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Compute {
    Gpu(Selection),
    Cpu(Vec<Cpu>),
}

/// An endpoint as it should be. Secrets are placeholders.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    pub name: String,
    pub kind: &'static str,
    pub image: String,
    /// GB; the platform's default when nobody knows what it takes.
    pub disk: Option<u64>,
    pub env: BTreeMap<String, String>,
    pub ports: Vec<String>,
    pub registry: Option<String>,
    pub compute: Compute,
    pub min: u32,
    pub max: u32,
    /// Seconds; a queue that scales by requests has none.
    pub idle: Option<u64>,
    pub scaling: Value,
    pub data_centers: Vec<String>,
    pub volumes: Vec<String>,
    /// Milliseconds.
    pub timeout: u64,
    pub flashboot: &'static str,
    /// The hub's model that RunPod keeps near the workers.
    pub cached: Option<String>,
}

/// What a deployment's endpoint is called: with our prefix, by which a person sees whose it is.
pub(super) fn endpoint_name(name: &Name) -> String {
    match name.as_str().starts_with(MANAGED_BY) {
        true => name.to_string(),
        false => format!("{MANAGED_BY}-{name}"),
    }
}

impl Shape {
    pub fn of(
        wanted: &Deployment,
        options: &Options,
        compute: Compute,
    ) -> Result<Self, ProvisionError> {
        let scaling = &wanted.scaling;
        let cached = cached::reference(wanted, options)?;
        let (env, port) = environment(wanted, options, cached.as_deref())?;
        let by_requests = options.load_balancer || options.request_count.is_some();
        Ok(Self {
            name: endpoint_name(&wanted.name),
            kind: match options.load_balancer {
                true => "LOAD_BALANCER",
                false => "QUEUE",
            },
            image: wanted.image(ID)?.to_owned(),
            disk: disk(wanted.needs.disk_bytes),
            env,
            ports: port
                .map(|port| format!("{port}/http"))
                .into_iter()
                .collect(),
            registry: options.registry.clone(),
            compute,
            min: scaling.min,
            max: scaling.max,
            idle: match options.load_balancer || !by_requests {
                true => Some(idle(scaling.idle.as_secs())?),
                false => None,
            },
            scaling: match by_requests {
                true => json!({
                    "type": "REQUEST_COUNT",
                    "requestCount": options.request_count.unwrap_or(scaling.concurrency).max(1),
                }),
                false => json!({"type": "QUEUE_DELAY", "queueDelay": options.queue_delay}),
            },
            data_centers: options.data_centers.clone(),
            volumes: options.network_volumes.clone(),
            timeout: u64::try_from(wanted.request_timeout.as_millis()).unwrap_or(u64::MAX),
            flashboot: options.flashboot.as_str(),
            cached,
        })
    }

    /// The body of `POST /v2/serverless`. What is at the platform's default is left out.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        let mut set = |key: &str, value: Value| {
            body.insert(key.to_owned(), value);
        };
        set("name", json!(self.name));
        set("type", json!(self.kind));
        set("image", json!(self.image));
        set("env", json!(self.env));
        set("scaling", self.scaling.clone());
        set("timeout", json!(self.timeout));
        set("flashboot", json!(self.flashboot));
        set("workers", self.workers());
        match &self.compute {
            Compute::Gpu(selection) => set("gpu", gpu(selection)),
            Compute::Cpu(processors) => set("cpu", json!(processors)),
        }
        if let Some(disk) = self.disk {
            set("disk", json!(disk));
        }
        if let Some(registry) = &self.registry {
            set("registry", json!(registry));
        }
        for (key, list) in [
            ("ports", &self.ports),
            ("dataCenterIds", &self.data_centers),
            ("networkVolumes", &self.volumes),
        ] {
            if !list.is_empty() {
                set(key, json!(list));
            }
        }
        Value::Object(body)
    }

    fn workers(&self) -> Value {
        match self.idle {
            Some(idle) => json!({"min": self.min, "max": self.max, "idleTimeout": idle}),
            None => json!({"min": self.min, "max": self.max}),
        }
    }

    /// With no more workers than the account may have.
    pub fn with_at_most(&self, workers: u32) -> Self {
        Self {
            min: self.min.min(workers),
            max: self.max.min(workers),
            ..self.clone()
        }
    }
}

fn gpu(selection: &Selection) -> Value {
    let mut gpu = json!({"pools": selection.pools, "count": 1});
    if !selection.excluded.is_empty() {
        gpu["excludedTypes"] = json!(selection.excluded);
    }
    if let Some(version) = &selection.minimum_cuda {
        gpu["minCudaVersion"] = json!(version);
    }
    gpu
}

/// A tenth more than is needed, since a worker whose disk has no tenth free calls itself unfit.
fn disk(bytes: u64) -> Option<u64> {
    (bytes > 0).then(|| (bytes + bytes / 8).div_ceil(GB))
}

fn idle(seconds: u64) -> Result<u64, ProvisionError> {
    match IDLE.contains(&seconds) {
        true => Ok(seconds),
        false => Err(ProvisionError::invalid(
            "--idle",
            &format!("{seconds}s"),
            "RunPod keeps idle workers for 1 to 3600 seconds",
        )),
    }
}

/// The workers' variables, and the port that a load balancer asks.
fn environment(
    wanted: &Deployment,
    options: &Options,
    cached: Option<&str>,
) -> Result<(BTreeMap<String, String>, Option<String>), ProvisionError> {
    let mut env = wanted.environment_with_placeholders();
    // A worker that takes longer is called unhealthy, and replaced by one that takes as long.
    env.entry("RUNPOD_INIT_TIMEOUT".to_owned())
        .or_insert_with(|| wanted.start_timeout.as_secs().to_string());
    if let Some(reference) = cached {
        env.insert(cached::VARIABLE.to_owned(), reference.to_owned());
    }
    for (variable, secret) in &options.secrets {
        let reference = format!("{{{{ RUNPOD_SECRET_{secret} }}}}");
        if env.insert(variable.clone(), reference).is_some() {
            return Err(ProvisionError::invalid(
                "--runpod-secret",
                variable,
                "this variable has a value already: give it once",
            ));
        }
    }
    if !options.load_balancer {
        return Ok((env, None));
    }
    let said = ["CHANDLER_PORT", "PORT"]
        .iter()
        .find_map(|name| env.get(*name));
    let port = said.cloned().unwrap_or_else(|| PORT.to_owned());
    // The documents disagree on where health is asked by default, so it is said.
    for (name, value) in [
        ("PORT", port.as_str()),
        ("PORT_HEALTH", port.as_str()),
        ("HEALTH_CHECK_PATH", "/ping"),
    ] {
        env.insert(name.to_owned(), value.to_owned());
    }
    Ok((env, Some(port)))
}

/// Whether a text stands for a secret in a request.
pub(super) fn secret_behind<'a>(
    key: &str,
    text: &str,
    secrets: &'a Secrets,
) -> Option<&'a secrecy::SecretString> {
    (text == Secrets::placeholder(key)).then(|| secrets.get(key))?
}
