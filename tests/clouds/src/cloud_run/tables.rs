//! The fields of the messages that Cloud Run takes.

use crate::google::schema::Field;
use crate::google::schema::Kind::{Duration, Enum, Flag, Int, List, Map as MapOf, Object, Text};

pub(super) const INGRESS: &[(&str, i64)] = &[
    ("INGRESS_TRAFFIC_UNSPECIFIED", 0),
    ("INGRESS_TRAFFIC_ALL", 1),
    ("INGRESS_TRAFFIC_INTERNAL_ONLY", 2),
    ("INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", 3),
    ("INGRESS_TRAFFIC_NONE", 4),
];
pub(super) const EXECUTION: &[(&str, i64)] = &[
    ("EXECUTION_ENVIRONMENT_UNSPECIFIED", 0),
    ("EXECUTION_ENVIRONMENT_GEN1", 1),
    ("EXECUTION_ENVIRONMENT_GEN2", 2),
];
pub(super) const REFERENCE: &[Field] = &[("secret", Text), ("version", Text)];
pub(super) const SOURCE: &[Field] = &[("secretKeyRef", Object(REFERENCE))];
pub(super) const VARIABLE: &[Field] = &[
    ("name", Text),
    ("value", Text),
    ("valueSource", Object(SOURCE)),
];
pub(super) const RESOURCES: &[Field] = &[
    ("limits", MapOf(&Text)),
    ("cpuIdle", Flag),
    ("startupCpuBoost", Flag),
];
pub(super) const HTTP_GET: &[Field] = &[("path", Text), ("port", Int)];
pub(super) const PROBE: &[Field] = &[
    ("httpGet", Object(HTTP_GET)),
    ("initialDelaySeconds", Int),
    ("timeoutSeconds", Int),
    ("periodSeconds", Int),
    ("failureThreshold", Int),
];
pub(super) const PORT: &[Field] = &[("name", Text), ("containerPort", Int)];
pub(super) const MOUNT: &[Field] = &[("name", Text), ("mountPath", Text), ("subPath", Text)];
pub(super) const CONTAINER: &[Field] = &[
    ("name", Text),
    ("image", Text),
    ("command", List(&Text)),
    ("args", List(&Text)),
    ("env", List(&Object(VARIABLE))),
    ("resources", Object(RESOURCES)),
    ("ports", List(&Object(PORT))),
    ("volumeMounts", List(&Object(MOUNT))),
    ("workingDir", Text),
    ("livenessProbe", Object(PROBE)),
    ("startupProbe", Object(PROBE)),
];
pub(super) const GCS: &[Field] = &[
    ("bucket", Text),
    ("readOnly", Flag),
    ("mountOptions", List(&Text)),
];
pub(super) const VOLUME: &[Field] = &[("name", Text), ("gcs", Object(GCS))];
pub(super) const SCALING: &[Field] = &[("minInstanceCount", Int), ("maxInstanceCount", Int)];
pub(super) const SELECTOR: &[Field] = &[("accelerator", Text)];
pub(super) const TEMPLATE: &[Field] = &[
    ("revision", Text),
    ("labels", MapOf(&Text)),
    ("annotations", MapOf(&Text)),
    ("scaling", Object(SCALING)),
    ("timeout", Duration),
    ("serviceAccount", Text),
    ("containers", List(&Object(CONTAINER))),
    ("volumes", List(&Object(VOLUME))),
    ("executionEnvironment", Enum(EXECUTION)),
    ("maxInstanceRequestConcurrency", Int),
    ("sessionAffinity", Flag),
    ("nodeSelector", Object(SELECTOR)),
    ("gpuZonalRedundancyDisabled", Flag),
];
pub(super) const SERVICE: &[Field] = &[
    ("name", Text),
    ("description", Text),
    ("labels", MapOf(&Text)),
    ("annotations", MapOf(&Text)),
    ("client", Text),
    ("ingress", Enum(INGRESS)),
    ("template", Object(TEMPLATE)),
    ("scaling", Object(SCALING)),
    ("invokerIamDisabled", Flag),
    ("etag", Text),
];
pub(super) const BINDING: &[Field] = &[("role", Text), ("members", List(&Text))];
pub(super) const POLICY: &[Field] = &[
    ("version", Int),
    ("bindings", List(&Object(BINDING))),
    ("etag", Text),
];
pub(super) const SET_POLICY: &[Field] = &[
    ("policy", Object(POLICY)),
    ("updateMask", Text),
    ("resource", Text),
];
/// What a mask of an update may name here.
pub(super) const CHANGEABLE: [&str; 6] = [
    "labels",
    "description",
    "ingress",
    "template",
    "scaling",
    "client",
];
/// Least processors and GiB beside an accelerator.
pub(super) const ACCELERATORS: [(&str, f64, f64); 2] = [
    ("nvidia-l4", 4.0, 16.0),
    ("nvidia-rtx-pro-6000", 20.0, 80.0),
];
