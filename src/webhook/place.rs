//! Where this worker runs, as its platform says. Made from a fixed list of variables: the environment of a serverless worker
//! is full of keys, and one seed sent the platform's own to its users.

use serde::Serialize;

/// The platform, and its names for this worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `runpod`, `vertex`, `cloud-run`, `kubernetes` or `other`.
    pub platform: &'static str,
    /// The worker: a pod, an instance or a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The endpoint or service that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The deployed model or the revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The data centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_center: Option<String>,
}

/// A platform: the variable that gives it away, and those of worker, endpoint, revision and data centre.
type Row = (&'static str, &'static str, [&'static str; 4]);

const PLATFORMS: &[Row] = &[
    (
        "runpod",
        "RUNPOD_POD_ID",
        ["RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "", "RUNPOD_DC_ID"],
    ),
    (
        "runpod",
        "RUNPOD_ENDPOINT_ID",
        ["HOSTNAME", "RUNPOD_ENDPOINT_ID", "", "RUNPOD_DC_ID"],
    ),
    (
        "vertex",
        "AIP_MODE",
        ["HOSTNAME", "AIP_ENDPOINT_ID", "AIP_DEPLOYED_MODEL_ID", ""],
    ),
    (
        "cloud-run",
        "K_SERVICE",
        ["HOSTNAME", "K_SERVICE", "K_REVISION", ""],
    ),
    (
        "kubernetes",
        "KUBERNETES_SERVICE_HOST",
        ["HOSTNAME", "", "", ""],
    ),
    ("other", "", ["HOSTNAME", "", "", ""]),
];

impl Place {
    /// Asks for the variables of the platform that is there, and for no others.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| match name {
            "" => None,
            _ => variable(name).filter(|text| !text.trim().is_empty()),
        };
        let there = PLATFORMS
            .iter()
            .find(|(_, sign, _)| sign.is_empty() || get(sign).is_some());
        there.map_or_else(
            Self::default,
            |(platform, _, [id, endpoint, revision, data_center])| Self {
                platform,
                id: get(id),
                endpoint: get(endpoint),
                revision: get(revision),
                data_center: get(data_center),
            },
        )
    }
}
