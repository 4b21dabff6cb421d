//! How an endpoint is reached once it is there: its address, the kind of door, and what opens it.

use std::fmt;

use secrecy::SecretString;

use super::Api;

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
    /// Another way in, for proving that it serves.
    pub passage: Option<Passage>,
}

/// A way to an endpoint that leads through its platform, for addresses that are not reached from here.
#[derive(Clone)]
pub struct Passage {
    /// The worker's address as the platform passes requests on to it, without a slash at its end.
    pub url: String,
    /// The platform, with its login.
    pub api: Api,
    /// The worker's own key, sent as `X-API-Key`: `Authorization` is the platform's.
    pub key: Option<SecretString>,
    /// What a person types to reach the endpoint from here.
    pub hint: Option<String>,
}

impl fmt::Debug for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Passage").field(&self.url).finish()
    }
}

impl Access {
    /// A worker that everybody may ask.
    pub fn open(url: impl Into<String>) -> Self {
        Self {
            url: url.into().trim_end_matches('/').to_owned(),
            door: Door::Http,
            bearer: None,
            bearer_in_shell: None,
            passage: None,
        }
    }
}
