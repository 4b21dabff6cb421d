//! What a URL may reach. Addresses that came from outside (input URLs, a job's webhook, a job's `s3Config`) go through
//! [`Client`], which knows no private network unless the operator names it; apart from its users because the rule is one.
//!
//! The check is made where the connection is made: names are resolved by a resolver that drops what may not be reached,
//! so that what was checked is what is connected to, also when a name changes its mind in between. Each redirect is checked
//! like a first address. Proxy variables (`HTTPS_PROXY`, …) do not count here: a proxy would resolve the name by itself,
//! behind the check's back.

mod address;
mod allowed;
mod client;
mod resolver;
mod retry_after;

#[cfg(test)]
mod tests;

pub use address::is_public;
pub use allowed::{Allowed, AllowedHosts};
pub use client::{Answer, Client, Limits, Room};
pub(crate) use client::{explain, place};
pub(crate) use retry_after::retry_after;

/// Why a URL was not reached. The messages name scheme and host only: paths and queries of signed URLs are secrets, and
/// the addresses behind a name are nobody's business.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// No URL that could be reached at all.
    #[error("`{url}` is no address to reach: {wanted}")]
    BadUrl {
        /// Scheme and host, as far as there are any.
        url: String,
        /// What would do.
        wanted: &'static str,
    },
    /// A private, loopback, link-local or metadata address.
    #[error(
        "{host} is not on the public internet and may not be reached; the worker's operator can allow it with \
         --allow-hosts (CHANDLER_ALLOW_HOSTS)"
    )]
    Private {
        /// The host, with its port where it has one.
        host: String,
    },
    /// More bytes than allowed.
    #[error("what {url} holds is larger than the limit of {limit} bytes (--max-download)")]
    TooLarge {
        /// Scheme and host.
        url: String,
        /// Bytes at most.
        limit: u64,
    },
    /// Whoever wanted it has no room for more of it.
    #[error("there is no room for what {url} holds")]
    NoRoom {
        /// Scheme and host.
        url: String,
    },
    /// It took too long.
    #[error("{url} did not answer in full within {seconds} s")]
    TimedOut {
        /// Scheme and host.
        url: String,
        /// How long was waited.
        seconds: f64,
    },
    /// Too many redirects.
    #[error("{url} redirects more than {limit} times")]
    Redirects {
        /// Scheme and host of the first address.
        url: String,
        /// Redirects at most.
        limit: usize,
    },
    /// It answered with an error.
    #[error("{url} answered with HTTP status {status}")]
    Status {
        /// Scheme and host.
        url: String,
        /// The status.
        status: u16,
    },
    /// The connection failed.
    #[error("cannot reach {url}: {reason}")]
    Failed {
        /// Scheme and host.
        url: String,
        /// Why.
        reason: String,
    },
}

impl ReachError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Failed { .. } => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            _ => false,
        }
    }
}
