//! What may differ between two ways to the hub. Plain values: whoever reads flags and the environment makes them.

use std::time::Duration;

use secrecy::SecretString;

/// How the hub is reached.
#[derive(Debug, Clone)] // a SecretString does not show itself
pub struct HubOptions {
    /// Where the hub is (`HF_ENDPOINT`); may have a path, as the endpoints of repository managers have.
    pub endpoint: String,
    /// Sent to the hub and to nobody else (`HF_TOKEN`). What is empty is none.
    pub token: Option<SecretString>,
    /// No request leaves the process (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until a question is answered whole (`HF_HUB_ETAG_TIMEOUT`).
    pub answer_timeout: Duration,
    /// Further attempts at a question that failed by the hub's or the network's fault.
    pub tries: u32,
    /// The longest first pause between them; it doubles with each.
    pub backoff: Duration,
    /// The longest pause of our own choice.
    pub longest_backoff: Duration,
    /// The longest pause that the hub may ask for. Its window is five minutes.
    pub longest_wait: Duration,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            offline: false,
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(30),
            tries: 5,
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(8),
            longest_wait: Duration::from_secs(310),
        }
    }
}
