//! A Kubernetes cluster. Documents are made by pure functions from what is wanted ([`manifests`]), applied server-side through
//! the `kube` crate ([`cluster`], [`apply`]), and found again by their names and labels. Scale beyond one machine is the cluster's.

mod apply;
mod cluster;
mod compare;
mod kind;
mod kserve;
mod look;
mod manifests;
mod options;
mod pod;
mod reach;
mod scaling;
mod take_down;
mod yaml;

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

pub use cluster::Cluster;
pub use kind::Kind;
pub use manifests::Object;
pub use options::{Autoscale, Cache, CacheAccess, Options, ServiceType};

use self::apply::How;
use self::manifests::Wanted;
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say};
use super::{Access, Call, Deployment, Name, ProvisionError, Secrets, Status, Step};
use crate::catalog::Hardware;

const ID: &str = "kubernetes";
/// Who the cluster says has set a field.
const MANAGER: &str = "chandler";
/// What stands for the cluster's address where none is known.
const NO_CLUSTER: &str = "https://{cluster}";

/// A namespace of a cluster.
pub struct Kubernetes {
    options: Options,
    cluster: Option<Cluster>,
    worker_key: Option<SecretString>,
}

impl Kubernetes {
    /// A namespace; without a cluster it can only say what it would do. The worker's own key, where it asks for one, proves
    /// that it serves.
    pub fn new(
        options: Options,
        cluster: Option<Cluster>,
        worker_key: Option<SecretString>,
    ) -> Self {
        Self {
            options,
            cluster,
            worker_key,
        }
    }

    /// Every document of a deployment, in the order in which they are made; secrets are placeholders.
    ///
    /// # Errors
    /// When a cluster cannot run such a deployment.
    pub fn documents(&self, deployment: &Deployment) -> Result<Vec<Object>, ProvisionError> {
        Wanted::new(deployment, &self.options)?.objects()
    }

    /// The same as YAML; with `secrets` the values of secrets are in it, otherwise a line that says how to make them.
    ///
    /// # Errors
    /// When a cluster cannot run such a deployment.
    pub fn yaml(&self, deployment: &Deployment, secrets: bool) -> Result<String, ProvisionError> {
        let mut wanted = Wanted::new(deployment, &self.options)?;
        wanted.secret_version = yaml::printed_version(&deployment.secrets);
        yaml::print(&wanted, secrets)
    }

    fn cluster(&self) -> Result<&Cluster, ProvisionError> {
        self.cluster
            .as_ref()
            .ok_or_else(|| ProvisionError::Missing {
                platform: ID,
                what: "a cluster".to_owned(),
                remedy: "set KUBECONFIG, or have ~/.kube/config".to_owned(),
            })
    }

    fn pace(&self) -> f64 {
        self.cluster
            .as_ref()
            .map_or(1.0, |cluster| cluster.api.patience().pace)
    }

    fn steps(&self, deployment: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        let mut wanted = Wanted::new(deployment, &self.options)?;
        if !deployment.secrets.is_empty() {
            wanted.secret_version = "{the secret's resourceVersion}".to_owned();
        }
        let url = self
            .cluster
            .as_ref()
            .map_or(NO_CLUSTER, |cluster| &cluster.url);
        let how = How {
            dry: false,
            force: self.options.force_conflicts,
        };
        let step = |object: &Object| apply::call(url, &self.options.namespace, object, how).into();
        Ok(wanted.objects()?.iter().map(step).collect())
    }

    /// Sets the bounds where they stand: at the autoscaler, else at the workers themselves.
    async fn rescale(&self, name: &Name, (min, max): (u32, u32)) -> Result<(), ProvisionError> {
        if max == 0 || min > max {
            return Err(ProvisionError::Unsupported {
                platform: ID,
                what: format!("scale of {min} to {max} workers"),
                instead: "use 1 or more, and no fewer than the fewest".to_owned(),
            });
        }
        let least = min.max(1);
        let (kind, spec) = if self.options.kserve {
            let bounds = json!({"predictor": {"minReplicas": least, "maxReplicas": max}});
            (Kind::InferenceService, bounds)
        } else if self.find(Kind::ScaledObject, name).await?.is_some() {
            let min = match self.options.wake_query {
                Some(_) => min,
                None => least,
            };
            (
                Kind::ScaledObject,
                json!({"minReplicaCount": min, "maxReplicaCount": max}),
            )
        } else if self.find(Kind::HorizontalAutoscaler, name).await?.is_some() {
            let bounds = json!({"minReplicas": least, "maxReplicas": max});
            (Kind::HorizontalAutoscaler, bounds)
        } else if least == max {
            (Kind::Deployment, json!({"replicas": max}))
        } else {
            return Err(ProvisionError::Unsupported {
                platform: ID,
                what: format!("autoscaler for `{name}`, and so no {least} to {max} workers"),
                instead: "give as many as fewest and most, or run provision again with --autoscale cpu or queue".to_owned(),
            });
        };
        self.find(kind, name)
            .await?
            .ok_or_else(|| self.unknown(name))?;
        let cluster = self.cluster()?;
        let url = format!(
            "{}{}/{}?fieldManager={MANAGER}&fieldValidation=Strict",
            cluster.url,
            kind.path(&self.options.namespace),
            kind.called(name)
        );
        let call = Call::new(format!("scale the {}", kind.noun()), Method::PATCH, url)
            .header("content-type", "application/merge-patch+json")
            .with(json!({"spec": spec}))
            .repeatable();
        cluster.api.send(&call, &Secrets::default()).await?;
        Ok(())
    }
}

impl Platform for Kubernetes {
    fn id(&self) -> &'static str {
        ID
    }

    fn options(&self) -> Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        self.steps(wanted)
    }

    /// All at once: the cluster's scheduler tries nodes with any of them.
    fn groups(&self, hardware: &[Hardware]) -> Vec<Vec<Hardware>> {
        vec![hardware.to_vec()]
    }

    fn diff<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Vec<Change>>> {
        Box::pin(self.differences(wanted))
    }

    fn apply<'a>(&'a self, wanted: &'a Deployment, say: Say<'a>) -> Answer<'a, Applied> {
        Box::pin(self.make(wanted, say))
    }

    fn status<'a>(&'a self, name: &'a Name) -> Answer<'a, Status> {
        Box::pin(self.look(name))
    }

    fn url<'a>(&'a self, name: &'a Name) -> Answer<'a, Access> {
        Box::pin(self.reach(name))
    }

    fn logs<'a>(&'a self, name: &'a Name, follow: bool, sink: LogSink<'a>) -> Answer<'a, ()> {
        Box::pin(self.tail(name, follow, sink))
    }

    fn scale<'a>(&'a self, name: &'a Name, scale: (u32, u32)) -> Answer<'a, ()> {
        Box::pin(self.rescale(name, scale))
    }

    fn delete<'a>(&'a self, name: &'a Name, say: Say<'a>) -> Answer<'a, bool> {
        Box::pin(self.take_down(name, say))
    }

    fn ours(&self) -> Answer<'_, Vec<Piece>> {
        Box::pin(self.all_ours())
    }

    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()> {
        Box::pin(self.drop_piece(piece))
    }
}
