//! What is wanted, in no platform's words. Made by the command line from a plan and its flags; kept in the records without
//! its secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use chandler_core::Task;
use serde::{Deserialize, Serialize};

use super::{DEPLOYMENT_VARIABLE, MANAGED_BY, Name, OWNER_VARIABLE, ProvisionError, Secrets};
use crate::catalog::Hardware;

/// Where a worker listens when nobody says otherwise.
const DEFAULT_PORT: u16 = 8_080;

/// An endpoint as it should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployment {
    /// What it is found by.
    pub name: Name,
    /// Whose it is: an installation's random id, or what the person said.
    pub owner: String,
    /// What it serves.
    pub served: Served,
    /// The container image; empty where nobody said which.
    pub image: String,
    /// The worker's environment, without secrets. What [`Deployment::environment`] adds is not in it.
    pub env: BTreeMap<String, String>,
    /// Secret values of the worker's environment. The records keep their names.
    #[serde(serialize_with = "names_of", skip_deserializing)]
    pub secrets: Secrets,
    /// GPUs that would do, the one to try first before the others; none for a CPU.
    pub hardware: Vec<Hardware>,
    /// What the plan says it takes.
    pub needs: Needs,
    /// How many workers.
    pub scaling: Scaling,
    /// How long a worker may take until it serves.
    pub start_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
}

fn names_of<S: serde::Serializer>(secrets: &Secrets, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.names())
}

/// What an endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// As `--model` takes it: a card's id, a hub id, a bucket.
    pub model: String,
    /// The name that clients use.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// The hub id behind it, for platforms that keep copies of hub models.
    pub hub: Option<(String, Option<String>)>,
}

/// What a worker takes of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Device memory in bytes; 0 without a GPU.
    pub device_bytes: u64,
    /// Host memory in bytes.
    pub host_bytes: u64,
    /// Disk in bytes: the image's writable layer and the model's files.
    pub disk_bytes: u64,
    /// Processors, in thousandths.
    pub cpu_millis: u32,
    /// The oldest CUDA version of the driver, such as `12.4`.
    pub minimum_cuda: Option<String>,
}

/// How many workers, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Fewest; 0 lets it sleep.
    pub min: u32,
    /// Most.
    pub max: u32,
    /// How long a worker without work is kept.
    pub idle: Duration,
    /// Requests that one worker takes at once.
    pub concurrency: u32,
}

impl Deployment {
    /// The worker's environment that is no secret, with what marks it as ours.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.env.clone();
        all.insert("CHANDLER_MODEL".to_owned(), self.served.model.clone());
        all.insert(DEPLOYMENT_VARIABLE.to_owned(), self.name.to_string());
        all.insert(OWNER_VARIABLE.to_owned(), self.owner.clone());
        all
    }

    /// The whole environment, secrets as placeholders that are filled when a request is sent.
    pub fn environment_with_placeholders(&self) -> BTreeMap<String, String> {
        let secret = |name: &str| (name.to_owned(), Secrets::placeholder(name));
        let mut all = self.environment();
        all.extend(self.secrets.names().map(secret));
        all
    }

    /// The port that the worker listens at.
    ///
    /// # Errors
    /// When CHANDLER_PORT is set to something else than a port.
    pub fn port(&self) -> Result<u16, ProvisionError> {
        let Some(text) = self.env.get("CHANDLER_PORT") else {
            return Ok(DEFAULT_PORT);
        };
        text.parse()
            .map_err(|_| ProvisionError::invalid("CHANDLER_PORT", text, "use a port of 1 to 65535"))
    }

    /// The container image, for a platform that needs one.
    ///
    /// # Errors
    /// [`ProvisionError::Missing`] when nobody said which.
    pub fn image(&self, platform: &'static str) -> Result<&str, ProvisionError> {
        match self.image.as_str() {
            "" => Err(ProvisionError::Missing {
                platform,
                what: "a container image".to_owned(),
                remedy: "this program was not published with one: give --image (docker/ builds it)"
                    .to_owned(),
            }),
            image => Ok(image),
        }
    }

    /// Labels for platforms that have them. Values are at most 63 characters of letters, digits and hyphens.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            ("managed-by", MANAGED_BY),
            ("chandler-deployment", self.name.as_str()),
            ("chandler-owner", self.owner.as_str()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// The hardware's names, for people.
    pub fn hardware_names(&self) -> String {
        match self.hardware.is_empty() {
            true => "CPU".to_owned(),
            false => {
                let names: Vec<&str> = self.hardware.iter().map(|card| card.id.as_str()).collect();
                names.join(", ")
            }
        }
    }
}
