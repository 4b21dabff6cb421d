//! The kinds of objects that a deployment is made of: where the API keeps them, and in what order they come and go.

use serde_json::Value;

use crate::provision::{MANAGED_BY, Name};

/// What a label says whose tool made an object.
pub(super) const MANAGED: &str = "app.kubernetes.io/managed-by";
/// What a label says which deployment it belongs to.
pub(super) const INSTANCE: &str = "app.kubernetes.io/instance";
/// What a label says what it is.
pub(super) const APP: &str = "app.kubernetes.io/name";
/// What a label says whose it is.
pub(super) const OWNER: &str = "chandler-owner";

/// One kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The worker's secret variables.
    Secret,
    /// The cache.
    Claim,
    /// Who may speak with a worker, and with whom it may.
    NetworkPolicy,
    /// The address.
    Service,
    /// The address from outside.
    Ingress,
    /// The workers.
    Deployment,
    /// KServe's own: workers, address and autoscaler in one.
    InferenceService,
    /// How many workers a drain of nodes may take at once.
    DisruptionBudget,
    /// Workers by load.
    HorizontalAutoscaler,
    /// Workers by KEDA.
    ScaledObject,
}

impl Kind {
    /// All of them, in the order in which they are made.
    pub const ALL: [Self; 10] = [
        Self::Secret,
        Self::Claim,
        Self::NetworkPolicy,
        Self::Service,
        Self::Ingress,
        Self::Deployment,
        Self::InferenceService,
        Self::DisruptionBudget,
        Self::HorizontalAutoscaler,
        Self::ScaledObject,
    ];

    /// The order in which they go: first what would make workers anew, then workers, then what they lived on.
    pub(super) const GOING: [Self; 10] = [
        Self::ScaledObject,
        Self::HorizontalAutoscaler,
        Self::InferenceService,
        Self::Deployment,
        Self::Ingress,
        Self::Service,
        Self::DisruptionBudget,
        Self::NetworkPolicy,
        Self::Secret,
        Self::Claim,
    ];

    /// As a document's `kind` says it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// As a document's `apiVersion` says it.
    pub fn version(self) -> &'static str {
        self.row().1
    }

    /// As a person says it.
    pub(super) fn noun(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Secret => ("Secret", "v1", "secrets", "secret"),
            Self::Claim => (
                "PersistentVolumeClaim",
                "v1",
                "persistentvolumeclaims",
                "claim",
            ),
            Self::NetworkPolicy => (
                "NetworkPolicy",
                "networking.k8s.io/v1",
                "networkpolicies",
                "network policy",
            ),
            Self::Service => ("Service", "v1", "services", "service"),
            Self::Ingress => ("Ingress", "networking.k8s.io/v1", "ingresses", "ingress"),
            Self::Deployment => ("Deployment", "apps/v1", "deployments", "deployment"),
            Self::InferenceService => (
                "InferenceService",
                "serving.kserve.io/v1beta1",
                "inferenceservices",
                "inference service",
            ),
            Self::DisruptionBudget => (
                "PodDisruptionBudget",
                "policy/v1",
                "poddisruptionbudgets",
                "disruption budget",
            ),
            Self::HorizontalAutoscaler => (
                "HorizontalPodAutoscaler",
                "autoscaling/v2",
                "horizontalpodautoscalers",
                "autoscaler",
            ),
            Self::ScaledObject => (
                "ScaledObject",
                "keda.sh/v1alpha1",
                "scaledobjects",
                "scaled object",
            ),
        }
    }

    /// Where the API keeps those of a namespace: a path.
    pub(super) fn path(self, namespace: &str) -> String {
        let (_, version, plural, _) = self.row();
        let root = match version.contains('/') {
            true => "apis",
            false => "api",
        };
        format!("/{root}/{version}/namespaces/{namespace}/{plural}")
    }

    /// What that of a deployment is called.
    pub(super) fn called(self, name: &Name) -> String {
        match self {
            Self::Secret => format!("{name}-env"),
            Self::Claim => format!("{name}-cache"),
            _ => name.to_string(),
        }
    }

    /// What has to be installed in a cluster that does not know the kind.
    pub(super) fn belongs_to(self) -> Option<&'static str> {
        match self {
            Self::ScaledObject => Some("KEDA"),
            Self::InferenceService => Some("KServe"),
            _ => None,
        }
    }
}

/// A label of an object.
pub(super) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// Whether an object is this deployment's, and made here.
pub(super) fn is_ours(object: &Value, name: &Name) -> bool {
    label(object, MANAGED) == Some(MANAGED_BY) && label(object, INSTANCE) == Some(name.as_str())
}
