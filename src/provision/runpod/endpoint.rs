//! An endpoint, its workers and a template as RunPod's API v2 tells them, as far as they are read here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::options::Cpu;
use crate::provision::{DEPLOYMENT_VARIABLE, Name, OWNER_VARIABLE};

/// `GET /v2/serverless`.
#[derive(Deserialize)]
pub(super) struct Endpoints {
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint. No `Debug`: its environment holds secrets.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub id: String,
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub request_urls: Option<Value>,
    pub image: Option<String>,
    pub disk: Option<u64>,
    pub env: Option<BTreeMap<String, String>>,
    pub ports: Option<Vec<String>>,
    pub registry: Option<String>,
    pub gpu: Option<Gpu>,
    pub cpu: Option<Vec<Cpu>>,
    pub workers: Scale,
    pub scaling: Value,
    pub data_center_ids: Vec<String>,
    pub network_volumes: Vec<String>,
    pub timeout: u64,
    pub flashboot: String,
    pub created_at: String,
}

/// The GPUs that an endpoint may have.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gpu {
    pub pools: Vec<String>,
    #[serde(default)]
    pub excluded_types: Vec<String>,
    pub count: Option<u32>,
    pub min_cuda_version: Option<String>,
}

/// How many workers, and for how many idle seconds.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scale {
    pub min: u32,
    pub max: u32,
    pub idle_timeout: Option<u64>,
}

fn mark(env: Option<&BTreeMap<String, String>>, variable: &str) -> Option<String> {
    env?.get(variable).cloned()
}

impl Endpoint {
    /// The deployment whose mark it bears.
    pub fn deployment(&self) -> Option<Name> {
        Name::parse(&mark(self.env.as_ref(), DEPLOYMENT_VARIABLE)?).ok()
    }

    /// Whose mark it bears.
    pub fn owner(&self) -> Option<String> {
        mark(self.env.as_ref(), OWNER_VARIABLE)
    }

    /// A variable of its workers.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.as_ref()?.get(name).map(String::as_str)
    }

    /// Whether requests go to its workers over HTTP.
    pub fn is_load_balancer(&self) -> bool {
        self.kind.as_deref() == Some("LOAD_BALANCER")
    }
}

/// `GET /v2/templates`.
#[derive(Deserialize)]
pub(super) struct Templates {
    pub templates: Vec<Template>,
}

/// A template. No `Debug`: as above.
#[derive(Deserialize)]
pub(super) struct Template {
    pub id: String,
    pub env: Option<BTreeMap<String, String>>,
}

impl Template {
    /// The deployment whose mark it bears.
    pub fn deployment(&self) -> Option<Name> {
        Name::parse(&mark(self.env.as_ref(), DEPLOYMENT_VARIABLE)?).ok()
    }

    /// Whose mark it bears.
    pub fn owner(&self) -> Option<String> {
        mark(self.env.as_ref(), OWNER_VARIABLE)
    }
}

/// `GET /v2/serverless/{id}/workers`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Workers {
    pub workers: Vec<Worker>,
    pub summary: Summary,
}

/// A worker.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Worker {
    pub id: String,
    pub status: WorkerStatus,
    pub is_stale: bool,
    pub gpu_count: u32,
    pub gpu_type_id: Option<String>,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum WorkerStatus {
    /// Works on a job; or, where RunPod cannot see its queue, merely runs.
    Running,
    /// Ready, and waits for a job.
    Idle,
    /// Starts.
    Initializing,
    /// Waits for a machine.
    Throttled,
    /// Fails its health checks.
    Unhealthy,
}

/// Workers, counted by status.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(super) struct Summary {
    pub running: u32,
    pub idle: u32,
    pub initializing: u32,
    pub throttled: u32,
    pub unhealthy: u32,
}

/// `/health` of a queue endpoint, which queues nothing.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(super) struct Health {
    pub jobs: Jobs,
    pub workers: ReadyWorkers,
}

/// Jobs of a queue.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Jobs {
    pub in_progress: u32,
    pub in_queue: u32,
}

/// Workers that the queue knows.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct ReadyWorkers {
    pub ready: u32,
    pub idle: u32,
}
