//! How an endpoint is reached once it is there: its address, the kind of door, and what opens it.

use secrecy::SecretString;

/// What a request has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The worker's own routes below the address.
    Http,
    /// RunPod's queue: `run`, `runsync`, `status` and `health` below the address.
    RunPodQueue,
    /// Vertex AI's `:predict` on the endpoint's resource, which is the address.
    Vertex,
}

/// An address and what opens it.
#[derive(Debug, Clone)]
pub struct Access {
    /// The address, without a slash at its end.
    pub url: String,
    /// What is behind it.
    pub door: Door,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<SecretString>,
    /// What a person writes in its place in a shell: `$RUNPOD_API_KEY`.
    pub bearer_in_shell: Option<&'static str>,
}

impl Access {
    /// A worker that everybody may ask.
    pub fn open(url: impl Into<String>) -> Self {
        Self {
            url: url.into().trim_end_matches('/').to_owned(),
            door: Door::Http,
            bearer: None,
            bearer_in_shell: None,
        }
    }
}
