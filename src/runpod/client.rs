//! The HTTP client of the loop: one pool of kept-alive connections, and the headers that the official SDK sends. What an
//! answer means is decided by whoever asked.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};

use super::EnvironmentError;

/// To connect, name look-up and handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// For a result to arrive and be answered: 20 MB on a slow line.
const POST: Duration = Duration::from_secs(120);
/// The bare header of the SDK's posts.
const CHARSET: HeaderName = HeaderName::from_static("charset");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Speaks to the platform. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(key: Option<&SecretString>) -> Result<Self, EnvironmentError> {
        let mut headers = HeaderMap::new();
        // On GETs as well, as the SDK has it.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            let mut value =
                HeaderValue::from_str(key.expose_secret()).map_err(|_| EnvironmentError::Key)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let agent = concat!("chandler/", env!("CARGO_PKG_VERSION"));
        reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(agent)
            .http1_only()
            .connect_timeout(CONNECT)
            // A redirected POST would arrive as a GET.
            .redirect(Policy::none())
            .build()
            .map(Self)
            .map_err(|error| EnvironmentError::Client(error.to_string()))
    }

    /// Asks; `patience` is for the whole answer.
    pub(super) async fn get(
        &self,
        url: String,
        patience: Duration,
    ) -> Result<reqwest::Response, reqwest::Error> {
        self.0.get(url).timeout(patience).send().await
    }

    /// Tells, about a job.
    pub(super) async fn post(
        &self,
        url: String,
        id: &str,
        body: Bytes,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let mut request = self
            .0
            .post(url)
            .timeout(POST)
            // JSON under a form's name: what the platform gets from its own SDK.
            .header(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            )
            .header(CHARSET, HeaderValue::from_static("utf-8"));
        if let Ok(id) = HeaderValue::from_str(id) {
            request = request.header(REQUEST_ID, id);
        }
        request.body(body).send().await
    }
}
