//! What an endpoint on RunPod is made with beyond what every platform has: kept in the records, so without secrets.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where RunPod's management API is. `/v2` and `/graphql` lie below it.
pub const API: &str = "https://api.runpod.io";
/// Where queue endpoints are asked, each below its id.
pub const INVOKE_API: &str = "https://api.runpod.ai/v2";

/// Options of RunPod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The management API.
    pub api: String,
    /// Where endpoints are asked; what the management API says of each when not given.
    pub invoke_api: Option<String>,
    /// Requests go to the workers over HTTP instead of through a queue.
    pub load_balancer: bool,
    /// A worker is added when a job has waited this many seconds; for queues that scale so.
    pub queue_delay: f64,
    /// Requests under way per worker before another is added: how load balancers scale, and queues when this is given.
    pub request_count: Option<u32>,
    /// How cold starts are made quicker.
    pub flashboot: Flashboot,
    /// Data centers to run in, by id; any when empty.
    pub data_centers: Vec<String>,
    /// Network volumes to mount, by id.
    pub network_volumes: Vec<String>,
    /// The id of the credential for a private registry.
    pub registry: Option<String>,
    /// Processors to run on without a GPU; what the plan says when empty.
    pub cpu: Vec<Cpu>,
    /// The worker's variables that hold one of the account's own secrets: the secret's name by the variable's.
    pub secrets: BTreeMap<String, String>,
    /// Whether RunPod keeps a copy of the hub's model near the workers.
    pub cached_model: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api: API.to_owned(),
            invoke_api: None,
            load_balancer: false,
            queue_delay: 4.0,
            request_count: None,
            flashboot: Flashboot::On,
            data_centers: Vec::new(),
            network_volumes: Vec::new(),
            registry: None,
            cpu: Vec::new(),
            secrets: BTreeMap::new(),
            cached_model: false,
        }
    }
}

/// FlashBoot: RunPod's quicker cold starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flashboot {
    /// None.
    Off,
    /// With what capacity there is.
    On,
    /// With capacity of its own.
    Priority,
}

impl Flashboot {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::On => "FLASHBOOT",
            Self::Priority => "PRIORITY_FLASHBOOT",
        }
    }
}

impl FromStr for Flashboot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "priority" => Ok(Self::Priority),
            other => Err(format!("`{other}` is none of off, on and priority")),
        }
    }
}

impl fmt::Display for Flashboot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Priority => "priority",
        })
    }
}

/// A kind of processor and how many of them: `cpu5c:4`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The flavor's id in RunPod's catalog.
    pub id: String,
    /// How many: a power of two, 2 at least.
    #[serde(rename = "vcpuCount")]
    pub vcpus: u32,
}

impl FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not like cpu5c:4: a flavor, and a power of two from 2");
        let (id, vcpus) = text.split_once(':').ok_or_else(wrong)?;
        let vcpus: u32 = vcpus.parse().map_err(|_| wrong())?;
        match !id.is_empty() && vcpus >= 2 && vcpus.is_power_of_two() {
            true => Ok(Self {
                id: id.to_owned(),
                vcpus,
            }),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.vcpus)
    }
}
