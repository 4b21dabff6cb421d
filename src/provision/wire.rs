//! Carries a request to a platform: over our own client, or over one that knows how a platform wants to be logged into. Apart
//! from [`Api`](super::Api), which decides what an answer, or none, means.

use std::time::Duration;

use futures_util::future::BoxFuture;

/// Why there is no answer.
#[derive(Debug)]
pub enum Lost {
    /// The request never left this machine.
    Unsent(String),
    /// It was sent, and nobody knows what became of it.
    Unknown(String),
}

/// Takes a request and brings an answer's head; the body may still be on its way.
pub trait Wire: Send + Sync {
    /// One attempt. A limit of time that the request has is for the whole of it.
    fn carry(&self, request: reqwest::Request) -> BoxFuture<'_, Result<reqwest::Response, Lost>>;
}

impl Wire for reqwest::Client {
    fn carry(&self, request: reqwest::Request) -> BoxFuture<'_, Result<reqwest::Response, Lost>> {
        Box::pin(async move {
            self.execute(request).await.map_err(|error| {
                match error.is_connect() || error.is_builder() {
                    true => Lost::Unsent(why(&error)),
                    false => Lost::Unknown(why(&error)),
                }
            })
        })
    }
}

/// The last cause says what happened; the whole error would repeat the address.
pub(super) fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    last_cause(error).unwrap_or_else(|| "the request failed".to_owned())
}

/// The innermost reason of an error.
pub(super) fn last_cause(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut reason = None;
    let mut cause = error.source();
    while let Some(one) = cause {
        reason = Some(one.to_string());
        cause = one.source();
    }
    reason
}

/// What is awaited, or nothing when it takes longer.
pub(super) async fn within<T>(limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.ok(),
        None => Some(work.await),
    }
}
