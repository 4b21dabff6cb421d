//! Processors and memory of a worker on Cloud Run, by its rules.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Options;
use crate::provision::{Deployment, ProvisionError};

const GIB: u64 = 1 << 30;
/// Most GiB for so many processors; the least are half as many GiB as processors (<https://cloud.google.com/run/docs/configuring/services/memory-limits>).
const SIZES: [(u32, u64); 4] = [(1, 4), (2, 8), (4, 16), (8, 32)];
/// What is taken when nobody knows what the model needs.
const UNKNOWN: u64 = 4 * GIB;
/// Of the worker itself, besides what the plan counts: the process, its libraries and their buffers.
const OWN: u64 = GIB / 2;
/// `timeout` at most.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
/// `maxInstanceRequestConcurrency` at most.
const MOST_AT_ONCE: u32 = 1000;

/// A kind of GPU, and what Cloud Run wants beside one
/// (<https://cloud.google.com/run/docs/configuring/services/gpu>).
struct Beside {
    accelerator: &'static str,
    processors: u32,
    gib: u64,
}

const GPUS: [Beside; 2] = [
    Beside {
        accelerator: "nvidia-l4",
        processors: 4,
        gib: 16,
    },
    Beside {
        accelerator: "nvidia-rtx-pro-6000",
        processors: 20,
        gib: 80,
    },
];

/// `resources.limits` and the node that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limits {
    pub processors: u32,
    pub gib: u64,
    pub accelerator: Option<String>,
}

impl Limits {
    pub(super) fn json(&self) -> Value {
        let mut limits = Map::new();
        limits.insert("cpu".to_owned(), self.processors.to_string().into());
        limits.insert("memory".to_owned(), format!("{}Gi", self.gib).into());
        if self.accelerator.is_some() {
            limits.insert("nvidia.com/gpu".to_owned(), "1".into());
        }
        Value::Object(limits)
    }
}

/// What a deployment takes.
pub(super) fn of(wanted: &Deployment, options: &Options) -> Result<Limits, ProvisionError> {
    check(wanted)?;
    let needs = &wanted.needs;
    // The file system is in memory: what is downloaded is kept there.
    let disk = match options.volume {
        Some(_) => 0,
        None => needs.disk_bytes,
    };
    let bytes = match needs.host_bytes.saturating_add(disk) {
        0 => UNKNOWN,
        bytes => bytes.saturating_add(OWN),
    };
    let (mut processors, mut gib) = size(bytes, needs.cpu_millis)?;
    let accelerator = match wanted.hardware.first() {
        None => None,
        Some(card) => {
            let name = card.cloudrun.as_deref().ok_or_else(|| {
                ProvisionError::invalid(
                    "--gpu",
                    &card.id,
                    "Cloud Run does not lend it; `chandler hardware cloudrun` lists what it lends",
                )
            })?;
            if let Some(beside) = GPUS.iter().find(|gpu| gpu.accelerator == name) {
                processors = processors.max(beside.processors);
                gib = gib.max(beside.gib);
            }
            Some(name.to_owned())
        }
    };
    Ok(Limits {
        processors,
        gib,
        accelerator,
    })
}

fn check(wanted: &Deployment) -> Result<(), ProvisionError> {
    if wanted.request_timeout > LONGEST_REQUEST {
        return Err(ProvisionError::invalid(
            "--request-timeout",
            &format!("{} s", wanted.request_timeout.as_secs()),
            "Cloud Run allows 3600 s at most",
        ));
    }
    match wanted.scaling.concurrency {
        1..=MOST_AT_ONCE => Ok(()),
        other => Err(ProvisionError::invalid(
            "--concurrency",
            &other.to_string(),
            "Cloud Run takes 1 to 1000",
        )),
    }
}

fn size(bytes: u64, millis: u32) -> Result<(u32, u64), ProvisionError> {
    let gib = bytes.div_ceil(GIB);
    let fits = |(processors, most): &&(u32, u64)| *most >= gib && processors * 1000 >= millis;
    let found = SIZES.iter().find(fits).ok_or_else(|| {
        ProvisionError::invalid(
            "needs",
            &format!("{gib} GiB of memory and {millis} thousandths of a processor"),
            "Cloud Run lends 32 GiB and 8 processors at most, and files that are downloaded count as memory; mount the \
             weights with --gcs-volume, or use another platform",
        )
    })?;
    Ok((found.0, gib.max(u64::from(found.0 / 2))))
}
