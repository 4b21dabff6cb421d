//! What fields each kind has, as far as a worker's documents may need them; anything else is unknown, and refused.

use serde_json::Value;

/// A kind.
pub(super) struct Row {
    pub plural: &'static str,
    pub kind: &'static str,
    pub version: &'static str,
    /// Not the API server's own.
    pub custom: bool,
    /// Paths of fields below the head; `*` is any key, `[]` any place of a list.
    pub fields: &'static [&'static str],
}

const HEAD: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.namespace",
    "metadata.labels.*",
    "metadata.annotations.*",
];
/// A pod's specification, below where it stands.
const POD: &[&str] = &[
    "automountServiceAccountToken",
    "serviceAccountName",
    "runtimeClassName",
    "terminationGracePeriodSeconds",
    "imagePullSecrets.[].name",
    "nodeSelector.*",
    "securityContext.runAsNonRoot",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.seccompProfile.type",
    "tolerations.[].key",
    "tolerations.[].operator",
    "tolerations.[].effect",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.[].matchExpressions.[].key",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.[].matchExpressions.[].operator",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms.[].matchExpressions.[].values.[]",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.[].weight",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.[].preference.matchExpressions.[].key",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.[].preference.matchExpressions.[].operator",
    "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution.[].preference.matchExpressions.[].values.[]",
    "volumes.[].name",
    "volumes.[].persistentVolumeClaim.claimName",
    "volumes.[].emptyDir.sizeLimit",
    "volumes.[].emptyDir.medium",
    "volumes.[].hostPath.path",
    "volumes.[].hostPath.type",
    "containers.[].name",
    "containers.[].image",
    "containers.[].args.[]",
    "containers.[].ports.[].name",
    "containers.[].ports.[].containerPort",
    "containers.[].ports.[].protocol",
    "containers.[].env.[].name",
    "containers.[].env.[].value",
    "containers.[].env.[].valueFrom.secretKeyRef.name",
    "containers.[].env.[].valueFrom.secretKeyRef.key",
    "containers.[].startupProbe.httpGet.path",
    "containers.[].startupProbe.httpGet.port",
    "containers.[].startupProbe.periodSeconds",
    "containers.[].startupProbe.timeoutSeconds",
    "containers.[].startupProbe.failureThreshold",
    "containers.[].readinessProbe.httpGet.path",
    "containers.[].readinessProbe.httpGet.port",
    "containers.[].readinessProbe.periodSeconds",
    "containers.[].readinessProbe.timeoutSeconds",
    "containers.[].readinessProbe.failureThreshold",
    "containers.[].livenessProbe.httpGet.path",
    "containers.[].livenessProbe.httpGet.port",
    "containers.[].livenessProbe.periodSeconds",
    "containers.[].livenessProbe.timeoutSeconds",
    "containers.[].livenessProbe.failureThreshold",
    "containers.[].lifecycle.preStop.exec.command.[]",
    "containers.[].resources.requests.*",
    "containers.[].resources.limits.*",
    "containers.[].securityContext.allowPrivilegeEscalation",
    "containers.[].securityContext.readOnlyRootFilesystem",
    "containers.[].securityContext.capabilities.drop.[]",
    "containers.[].volumeMounts.[].name",
    "containers.[].volumeMounts.[].mountPath",
];

pub(super) const KINDS: &[Row] = &[
    Row {
        plural: "secrets",
        kind: "Secret",
        version: "v1",
        custom: false,
        fields: &["type", "data.*"],
    },
    Row {
        plural: "persistentvolumeclaims",
        kind: "PersistentVolumeClaim",
        version: "v1",
        custom: false,
        fields: &[
            "spec.accessModes.[]",
            "spec.volumeMode",
            "spec.resources.requests.*",
            "spec.storageClassName",
        ],
    },
    Row {
        plural: "networkpolicies",
        kind: "NetworkPolicy",
        version: "networking.k8s.io/v1",
        custom: false,
        fields: &[
            "spec.podSelector.matchLabels.*",
            "spec.policyTypes.[]",
            "spec.ingress.[].ports.[].port",
            "spec.ingress.[].ports.[].protocol",
            "spec.egress.[].to.[].ipBlock.cidr",
            "spec.egress.[].to.[].ipBlock.except.[]",
        ],
    },
    Row {
        plural: "services",
        kind: "Service",
        version: "v1",
        custom: false,
        fields: &[
            "spec.type",
            "spec.selector.*",
            "spec.ports.[].name",
            "spec.ports.[].port",
            "spec.ports.[].targetPort",
            "spec.ports.[].protocol",
            "spec.ports.[].appProtocol",
        ],
    },
    Row {
        plural: "ingresses",
        kind: "Ingress",
        version: "networking.k8s.io/v1",
        custom: false,
        fields: &[
            "spec.ingressClassName",
            "spec.rules.[].host",
            "spec.rules.[].http.paths.[].path",
            "spec.rules.[].http.paths.[].pathType",
            "spec.rules.[].http.paths.[].backend.service.name",
            "spec.rules.[].http.paths.[].backend.service.port.name",
        ],
    },
    Row {
        plural: "deployments",
        kind: "Deployment",
        version: "apps/v1",
        custom: false,
        fields: &[
            "spec.replicas",
            "spec.selector.matchLabels.*",
            "spec.strategy.type",
            "spec.strategy.rollingUpdate.maxSurge",
            "spec.strategy.rollingUpdate.maxUnavailable",
            "spec.progressDeadlineSeconds",
            "spec.revisionHistoryLimit",
            "spec.template.metadata.labels.*",
            "spec.template.metadata.annotations.*",
            "spec.template.spec.",
        ],
    },
    Row {
        plural: "inferenceservices",
        kind: "InferenceService",
        version: "serving.kserve.io/v1beta1",
        custom: true,
        fields: &[
            "spec.predictor.minReplicas",
            "spec.predictor.maxReplicas",
            "spec.predictor.timeout",
            "spec.predictor.labels.*",
            "spec.predictor.annotations.*",
            "spec.predictor.deploymentStrategy.type",
            "spec.predictor.deploymentStrategy.rollingUpdate.maxSurge",
            "spec.predictor.deploymentStrategy.rollingUpdate.maxUnavailable",
            "spec.predictor.scaleMetric",
            "spec.predictor.scaleTarget",
            "spec.predictor.",
        ],
    },
    Row {
        plural: "poddisruptionbudgets",
        kind: "PodDisruptionBudget",
        version: "policy/v1",
        custom: false,
        fields: &["spec.maxUnavailable", "spec.selector.matchLabels.*"],
    },
    Row {
        plural: "horizontalpodautoscalers",
        kind: "HorizontalPodAutoscaler",
        version: "autoscaling/v2",
        custom: false,
        fields: &[
            "spec.scaleTargetRef.apiVersion",
            "spec.scaleTargetRef.kind",
            "spec.scaleTargetRef.name",
            "spec.minReplicas",
            "spec.maxReplicas",
            "spec.metrics.[].type",
            "spec.metrics.[].resource.name",
            "spec.metrics.[].resource.target.type",
            "spec.metrics.[].resource.target.averageUtilization",
            "spec.behavior.scaleDown.stabilizationWindowSeconds",
        ],
    },
    Row {
        plural: "scaledobjects",
        kind: "ScaledObject",
        version: "keda.sh/v1alpha1",
        custom: true,
        fields: &[
            "spec.scaleTargetRef.apiVersion",
            "spec.scaleTargetRef.kind",
            "spec.scaleTargetRef.name",
            "spec.minReplicaCount",
            "spec.maxReplicaCount",
            "spec.pollingInterval",
            "spec.cooldownPeriod",
            "spec.triggers.[].type",
            "spec.triggers.[].metadata.*",
        ],
    },
];

/// The first field of a document that its kind does not have.
pub(super) fn unknown_field(row: &Row, document: &Value) -> Option<String> {
    let mut leaves = Vec::new();
    leaves_of(document, &mut Vec::new(), &mut leaves);
    leaves
        .into_iter()
        .find(|leaf| !known(row, leaf))
        .map(|leaf| leaf.join("."))
}

fn known(row: &Row, leaf: &[String]) -> bool {
    let fits = |pattern: &str, leaf: &[String]| {
        let parts: Vec<&str> = pattern.split('.').collect();
        parts.len() == leaf.len()
            && parts
                .iter()
                .zip(leaf)
                .all(|(part, segment)| *part == "*" || part == segment)
    };
    HEAD.iter().any(|pattern| fits(pattern, leaf))
        || row
            .fields
            .iter()
            .any(|pattern| match pattern.strip_suffix('.') {
                None => fits(pattern, leaf),
                Some(prefix) => {
                    let begin: Vec<&str> = prefix.split('.').collect();
                    let below = leaf.get(begin.len()..).unwrap_or_default();
                    leaf.len() > begin.len()
                        && begin
                            .iter()
                            .zip(leaf)
                            .all(|(part, segment)| part == segment)
                        && POD.iter().any(|pattern| fits(pattern, below))
                }
            })
}

/// Paths of everything that is no object and no list. An empty one of these is a leaf of its parent's.
fn leaves_of(value: &Value, path: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                path.push(key.clone());
                leaves_of(value, path, leaves);
                path.pop();
            }
        }
        Value::Array(list) => {
            path.push("[]".to_owned());
            for value in list {
                leaves_of(value, path, leaves);
            }
            path.pop();
        }
        _ => leaves.push(path.clone()),
    }
}
