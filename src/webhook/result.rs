//! A job's result, to the address that the job named. On RunPod the platform does this; in local mode it is ours, and the
//! address came from outside.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;

use super::courier::Patience;
use crate::reach::{Client, ReachError};

impl Patience {
    /// As the platform delivers results: three attempts, ten seconds apart.
    pub const PLATFORM: Self = Self {
        tries: 3,
        pause: Duration::from_secs(10),
        time: Duration::from_secs(10),
    };
}

/// Posts a result until a 2xx takes it.
///
/// # Errors
/// [`ReachError`]: the address may not be reached, or did not take it.
pub async fn deliver_result(
    client: &Client,
    url: &str,
    result: &Value,
    patience: Patience,
) -> Result<(), ReachError> {
    let body = Bytes::from(result.to_string());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut attempt = 1;
    loop {
        let sent = client.post(url, headers.clone(), body.clone(), patience.time);
        match sent.await {
            Err(error) if error.is_transient() && attempt < patience.tries => {
                tracing::debug!(attempt, %error, "a job's webhook did not take its result");
            }
            done => return done,
        }
        tokio::time::sleep(patience.pause).await;
        attempt += 1;
    }
}
