//! `chandler provision kubernetes`: the worker on a cluster, or the documents that make it one.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kube::config::KubeConfigOptions;
use serde_json::Value;

use super::make::{failed, runtime, usage};
use super::platforms::kept;
use super::wanted::Wanted;
use super::worker_key::worker_key;
use crate::cli::output;
use crate::provision::kubernetes::{
    Autoscale, Cache, CacheAccess, Cluster, Kubernetes as Cloud, Options, ServiceType,
};
use crate::provision::{Patience, Platform};

/// Run the worker on a Kubernetes cluster: the kubeconfig's, or the one around this process.
///
/// Documents are applied server-side under the field manager `chandler`; a field that someone else has changed is left alone
/// and reported. CHANDLER_API_KEYS, where the worker asks for keys, is read here too: the first one proves that it serves.
#[derive(Debug, clap::Args)]
pub struct Kubernetes {
    #[command(flatten)]
    wanted: Wanted,
    /// The kubeconfig's context [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace, which has to exist [default: the context's]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only print the documents as YAML, for kubectl apply; needs no cluster, and no secret is in them
    #[arg(long, conflicts_with_all = ["diff", "dry_run", "json"])]
    yaml: bool,
    /// The same, with the values of secrets
    #[arg(long, conflicts_with_all = ["diff", "dry_run", "json"])]
    yaml_secrets: bool,
    /// An InferenceService of KServe in place of a Deployment, a Service and an autoscaler
    #[arg(long)]
    kserve: bool,
    #[command(flatten)]
    cached: Cached,
    #[command(flatten)]
    scaled: Scaled,
    #[command(flatten)]
    placed: Placed,
    /// Who reaches it: clusterip, nodeport or loadbalancer
    #[arg(long, value_name = "TYPE", default_value = "clusterip")]
    service: ServiceType,
    /// A host name that the cluster's ingress serves it under
    #[arg(long, value_name = "HOST")]
    ingress: Option<String>,
    /// The ingress's class [default: the cluster's]
    #[arg(long, value_name = "NAME", requires = "ingress")]
    ingress_class: Option<String>,
    /// Make no NetworkPolicy
    #[arg(long)]
    open_network: bool,
    /// Take back fields that someone else has changed
    #[arg(long)]
    force_conflicts: bool,
}

/// Where weights are kept.
#[derive(Debug, clap::Args)]
struct Cached {
    /// Where weights are kept: pvc, emptydir, hostpath=/PATH (writable for user 65532) or claim=NAME [default: pvc for one worker, emptydir for more, which each fetch their own]
    #[arg(long, value_name = "WHERE")]
    cache: Option<Cache>,
    /// The cache's size [default: what the plan says, else 50]
    #[arg(long, value_name = "GiB")]
    cache_gib: Option<u32>,
    /// How the claim is mounted: rwo by one node, rwx by many [default: rwo for one worker, rwx for more]
    #[arg(long, value_name = "MODE")]
    cache_access: Option<CacheAccess>,
    /// The claim's storage class [default: the cluster's]
    #[arg(long, value_name = "NAME")]
    storage_class: Option<String>,
    /// Leave the claim, with the weights in it, when the endpoint is deleted
    #[arg(long)]
    keep_cache: bool,
}

/// How many workers there are.
#[derive(Debug, clap::Args)]
struct Scaled {
    /// What the number of workers follows: off, cpu, or queue through KEDA [default: cpu where there may be several]
    #[arg(long, value_name = "BY")]
    autoscale: Option<Autoscale>,
    /// Prometheus as KEDA reaches it; it must scrape the workers' /metrics
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// A query that is above 0 when a sleeping endpoint should wake, such as an ingress's request rate; without it one worker always runs
    #[arg(long, value_name = "PROMQL")]
    wake_query: Option<String>,
}

/// Where a worker runs and with what.
#[derive(Debug, clap::Args)]
struct Placed {
    /// A label that a node must have, in place of the GPU's product label
    #[arg(long, value_name = "KEY=VALUE")]
    node_selector: Vec<String>,
    /// Processors of a worker, in thousandths [default: what the plan says, else 2000]
    #[arg(long, value_name = "MILLIS")]
    cpu_millis: Option<u32>,
    /// Host memory of a worker [default: what the plan says, else 4096]
    #[arg(long, value_name = "MiB")]
    memory_mib: Option<u64>,
    /// The class of container runtime, where GPUs need one
    #[arg(long, value_name = "NAME")]
    runtime_class: Option<String>,
    /// The secret that pulls the image
    #[arg(long, value_name = "NAME")]
    pull_secret: Option<String>,
    /// The service account that a worker reads its bucket with
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
}

impl Kubernetes {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let places = &self.wanted.places;
        let printed = self.yaml || self.yaml_secrets;
        let offline = printed || self.wanted.dry_run;
        let config = match config(self.context.as_deref()) {
            Ok(config) => Some(config),
            Err(_) if offline => None,
            Err(error) => return Err(error),
        };
        let namespace = config
            .as_ref()
            .map(|config| config.default_namespace.clone());
        let options = self.options(namespace)?;
        let cluster = config.map(|config| Cluster::new(config, places.patience()));
        let cloud = Cloud::new(options, cluster.transpose().map_err(failed)?, worker_key());
        let records = places.records()?;
        if printed {
            let deployment = self.wanted.deployment(&cloud, &records)?;
            output::print(&cloud.yaml(&deployment, self.yaml_secrets).map_err(failed)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        self.wanted.make(&cloud, &records)
    }

    fn options(&self, namespace: Option<String>) -> anyhow::Result<Options> {
        let given = self.namespace.clone().or(namespace);
        Ok(Options {
            context: self.context.clone(),
            namespace: given.unwrap_or_else(|| "default".to_owned()),
            kserve: self.kserve,
            cache: self.cached.cache.clone(),
            cache_gib: self.cached.cache_gib,
            storage_class: self.cached.storage_class.clone(),
            access: self.cached.cache_access,
            keep_cache: self.cached.keep_cache,
            autoscale: self.scaled.autoscale,
            prometheus: self.scaled.prometheus.clone(),
            wake_query: self.scaled.wake_query.clone(),
            service: self.service,
            ingress: self.ingress.clone(),
            ingress_class: self.ingress_class.clone(),
            node_selector: selector(&self.placed.node_selector)?,
            cpu_millis: self.placed.cpu_millis,
            memory_mib: self.placed.memory_mib,
            runtime_class: self.placed.runtime_class.clone(),
            pull_secret: self.placed.pull_secret.clone(),
            service_account: self.placed.service_account.clone(),
            open_network: self.open_network,
            force_conflicts: self.force_conflicts,
        })
    }
}

fn selector(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(usage(format!(
            "--node-selector is `{text}`; give KEY=VALUE"
        ))),
    };
    Ok(texts.iter().map(pair).collect::<Result<_, _>>()?)
}

/// The kubeconfig ($KUBECONFIG, else ~/.kube/config), else the account of the pod that we are in.
fn config(context: Option<&str>) -> anyhow::Result<kube::Config> {
    let wanted = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let read = runtime()?.block_on(kube::Config::from_kubeconfig(&wanted));
    read.or_else(|error| match (context, kube::Config::incluster()) {
        (None, Ok(config)) => Ok(config),
        _ => Err(usage(format!(
            "no login for a cluster: {error}; set KUBECONFIG, or have ~/.kube/config"
        ))),
    })
    .map_err(Into::into)
}

/// Builds it again from a record.
pub(super) fn rebuild(options: &Value, patience: Patience) -> anyhow::Result<Box<dyn Platform>> {
    let options: Options = kept(options)?;
    let cluster = Cluster::new(config(options.context.as_deref())?, patience)?;
    Ok(Box::new(Cloud::new(options, Some(cluster), worker_key())))
}
