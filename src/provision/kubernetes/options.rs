//! What a deployment on a cluster is made with beyond what every platform takes: kept in the records, and without secrets.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a worker's cache takes when nobody says more: the plan's figure counts, where there is one.
const CACHE_GIB: u32 = 50;

/// A cluster, a namespace and how a worker stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The kubeconfig's context; its current one when empty, the cluster around this process when there is no kubeconfig.
    pub context: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// An InferenceService of KServe in place of a Deployment, a Service and an autoscaler.
    pub kserve: bool,
    /// Where weights are kept.
    pub cache: Option<Cache>,
    /// The cache's size in GiB; what the plan says when none is given.
    pub cache_gib: Option<u32>,
    /// The claim's storage class; the cluster's default when none is given.
    pub storage_class: Option<String>,
    /// How the claim may be mounted.
    pub access: Option<CacheAccess>,
    /// Leaves the claim when the endpoint is deleted.
    pub keep_cache: bool,
    /// How the number of workers follows the load.
    pub autoscale: Option<Autoscale>,
    /// Prometheus, for KEDA's queries.
    pub prometheus: Option<String>,
    /// What is above zero when a sleeping endpoint should wake.
    pub wake_query: Option<String>,
    /// Who reaches the service.
    pub service: ServiceType,
    /// A host name that the cluster's ingress serves it under.
    pub ingress: Option<String>,
    /// The ingress's class.
    pub ingress_class: Option<String>,
    /// Labels that a node must have, in place of the GPU's product label.
    pub node_selector: BTreeMap<String, String>,
    /// Processors, in thousandths, in place of the plan's.
    pub cpu_millis: Option<u32>,
    /// Host memory in MiB, in place of the plan's.
    pub memory_mib: Option<u64>,
    /// The class of container runtime, where GPUs need one.
    pub runtime_class: Option<String>,
    /// The secret that pulls the image.
    pub pull_secret: Option<String>,
    /// The service account that a worker reads its bucket with.
    pub service_account: Option<String>,
    /// Without a NetworkPolicy.
    pub open_network: bool,
    /// Takes back fields that someone else has changed.
    pub force_conflicts: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            context: None,
            namespace: "default".to_owned(),
            kserve: false,
            cache: None,
            cache_gib: None,
            storage_class: None,
            access: None,
            keep_cache: false,
            autoscale: None,
            prometheus: None,
            wake_query: None,
            service: ServiceType::ClusterIp,
            ingress: None,
            ingress_class: None,
            node_selector: BTreeMap::new(),
            cpu_millis: None,
            memory_mib: None,
            runtime_class: None,
            pull_secret: None,
            service_account: None,
            open_network: false,
            force_conflicts: false,
        }
    }
}

impl Options {
    /// The cache's size in GiB: as said, else what the plan says, else enough for most models.
    pub(super) fn cache_gib(&self, disk_bytes: u64) -> u32 {
        let planned = u32::try_from(disk_bytes.div_ceil(1 << 30)).unwrap_or(u32::MAX);
        match (self.cache_gib, planned) {
            (Some(said), _) => said,
            (None, 0) => CACHE_GIB,
            (None, planned) => planned,
        }
    }
}

/// Where a worker keeps weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// A claim that is made with the endpoint.
    Pvc,
    /// The node's disk, for as long as the pod lives.
    EmptyDir,
    /// A folder of the node's.
    HostPath(String),
    /// A claim that somebody else made.
    Claim(String),
}

impl FromStr for Cache {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "pvc" => Ok(Self::Pvc),
            None if text == "emptydir" => Ok(Self::EmptyDir),
            Some(("hostpath", path)) if path.starts_with('/') => {
                Ok(Self::HostPath(path.to_owned()))
            }
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            _ => Err("use pvc, emptydir, hostpath=/PATH or claim=NAME".to_owned()),
        }
    }
}

/// How a claim may be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheAccess {
    /// By many nodes, to read and write.
    Rwx,
    /// By one node.
    Rwo,
}

impl CacheAccess {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rwx => "ReadWriteMany",
            Self::Rwo => "ReadWriteOnce",
        }
    }
}

impl FromStr for CacheAccess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "rwx" => Ok(Self::Rwx),
            "rwo" => Ok(Self::Rwo),
            _ => Err("use rwx or rwo".to_owned()),
        }
    }
}

/// What the number of workers follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autoscale {
    /// Nothing: there are always as many as allowed.
    Off,
    /// The processors' load, through Kubernetes' own autoscaler.
    Cpu,
    /// The requests that wait and run, through KEDA and Prometheus.
    Queue,
}

impl FromStr for Autoscale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "cpu" => Ok(Self::Cpu),
            "queue" => Ok(Self::Queue),
            _ => Err("use off, cpu or queue".to_owned()),
        }
    }
}

/// Who reaches the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceType {
    /// The cluster.
    ClusterIp,
    /// Whoever reaches a node.
    NodePort,
    /// Whoever reaches the load balancer that the cloud makes.
    LoadBalancer,
}

impl ServiceType {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

impl FromStr for ServiceType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "clusterip" => Ok(Self::ClusterIp),
            "nodeport" => Ok(Self::NodePort),
            "loadbalancer" => Ok(Self::LoadBalancer),
            _ => Err("use clusterip, nodeport or loadbalancer".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_read_as_it_is_written() {
        assert_eq!("pvc".parse(), Ok(Cache::Pvc));
        assert_eq!("hostpath=/w".parse(), Ok(Cache::HostPath("/w".to_owned())));
        assert_eq!("claim=old".parse(), Ok(Cache::Claim("old".to_owned())));
        for bad in ["", "pvc=1", "hostpath", "hostpath=w", "claim="] {
            assert!(bad.parse::<Cache>().is_err(), "{bad}");
        }
        let options = Options::default();
        assert_eq!(options.cache_gib(0), 50);
        assert_eq!(options.cache_gib((3 << 30) + 1), 4);
    }
}
