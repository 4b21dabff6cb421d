//! What a deployment is on a cluster: pure functions from what is wanted to documents. They are printed, compared and applied
//! as they are; secrets stand in them as placeholders.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::kind::{APP, INSTANCE, Kind, MANAGED, OWNER};
use super::options::{Autoscale, Cache, CacheAccess, Options, ServiceType};
use super::{kserve, pod, scaling};
use crate::provision::{Deployment, MANAGED_BY, ProvisionError, Secrets};

/// What says which version of a deployment a pod is of.
pub(super) const REVISION: &str = "chandler/revision";
/// What says which version of its secret a pod was started with.
pub(super) const SECRET_VERSION: &str = "chandler/secret-version";

/// One document.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// The whole of it.
    pub manifest: Value,
}

/// What is wanted, with what follows from it.
pub(super) struct Wanted<'a> {
    pub deployment: &'a Deployment,
    pub options: &'a Options,
    pub cache: Cache,
    pub access: CacheAccess,
    pub autoscale: Autoscale,
    /// Fewest and most workers, as the cluster will have them.
    pub scale: (u32, u32),
    /// The version of the secret that pods are started with.
    pub secret_version: String,
}

impl<'a> Wanted<'a> {
    /// What a deployment comes to with some options.
    pub fn new(deployment: &'a Deployment, options: &'a Options) -> Result<Self, ProvisionError> {
        let max = deployment.scaling.max;
        let several = max > 1;
        let cache = options.cache.clone().unwrap_or(match several {
            true => Cache::EmptyDir,
            false => Cache::Pvc,
        });
        let access = options.access.unwrap_or(match several {
            true => CacheAccess::Rwx,
            false => CacheAccess::Rwo,
        });
        if cache == Cache::Pvc && access == CacheAccess::Rwo && several {
            return Err(ProvisionError::invalid(
                "--cache-access",
                "rwo",
                format!(
                    "one node holds such a claim, and --max-workers is {max}: use rwx, or --cache emptydir"
                ),
            ));
        }
        let autoscale = scaling::mode(deployment, options)?;
        if options.kserve {
            kserve::check(options)?;
        }
        Ok(Self {
            deployment,
            options,
            cache,
            access,
            autoscale,
            scale: scaling::range(deployment, options, autoscale),
            secret_version: String::new(),
        })
    }

    /// The container's name: KServe looks for its own.
    pub fn container(&self) -> &'static str {
        match self.options.kserve {
            true => "kserve-container",
            false => "worker",
        }
    }

    /// Every document, in the order in which they are made.
    pub fn objects(&self) -> Result<Vec<Object>, ProvisionError> {
        let mut all = Vec::new();
        let mut add = |kind, rest| {
            all.push(Object {
                kind,
                manifest: self.document(kind, rest),
            })
        };
        if !self.deployment.secrets.is_empty() {
            add(Kind::Secret, self.secret());
        }
        if self.cache == Cache::Pvc {
            add(Kind::Claim, self.claim());
        }
        if !self.options.open_network {
            add(Kind::NetworkPolicy, self.network_policy()?);
        }
        if self.options.kserve {
            add(Kind::InferenceService, kserve::service(self)?);
            return Ok(all);
        }
        add(Kind::Service, self.service());
        if let Some(host) = &self.options.ingress {
            add(Kind::Ingress, self.ingress(host));
        }
        add(Kind::Deployment, self.workers()?);
        if self.scale.1 > 1 {
            add(Kind::DisruptionBudget, self.disruption_budget());
        }
        match self.autoscale {
            Autoscale::Off => {}
            Autoscale::Cpu => add(Kind::HorizontalAutoscaler, scaling::by_cpu(self)),
            Autoscale::Queue => add(Kind::ScaledObject, scaling::by_queue(self)),
        }
        Ok(all)
    }

    /// A document with its head, and the rest below it.
    fn document(&self, kind: Kind, rest: Value) -> Value {
        let mut document = json!({
            "apiVersion": kind.version(),
            "kind": kind.name(),
            "metadata": {
                "name": kind.called(&self.deployment.name),
                "namespace": self.options.namespace,
                "labels": self.labels(),
            },
        });
        merge(&mut document, rest);
        document
    }

    /// Labels of everything.
    pub fn labels(&self) -> BTreeMap<&'static str, &str> {
        let mut labels = self.selector();
        labels.insert("app.kubernetes.io/component", "worker");
        labels.insert(MANAGED, MANAGED_BY);
        labels.insert(OWNER, &self.deployment.owner);
        labels
    }

    /// Labels that only this deployment's pods have, whatever else runs in the namespace.
    pub fn selector(&self) -> BTreeMap<&'static str, &str> {
        [(APP, MANAGED_BY), (INSTANCE, self.deployment.name.as_str())]
            .into_iter()
            .collect()
    }

    fn secret(&self) -> Value {
        let names = self.deployment.secrets.names();
        let data: BTreeMap<&str, String> = names
            .map(|name| (name, Secrets::placeholder_base64(name)))
            .collect();
        json!({"type": "Opaque", "data": data})
    }

    fn claim(&self) -> Value {
        let gib = self.options.cache_gib(self.deployment.needs.disk_bytes);
        let mut spec = json!({
            "accessModes": [self.access.as_str()],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": format!("{gib}Gi")}},
        });
        if let Some(class) = &self.options.storage_class {
            merge(&mut spec, json!({"storageClassName": class}));
        }
        json!({"spec": spec})
    }

    /// Only the worker's port is open. Out it may go anywhere but to the cloud's metadata service, which gives away the
    /// node's own login; a worker whose weights are in a bucket logs in there.
    fn network_policy(&self) -> Result<Value, ProvisionError> {
        let model = self.deployment.served.model.as_str();
        let bucket = ["gs://", "s3://"]
            .iter()
            .any(|scheme| model.starts_with(scheme));
        let out = match bucket || self.options.service_account.is_some() {
            true => json!([{}]),
            false => json!([{"to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
                {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128"]}},
            ]}]),
        };
        Ok(json!({"spec": {
            "podSelector": {"matchLabels": self.selector()},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": self.deployment.port()?, "protocol": "TCP"}]}],
            "egress": out,
        }}))
    }

    fn service(&self) -> Value {
        json!({"spec": {
            "type": self.options.service.as_str(),
            "selector": self.selector(),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        }})
    }

    fn ingress(&self, host: &str) -> Value {
        let backend = json!({"service": {"name": self.deployment.name, "port": {"name": "http"}}});
        let mut spec = json!({"rules": [{
            "host": host,
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
        }]});
        if let Some(class) = &self.options.ingress_class {
            merge(&mut spec, json!({"ingressClassName": class}));
        }
        json!({"spec": spec})
    }

    fn workers(&self) -> Result<Value, ProvisionError> {
        // As long as the longest start, and some time to find a machine.
        let deadline = self.deployment.start_timeout.as_secs() + 600;
        let mut spec = json!({
            "selector": {"matchLabels": self.selector()},
            "strategy": pod::strategy(self),
            "progressDeadlineSeconds": deadline,
            "revisionHistoryLimit": 2,
            "template": self.template()?,
        });
        // The number is the autoscaler's where there is one.
        if self.autoscale == Autoscale::Off {
            merge(&mut spec, json!({"replicas": self.scale.1}));
        }
        Ok(json!({"spec": spec}))
    }

    /// The pod with its labels, and what says of which version it is.
    pub fn template(&self) -> Result<Value, ProvisionError> {
        let spec = pod::spec(self)?;
        let version = format!("{spec}{}", self.secret_version);
        let revision: String = Sha256::digest(version.as_bytes())
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut annotations = json!({
            "prometheus.io/scrape": "true",
            "prometheus.io/path": "/metrics",
            "prometheus.io/port": self.deployment.port()?.to_string(),
            REVISION: revision,
        });
        if !self.deployment.secrets.is_empty() {
            merge(
                &mut annotations,
                json!({SECRET_VERSION: self.secret_version}),
            );
        }
        Ok(json!({
            "metadata": {"labels": self.labels(), "annotations": annotations},
            "spec": spec,
        }))
    }

    fn disruption_budget(&self) -> Value {
        json!({"spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": self.selector()},
        }})
    }

    /// What a person should know before it is made.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let (least, _) = self.scale;
        let wanted = self.deployment.scaling.min;
        if wanted < least && !self.options.kserve {
            remarks.push(format!(
                "{least} worker always runs: only KEDA lets it sleep (--autoscale queue with --prometheus and --wake-query)"
            ));
        }
        let seen = self.options.service != ServiceType::ClusterIp || self.options.ingress.is_some();
        let keyed = self.deployment.secrets.get("CHANDLER_API_KEYS").is_some();
        if seen && !keyed {
            remarks.push(
                "everybody who reaches its address may use it: --secret CHANDLER_API_KEYS asks for a key"
                    .to_owned(),
            );
        }
        remarks
    }
}

/// Puts the fields of one document into another, the deeper ones too.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
