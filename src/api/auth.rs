//! API keys: who may come in. Health routes stay open, since platforms probe them without a key.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chandler_core::{ErrorKind, RequestError};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::error::Dialect;
use super::state::Api;

/// A key's SHA-256: what is kept and compared, so that neither length nor content leaks by time.
pub(super) type KeyDigest = [u8; 32];

/// Routes that answer without a key.
const OPEN: [&str; 4] = ["/isalive", "/livez", "/health", "/ping"];

/// The keys that open the door. Empty means that it stands open.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<KeyDigest>);

impl ApiKeys {
    /// Keeps the digests of the keys; empty keys are left out.
    pub fn new(keys: Vec<SecretString>) -> Self {
        let keys = keys.iter().map(|key| key.expose_secret().trim());
        Self(keys.filter(|key| !key.is_empty()).map(digest).collect())
    }

    /// Whether no key is needed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key is one of these; takes equally long for every wrong one.
    pub(super) fn admits(&self, key: &KeyDigest) -> bool {
        let found = self
            .0
            .iter()
            .fold(Choice::from(0), |found, known| found | known.ct_eq(key));
        found.into()
    }
}

impl From<Vec<SecretString>> for ApiKeys {
    fn from(keys: Vec<SecretString>) -> Self {
        Self::new(keys)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.0.len())
    }
}

fn digest(key: &str) -> KeyDigest {
    Sha256::digest(key.as_bytes()).into()
}

/// The digests of the keys that a request brings. Both headers count: on Cloud Run and Vertex, `Authorization` may be
/// the platform's, and ours then comes as `X-API-Key`.
fn presented(headers: &HeaderMap) -> Vec<KeyDigest> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    });
    let plain = headers
        .get("x-api-key")
        .and_then(|value| value.to_str().ok());
    [bearer, plain]
        .into_iter()
        .flatten()
        .map(|key| digest(key.trim()))
        .collect()
}

/// Lets a request pass that has a key or needs none; leaves its digest for the rate limit.
pub(super) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let keys = &api.settings.api_keys;
    let path = request.uri().path().to_owned();
    let health =
        OPEN.contains(&path.as_str()) && matches!(*request.method(), Method::GET | Method::HEAD);
    if keys.is_empty() || health {
        return next.run(request).await;
    }
    let brought = presented(request.headers());
    let message = match brought.first() {
        Some(_) => "the API key is not one of this worker's",
        None => {
            "an API key is needed: send it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`"
        }
    };
    if let Some(key) = brought.into_iter().find(|key| keys.admits(key)) {
        request.extensions_mut().insert(key);
        return next.run(request).await;
    }
    let error = RequestError::new(ErrorKind::Unauthorized, message).with_code("invalid_api_key");
    Dialect::of_path(&path).error(error).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_is_admitted() {
        let keys = ApiKeys::new(vec!["one".into(), " two\n".into(), "".into()]);
        assert!(keys.admits(&digest("one")) && keys.admits(&digest("two")));
        assert!(!keys.admits(&digest("")) && !keys.admits(&digest("on")));
        assert_eq!(format!("{keys:?}"), "ApiKeys(2 keys)");
    }

    #[test]
    fn both_headers_carry_a_key() {
        let mut headers = HeaderMap::new();
        assert!(presented(&headers).is_empty());
        headers.insert("x-api-key", "k".parse().unwrap());
        assert_eq!(presented(&headers), [digest("k")]);
        headers.insert("authorization", "bearer other".parse().unwrap());
        assert_eq!(presented(&headers), [digest("other"), digest("k")]);
    }
}
