//! Who asks Google: the logins that its own libraries know (application default credentials), the tokens that they are exchanged
//! for, and one request's patience. Apart from buckets and platforms, which both need it and agree on nothing else.

mod ask;
mod key;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

pub use ask::Asked;
pub use token::Tokens;

/// Where a machine of Google's asks who it is.
const METADATA: &str = "metadata.google.internal";

/// Who asks.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// The machine's own account, by the metadata server; nobody, where there is none.
    #[default]
    Auto,
    /// Whoever this access token is of.
    Token(SecretString),
    /// A service account or a user, by a file of `GOOGLE_APPLICATION_CREDENTIALS`' kind.
    File(PathBuf),
    /// Nobody: public buckets.
    Anonymous,
}

/// What a login is asked to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Reading buckets.
    ReadStorage,
    /// Everything that the account may do.
    CloudPlatform,
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::ReadStorage => "https://www.googleapis.com/auth/devstorage.read_only",
            Self::CloudPlatform => "https://www.googleapis.com/auth/cloud-platform",
        }
    }
}

/// How tokens are come by.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    /// Who asks.
    pub login: Login,
    /// The metadata server's host, with its port where it has one (`GCE_METADATA_HOST`).
    pub metadata_host: Option<String>,
    /// How often a login is tried.
    pub tries: u32,
    /// What for.
    pub scope: Scope,
}

/// Why Google gave no token or no answer. No message holds a token or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoogleError {
    /// A login that cannot be used.
    #[error("{place}: {what}; {wanted}")]
    Login {
        /// The file, or whatever else it came from.
        place: String,
        /// What is wrong with it.
        what: String,
        /// What would do.
        wanted: String,
    },
    /// It answers with errors or not at all, and was asked often enough.
    #[error("{place} cannot be reached: {reason}")]
    Unreachable {
        /// Who was asked.
        place: String,
        /// The last thing that went wrong.
        reason: String,
    },
    /// It asks for patience, and was asked often enough.
    #[error("{place} has limited the rate of requests; try again later")]
    RateLimited {
        /// Who was asked.
        place: String,
        /// How long, where it says.
        wait: Option<Duration>,
    },
    /// It says no.
    #[error("{place} refuses ({said})")]
    Refused {
        /// Who was asked.
        place: String,
        /// HTTP status.
        status: u16,
        /// The status, and Google's own words where there are some.
        said: String,
    },
    /// An answer that makes no sense.
    #[error("{place}: {reason}")]
    Malformed {
        /// Who was asked.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A secret in JSON.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}
