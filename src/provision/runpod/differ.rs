//! What differs between an endpoint that exists and what it should be, as it is told and as it is sent: one function for both.

use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::ID;
use super::cached;
use super::endpoint::Endpoint;
use super::shape::{Compute, Shape, secret_behind};
use crate::provision::{Change, MASK, ProvisionError, Secrets};

/// What differs.
#[derive(Default)]
pub(super) struct Differences {
    pub changes: Vec<Change>,
    /// The body of the PATCH that mends it; secrets are placeholders.
    pub patch: Map<String, Value>,
    /// What no PATCH can change.
    fixed: Option<&'static str>,
}

impl Differences {
    pub fn of(shape: &Shape, there: &Endpoint, secrets: &Secrets) -> Self {
        let mut found = Self::default();
        found.compare(&["image"], json!(there.image), json!(shape.image));
        if shape.disk.is_some() {
            found.compare(&["disk"], json!(there.disk), json!(shape.disk));
        }
        let ports = there.ports.clone().unwrap_or_default();
        found.compare(&["ports"], json!(ports), json!(shape.ports));
        found.compare(&["registry"], json!(there.registry), json!(shape.registry));
        found.environment(shape, there, secrets);
        found.compute(shape, there);
        let workers = &there.workers;
        found.compare(&["workers", "min"], json!(workers.min), json!(shape.min));
        found.compare(&["workers", "max"], json!(workers.max), json!(shape.max));
        if shape.idle.is_some() {
            found.compare(
                &["workers", "idleTimeout"],
                json!(workers.idle_timeout),
                json!(shape.idle),
            );
        }
        found.compare(&["scaling"], there.scaling.clone(), shape.scaling.clone());
        found.compare(
            &["dataCenterIds"],
            json!(there.data_center_ids),
            json!(shape.data_centers),
        );
        found.compare(
            &["networkVolumes"],
            json!(there.network_volumes),
            json!(shape.volumes),
        );
        found.compare(&["timeout"], json!(there.timeout), json!(shape.timeout));
        found.compare(
            &["flashboot"],
            json!(there.flashboot),
            json!(shape.flashboot),
        );
        found.fixed(shape, there);
        found
    }

    /// What the platform cannot change.
    pub fn check(&self) -> Result<(), ProvisionError> {
        match self.fixed {
            None => Ok(()),
            Some(what) => Err(ProvisionError::Unsupported {
                platform: ID,
                what: format!("change of an endpoint's {what}"),
                instead: "delete it first, or choose another --name".to_owned(),
            }),
        }
    }

    fn told(&mut self, field: String, from: &Value, to: &Value) {
        self.changes.push(Change {
            field,
            from: shown(from),
            to: shown(to),
        });
    }

    fn compare(&mut self, path: &[&str], from: Value, to: Value) {
        if same(&from, &to) {
            return;
        }
        self.told(path.join("."), &from, &to);
        self.set(path, to);
    }

    fn set(&mut self, path: &[&str], to: Value) {
        match path {
            [key] => {
                self.patch.insert((*key).to_owned(), to);
            }
            [outer, inner] => {
                let within = self
                    .patch
                    .entry((*outer).to_owned())
                    .or_insert_with(|| json!({}));
                within[*inner] = to;
            }
            _ => {}
        }
    }

    /// The variables are sent all together, since a PATCH replaces them. What stands there may have been a secret, and is not
    /// shown.
    fn environment(&mut self, shape: &Shape, there: &Endpoint, secrets: &Secrets) {
        let mut keys: Vec<&String> = shape.env.keys().collect();
        keys.extend(there.env.iter().flat_map(|env| env.keys()));
        keys.sort();
        keys.dedup();
        let mut differs = false;
        for key in keys {
            let is = there.variable(key);
            let should = shape.env.get(key).map(String::as_str);
            let secret = should.and_then(|text| secret_behind(key, text, secrets));
            let value = secret.map(ExposeSecret::expose_secret).or(should);
            if is == value {
                continue;
            }
            differs = true;
            let to = match secret {
                Some(_) => json!(MASK),
                None => json!(should),
            };
            self.told(format!("env.{key}"), &json!(is.map(|_| MASK)), &to);
        }
        if differs {
            self.set(&["env"], json!(shape.env));
        }
    }

    fn compute(&mut self, shape: &Shape, there: &Endpoint) {
        match (&shape.compute, &there.gpu) {
            (Compute::Gpu(wanted), Some(gpu)) => {
                let before = self.changes.len();
                self.compare(&["gpu", "pools"], json!(gpu.pools), json!(wanted.pools));
                self.compare(
                    &["gpu", "excludedTypes"],
                    json!(gpu.excluded_types),
                    json!(wanted.excluded),
                );
                if self.changes.len() > before {
                    // The two are one selection: pools without exclusions clear them.
                    self.set(&["gpu", "pools"], json!(wanted.pools));
                    self.set(&["gpu", "excludedTypes"], json!(wanted.excluded));
                }
                self.compare(&["gpu", "count"], json!(gpu.count.unwrap_or(1)), json!(1));
                let floor = |version: &Option<String>| json!(version.clone().unwrap_or_default());
                self.compare(
                    &["gpu", "minCudaVersion"],
                    floor(&gpu.min_cuda_version),
                    floor(&wanted.minimum_cuda),
                );
            }
            (Compute::Cpu(wanted), None) => {
                let is = there.cpu.clone().unwrap_or_default();
                if is != *wanted {
                    self.told("cpu".to_owned(), &json!(is), &json!(wanted));
                    self.set(&["cpu"], json!(wanted));
                }
            }
            (wanted, _) => {
                let name = |gpu: bool| if gpu { json!("GPU") } else { json!("CPU") };
                let gpu = matches!(wanted, Compute::Gpu(_));
                self.told("compute".to_owned(), &name(!gpu), &name(gpu));
                self.fixed = Some("compute from GPU to CPU or back");
            }
        }
    }

    fn fixed(&mut self, shape: &Shape, there: &Endpoint) {
        let kind = there.kind.as_deref().unwrap_or(shape.kind);
        if kind != shape.kind {
            self.told("type".to_owned(), &json!(kind), &json!(shape.kind));
            self.fixed = Some("type from queue to load balancer or back");
        }
        // The API does not say which model it keeps; what it was told when it was made stands in the environment.
        if there.variable(cached::VARIABLE) != shape.cached.as_deref() {
            self.fixed = Some("cached model");
        }
    }
}

/// Lists of names are sets: RunPod gives them no order.
fn same(from: &Value, to: &Value) -> bool {
    match (from, to) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().all(|one| b.contains(one))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, one)| b.get(key).is_some_and(|other| same(one, other)))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => from == to,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
