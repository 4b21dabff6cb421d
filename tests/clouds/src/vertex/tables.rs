//! The fields of the messages that Vertex AI takes.

use crate::google::schema::Field;
use crate::google::schema::Kind::{
    Duration, Enum, Flag, Int, List, Long, Map as MapOf, Object, Text,
};

pub(super) const ACCELERATORS: &[(&str, i64)] = &[
    ("ACCELERATOR_TYPE_UNSPECIFIED", 0),
    ("NVIDIA_TESLA_P100", 2),
    ("NVIDIA_TESLA_V100", 3),
    ("NVIDIA_TESLA_P4", 4),
    ("NVIDIA_TESLA_T4", 5),
    ("NVIDIA_TESLA_A100", 8),
    ("NVIDIA_A100_80GB", 9),
    ("NVIDIA_L4", 11),
    ("NVIDIA_H100_80GB", 13),
    ("NVIDIA_H100_MEGA_80GB", 14),
    ("NVIDIA_H200_141GB", 15),
    ("NVIDIA_B200", 16),
    ("NVIDIA_GB200", 17),
    ("NVIDIA_RTX_PRO_6000", 18),
];
pub(super) const PORT: &[Field] = &[("containerPort", Int)];
pub(super) const VARIABLE: &[Field] = &[("name", Text), ("value", Text)];
pub(super) const HTTP_GET: &[Field] = &[
    ("path", Text),
    ("port", Int),
    ("host", Text),
    ("scheme", Text),
];
pub(super) const PROBE: &[Field] = &[
    ("httpGet", Object(HTTP_GET)),
    ("periodSeconds", Int),
    ("timeoutSeconds", Int),
    ("failureThreshold", Int),
    ("successThreshold", Int),
    ("initialDelaySeconds", Int),
];
pub(super) const CONTAINER: &[Field] = &[
    ("imageUri", Text),
    ("command", List(&Text)),
    ("args", List(&Text)),
    ("env", List(&Object(VARIABLE))),
    ("ports", List(&Object(PORT))),
    ("predictRoute", Text),
    ("healthRoute", Text),
    ("invokeRoutePrefix", Text),
    ("grpcPorts", List(&Object(PORT))),
    ("deploymentTimeout", Duration),
    ("sharedMemorySizeMb", Long),
    ("startupProbe", Object(PROBE)),
    ("healthProbe", Object(PROBE)),
    ("livenessProbe", Object(PROBE)),
];
pub(super) const MODEL: &[Field] = &[
    ("displayName", Text),
    ("description", Text),
    ("versionAliases", List(&Text)),
    ("versionDescription", Text),
    ("artifactUri", Text),
    ("labels", MapOf(&Text)),
    ("containerSpec", Object(CONTAINER)),
];
pub(super) const UPLOAD: &[Field] = &[
    ("parent", Text),
    ("parentModel", Text),
    ("modelId", Text),
    ("model", Object(MODEL)),
    ("serviceAccount", Text),
];
pub(super) const CONNECTION: &[Field] = &[("inferenceTimeout", Duration)];
pub(super) const ENDPOINT: &[Field] = &[
    ("name", Text),
    ("displayName", Text),
    ("description", Text),
    ("labels", MapOf(&Text)),
    ("trafficSplit", MapOf(&Int)),
    ("network", Text),
    ("dedicatedEndpointEnabled", Flag),
    ("clientConnectionConfig", Object(CONNECTION)),
];
pub(super) const MACHINE: &[Field] = &[
    ("machineType", Text),
    ("acceleratorType", Enum(ACCELERATORS)),
    ("acceleratorCount", Int),
];
pub(super) const METRIC: &[Field] = &[("metricName", Text), ("target", Int)];
pub(super) const RESOURCES: &[Field] = &[
    ("machineSpec", Object(MACHINE)),
    ("minReplicaCount", Int),
    ("maxReplicaCount", Int),
    ("requiredReplicaCount", Int),
    ("autoscalingMetricSpecs", List(&Object(METRIC))),
    ("spot", Flag),
];
pub(super) const DEPLOYED: &[Field] = &[
    ("id", Text),
    ("model", Text),
    ("displayName", Text),
    ("serviceAccount", Text),
    ("dedicatedResources", Object(RESOURCES)),
    ("disableContainerLogging", Flag),
    ("enableAccessLogging", Flag),
];
pub(super) const DEPLOY: &[Field] = &[
    ("deployedModel", Object(DEPLOYED)),
    ("trafficSplit", MapOf(&Int)),
];
pub(super) const UNDEPLOY: &[Field] = &[("deployedModelId", Text), ("trafficSplit", MapOf(&Int))];
pub(super) const MUTATE: &[Field] = &[("deployedModel", Object(DEPLOYED)), ("updateMask", Text)];
pub(super) const UPDATE: &[Field] = &[("endpoint", Object(ENDPOINT))];
/// What a replica count's mask may name.
pub(super) const SCALE: [&str; 2] = [
    "dedicatedResources.minReplicaCount",
    "dedicatedResources.maxReplicaCount",
];
