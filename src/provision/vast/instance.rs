//! One rented machine, as the platform lists it, and what of it is not as it should be.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Options, requests};
use crate::provision::{
    Change, DEPLOYMENT_VARIABLE, Deployment, MASK, Name, OWNER_VARIABLE, ProvisionError, Secrets,
};

/// States from which a machine does not come back by itself (docs.vast.ai, "hello world").
const LOST: [&str; 3] = ["exited", "offline", "unknown"];

/// A machine. What has no id is none.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub id: u64,
    pub label: Option<String>,
    /// The deployment whose mark it bears.
    pub deployment: Option<Name>,
    pub owner: Option<String>,
    pub status: Option<String>,
    pub message: Option<String>,
    pub gpu: Option<String>,
    /// US dollars an hour.
    pub price: Option<f64>,
    intended: Option<String>,
    image: Option<String>,
    disk_gb: Option<f64>,
    environment: BTreeMap<String, String>,
    ip: Option<String>,
    /// The outer port of each inner one.
    ports: BTreeMap<String, u16>,
}

impl Instance {
    pub fn read(value: &Value) -> Option<Self> {
        let text = |key: &str| {
            let text = value.get(key)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        let environment = environment(value.get("extra_env"));
        let mark = |key: &str| environment.get(key).cloned();
        Some(Self {
            id: value.get("id")?.as_u64()?,
            label: text("label"),
            deployment: mark(DEPLOYMENT_VARIABLE).and_then(|name| Name::parse(&name).ok()),
            owner: mark(OWNER_VARIABLE),
            status: text("actual_status"),
            message: text("status_msg"),
            gpu: text("gpu_name"),
            price: value.get("dph_total").and_then(Value::as_f64),
            intended: text("intended_status"),
            image: text("image_uuid"),
            disk_gb: value.get("disk_space").and_then(Value::as_f64),
            ip: text("public_ipaddr"),
            ports: ports(value.get("ports")),
            environment,
        })
    }

    /// Whether it will not serve any more.
    pub fn is_lost(&self) -> bool {
        let lost = |status: &str| LOST.contains(&status);
        self.status.as_deref().is_some_and(lost) || self.intended.as_deref() == Some("stopped")
    }

    /// Where its worker is reached from outside.
    pub fn address(&self) -> Option<String> {
        let port = self.environment.keys().find_map(|key| {
            let (_, inner) = key.strip_prefix("-p ")?.split_once(':')?;
            self.ports.get(&format!("{inner}/tcp"))
        })?;
        Some(format!("http://{}:{port}", self.ip.as_ref()?))
    }
}

/// Pairs of name and value.
fn environment(pairs: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = pairs.and_then(Value::as_array);
    let pair = |pair: &Value| {
        let text = |index: usize| pair.get(index)?.as_str().map(str::to_owned);
        Some((text(0)?, text(1)?))
    };
    pairs.into_iter().flatten().filter_map(pair).collect()
}

/// `{"8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "33526"}]}`
fn ports(ports: Option<&Value>) -> BTreeMap<String, u16> {
    let ports = ports.and_then(Value::as_object);
    let outer = |(inner, list): (&String, &Value)| {
        let port = list.get(0)?.get("HostPort")?;
        let port = port
            .as_str()
            .and_then(|text| text.parse().ok())
            .or_else(|| port.as_u64().and_then(|port| u16::try_from(port).ok()))?;
        Some((inner.clone(), port))
    };
    ports.into_iter().flatten().filter_map(outer).collect()
}

/// What of a machine differs from what is wanted. A value that is a secret is masked; the platform's own variables are none
/// of our business.
pub(super) fn changes(
    there: &Instance,
    wanted: &Deployment,
    options: &Options,
) -> Result<Vec<Change>, ProvisionError> {
    let mut changes = Vec::new();
    let mut differ = |field: &str, from: &str, to: &str| {
        if from != to {
            changes.push(Change {
                field: field.to_owned(),
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
    };
    let image = there.image.as_deref().unwrap_or_default();
    differ("image", image, wanted.image(super::ID)?);
    let disk = there.disk_gb.unwrap_or(0.0);
    differ(
        "disk",
        &disk.to_string(),
        &requests::disk_gb(options, wanted).to_string(),
    );
    let gpu = there.gpu.as_deref().unwrap_or_default();
    let names: Vec<&str> = wanted
        .hardware
        .iter()
        .filter_map(|card| card.vast.as_deref())
        .collect();
    if !names.is_empty() && !names.contains(&gpu) {
        differ("gpu", gpu, &names.join(", "));
    }
    let should = requests::environment(wanted)?;
    let gone = there
        .environment
        .keys()
        .filter(|key| key.starts_with("CHANDLER_") && !should.contains_key(*key));
    for key in should.keys().chain(gone) {
        let from = there.environment.get(key).map_or("", String::as_str);
        let held = should.get(key).and_then(Value::as_str).unwrap_or_default();
        let to = wanted.secrets.fill_text(held);
        let secret = held == Secrets::placeholder(key) || wanted.secrets.get(key).is_some();
        if from != to {
            // What it was may have been a secret once, whatever it is now.
            let from = if from.is_empty() { "" } else { MASK };
            let to = if secret { MASK } else { &to };
            changes.push(Change {
                field: format!("env.{key}"),
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
    }
    Ok(changes)
}
