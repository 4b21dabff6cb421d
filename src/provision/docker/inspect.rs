//! What docker says of a container, and how it differs from what is wanted.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde_json::Value;

use super::Options;
use super::request::{PORT, SECRETS, VARIABLES};
use crate::provision::{Change, Deployment, MASK, Name, Piece};

/// A container, as far as it matters.
#[derive(Debug)]
pub(super) struct Container {
    pub id: String,
    pub deployment: Option<String>,
    pub image: String,
    variables: BTreeMap<String, String>,
    /// Those of them that were given as secrets.
    secrets: Vec<String>,
    pub runs: bool,
    pub was_started: bool,
    pub restarts: u64,
    pub gpus: bool,
    pub port: Option<u16>,
    asked: (String, String),
    exit: (i64, String, bool),
}

impl Container {
    /// Reads an inspection.
    ///
    /// # Errors
    /// What is missing.
    pub fn read(body: &Value) -> Result<Self, String> {
        let at = |pointer: &str| body.pointer(pointer).unwrap_or(&Value::Null);
        let text = |pointer: &str| at(pointer).as_str().unwrap_or_default().to_owned();
        let id = at("/Id").as_str().ok_or("it has no Id")?.to_owned();
        let of_port = |table: &str, field: &str| {
            let binding = at(table).get(PORT)?.get(0)?;
            Some(binding.get(field)?.as_str()?.to_owned())
        };
        let names = text(&format!("/Config/Labels/{VARIABLES}"));
        let environment = at("/Config/Env").as_array().cloned().unwrap_or_default();
        let pairs = environment
            .iter()
            .filter_map(|pair| pair.as_str()?.split_once('='));
        let own = pairs.filter(|(name, _)| names.split(' ').any(|own| own == *name));
        let state = text("/State/Status");
        Ok(Self {
            id,
            deployment: at("/Config/Labels/chandler-deployment")
                .as_str()
                .map(str::to_owned),
            image: text("/Config/Image"),
            variables: own
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            secrets: text(&format!("/Config/Labels/{SECRETS}"))
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            runs: matches!(state.as_str(), "running" | "restarting"),
            was_started: state != "created",
            restarts: at("/RestartCount").as_u64().unwrap_or(0),
            gpus: at("/HostConfig/DeviceRequests")
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            port: of_port("/NetworkSettings/Ports", "HostPort").and_then(|port| port.parse().ok()),
            asked: (
                of_port("/HostConfig/PortBindings", "HostIp").unwrap_or_default(),
                of_port("/HostConfig/PortBindings", "HostPort").unwrap_or_default(),
            ),
            exit: (
                at("/State/ExitCode").as_i64().unwrap_or(0),
                text("/State/Error"),
                at("/State/OOMKilled").as_bool().unwrap_or(false),
            ),
        })
    }

    /// How it ended.
    pub fn ending(&self) -> String {
        match &self.exit {
            (_, _, true) => "the container was killed: out of memory".to_owned(),
            (code, error, _) if error.is_empty() => format!("the container ended with code {code}"),
            (code, error, _) => format!("the container ended with code {code}: {error}"),
        }
    }

    /// What differs from what is wanted; secrets are compared and not shown.
    pub fn changes(&self, wanted: &Deployment, options: &Options) -> Vec<Change> {
        let gpu = !wanted.hardware.is_empty();
        let port = options.port.map(|port| port.to_string());
        let fields = [
            ("image", self.image.clone(), wanted.image.clone()),
            ("gpu", self.gpus.to_string(), gpu.to_string()),
            ("host", self.asked.0.clone(), options.host.clone()),
            ("port", self.asked.1.clone(), port.unwrap_or_default()),
        ];
        let differs = |(_, from, to): &(&str, String, String)| from != to;
        let change = |(field, from, to): (&str, String, String)| Change {
            field: field.to_owned(),
            from,
            to,
        };
        let mut changes: Vec<Change> = fields.into_iter().filter(differs).map(change).collect();
        changes.extend(self.changed_variables(wanted));
        changes
    }

    fn changed_variables(&self, wanted: &Deployment) -> Vec<Change> {
        let plain = wanted.environment();
        let mut names: Vec<&str> = self.variables.keys().map(String::as_str).collect();
        names.extend(plain.keys().map(String::as_str));
        names.extend(wanted.secrets.names());
        names.sort_unstable();
        names.dedup();
        let masked = |value: &str, is_secret: bool| match is_secret && !value.is_empty() {
            true => MASK.to_owned(),
            false => value.to_owned(),
        };
        let change = |name: &str| {
            let secret = wanted.secrets.get(name).map(ExposeSecret::expose_secret);
            let to = secret
                .or(plain.get(name).map(String::as_str))
                .unwrap_or_default();
            let from = self.variables.get(name).map_or("", String::as_str);
            let was_secret = self.secrets.iter().any(|own| own == name);
            (from != to).then(|| Change {
                field: format!("env.{name}"),
                from: masked(from, was_secret),
                to: masked(to, secret.is_some()),
            })
        };
        names.into_iter().filter_map(change).collect()
    }
}

/// The containers of a list that bear our mark.
///
/// # Errors
/// When it is no list.
pub(super) fn pieces(list: &Value) -> Result<Vec<Piece>, String> {
    let list = list.as_array().ok_or("it is no list")?;
    let piece = |one: &Value| {
        let label = |key: &str| one.get("Labels")?.get(key)?.as_str().map(str::to_owned);
        Some(Piece {
            kind: "container",
            id: one.get("Id")?.as_str()?.to_owned(),
            deployment: label("chandler-deployment").and_then(|name| Name::parse(&name).ok()),
            owner: label("chandler-owner"),
            orphan: one
                .get("State")
                .and_then(Value::as_str)
                .is_some_and(|state| matches!(state, "exited" | "dead")),
        })
    };
    Ok(list.iter().filter_map(piece).collect())
}
