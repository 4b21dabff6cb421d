//! Which platform runs this process, told from the variables that platforms set, and what that changes when nobody says
//! otherwise. No flag is needed, and none exists.

use std::collections::BTreeMap;
use std::fmt;

/// Where the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// On a machine that says nothing of itself: a laptop, docker, Kubernetes.
    #[default]
    Elsewhere,
    /// A RunPod endpoint whose workers take jobs from a queue.
    RunPodQueue,
    /// A RunPod endpoint whose requests come over HTTP.
    RunPodLoadBalancer,
    /// A RunPod Pod: a rented machine, where requests come over whatever ports its owner opened.
    RunPodPod,
    /// A custom container on Vertex AI.
    Vertex,
    /// A Cloud Run service.
    CloudRun,
}

impl Platform {
    /// The platform whose marks the environment bears. A variable that is empty says nothing.
    pub fn of(environment: &BTreeMap<String, String>) -> Self {
        let has = |name: &str| {
            environment
                .get(name)
                .is_some_and(|text| !text.trim().is_empty())
        };
        // Why this order: the names that only a platform would set come before those that a person may set too.
        if has("RUNPOD_WEBHOOK_GET_JOB") {
            Self::RunPodQueue
        } else if has("AIP_MODE") {
            Self::Vertex
        } else if has("K_SERVICE") {
            Self::CloudRun
        } else if has("PORT_HEALTH") || has("RUNPOD_ENDPOINT_ID") {
            Self::RunPodLoadBalancer
        } else if has("RUNPOD_POD_ID") {
            Self::RunPodPod
        } else {
            Self::Elsewhere
        }
    }

    /// What a setting is here when nothing else gives it.
    pub(super) fn default_of(self, key: &str) -> Option<&'static str> {
        match (self, key) {
            // Cloud Run kills 10 s after SIGTERM; what is left is for the answers' way out.
            (Self::CloudRun, "drain_grace") => Some("8s"),
            // Where RunPod's load balancer looks when the endpoint names no PORT.
            (Self::RunPodLoadBalancer, "port") => Some("80"),
            // Where RunPod puts the models that an endpoint names as cached.
            (Self::RunPodQueue | Self::RunPodLoadBalancer, "hub_read_caches") => {
                Some("/runpod-volume/huggingface-cache/hub")
            }
            (Self::CloudRun | Self::Vertex, "log_format") => Some("google"),
            (Self::RunPodQueue | Self::RunPodLoadBalancer, "log_format") => Some("runpod"),
            _ => None,
        }
    }

    /// A variable of the platform's that gives a setting only when nobody else does.
    pub(super) fn variable_of(self, key: &str) -> Option<&'static str> {
        match (self, key) {
            (Self::Vertex, "model") => Some("AIP_STORAGE_URI"),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elsewhere => "none",
            Self::RunPodQueue => "RunPod queue",
            Self::RunPodLoadBalancer => "RunPod load balancer",
            Self::RunPodPod => "RunPod Pod",
            Self::Vertex => "Vertex AI",
            Self::CloudRun => "Cloud Run",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_platform_is_known_by_its_variables() {
        let of = |names: &[&str]| {
            let set = names
                .iter()
                .map(|name| ((*name).to_owned(), "x".to_owned()));
            Platform::of(&set.collect())
        };
        for (names, platform) in [
            (&["PORT", "AIP_HTTP_PORT"][..], Platform::Elsewhere),
            (
                &["RUNPOD_WEBHOOK_GET_JOB", "RUNPOD_POD_ID", "PORT_HEALTH"],
                Platform::RunPodQueue,
            ),
            (&["PORT_HEALTH"], Platform::RunPodLoadBalancer),
            (
                &["RUNPOD_ENDPOINT_ID", "RUNPOD_POD_ID"],
                Platform::RunPodLoadBalancer,
            ),
            (&["RUNPOD_POD_ID"], Platform::RunPodPod),
            (&["AIP_MODE", "PORT_HEALTH"], Platform::Vertex),
            (&["K_SERVICE", "PORT"], Platform::CloudRun),
        ] {
            assert_eq!(of(names), platform, "{names:?}");
        }
        let empty = [("K_SERVICE".to_owned(), " ".to_owned())];
        assert_eq!(Platform::of(&empty.into()), Platform::Elsewhere);
    }
}
