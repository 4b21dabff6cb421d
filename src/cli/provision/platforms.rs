//! The platforms by the names that records have for them, to be built again from the options that stand there. Logins come
//! from the environment, as they did the first time.

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[cfg(feature = "kubernetes")]
use super::kubernetes;
use super::{cloud_run, docker, process, runpod, vast, vertex};
use crate::provision::{Patience, Platform, Record};

/// Builds a platform from the options of a record.
type Rebuild = fn(&Value, Patience) -> anyhow::Result<Box<dyn Platform>>;

const PLATFORMS: &[(&str, Rebuild)] = &[
    ("cloudrun", cloud_run::rebuild),
    ("docker", docker::rebuild),
    #[cfg(feature = "kubernetes")]
    ("kubernetes", kubernetes::rebuild),
    ("process", process::rebuild),
    ("runpod", runpod::rebuild),
    ("vast", vast::rebuild),
    ("vertex", vertex::rebuild),
];

/// The platform of a record.
pub fn rebuild(record: &Record, patience: Patience) -> anyhow::Result<Box<dyn Platform>> {
    let row = PLATFORMS.iter().find(|(id, _)| *id == record.platform);
    match row {
        Some((_, rebuild)) => rebuild(&record.options, patience),
        None => anyhow::bail!(
            "`{}` is on {}, which this chandler does not know",
            record.name,
            record.platform
        ),
    }
}

/// A platform's options, as a record keeps them.
pub(super) fn kept<T: DeserializeOwned>(options: &Value) -> anyhow::Result<T> {
    T::deserialize(options).context("the record's options")
}
