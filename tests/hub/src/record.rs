//! Every request that came, for tests to look at: which host, which path, what travelled along.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::HeaderMap;
use axum::http::request::Parts;
use serde::{Serialize, Serializer};

/// Which of the two hosts was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The hub.
    Hub,
    /// The CDN.
    Cdn,
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Which host.
    pub side: Side,
    /// The method.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Authorization`, whole: the tokens of tests are no secrets.
    pub authorization: Option<String>,
    /// The header `If-Match`.
    pub if_match: Option<String>,
    /// The header `Accept-Encoding`.
    pub accept_encoding: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
    /// The header `Cookie`.
    pub cookie: Option<String>,
    /// The answer's status; 0 while there is none, and where the connection was cut before it.
    pub status: u16,
    /// Which fault happened to it.
    pub fault: Option<&'static str>,
    /// Bytes of the body that were handed to the connection.
    #[serde(serialize_with = "number")]
    pub sent: Arc<AtomicU64>,
}

fn number<S: Serializer>(sent: &Arc<AtomicU64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(sent.load(Ordering::Relaxed))
}

impl Seen {
    pub(crate) fn of(side: Side, parts: &Parts) -> Self {
        let header = |name| text(&parts.headers, name).map(str::to_owned);
        Self {
            side,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            range: header("range"),
            authorization: header("authorization"),
            if_match: header("if-match"),
            accept_encoding: header("accept-encoding"),
            user_agent: header("user-agent"),
            cookie: header("cookie"),
            status: 0,
            fault: None,
            sent: Arc::default(),
        }
    }

    /// Bytes of the body that were handed to the connection.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A header that is text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
