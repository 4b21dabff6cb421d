//! How the S3 client's requests travel: through `reach`, so that there is one HTTP client and one TLS stack in the program,
//! and an address that came with a job is held to the same rule as any other.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::error::ConnectorError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use reqwest::Url;

use super::StorageError;
use crate::reach::{self, ReachError};

/// From the request's first byte to the answer's, when the S3 client sets no time of its own.
const READ: Duration = Duration::from_secs(120);

#[derive(Debug, Clone)]
struct Transport {
    client: reach::Client,
    read: Duration,
}

/// The HTTP client that is handed to the S3 client.
pub(super) fn through(client: reach::Client) -> SharedHttpClient {
    http_client_fn(
        move |settings: &HttpConnectorSettings, _: &RuntimeComponents| {
            SharedHttpConnector::new(Transport {
                client: client.clone(),
                read: settings.read_timeout().unwrap_or(READ),
            })
        },
    )
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let transport = self.clone();
        HttpConnectorFuture::new(async move { transport.send(request).await })
    }
}

impl Transport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let user = |error: ReachError| ConnectorError::user(Box::new(error));
        let url: Url = request
            .uri()
            .parse()
            .map_err(|error| ConnectorError::user(Box::new(error)))?;
        let connection = self.client.connection(&url).map_err(user)?;
        let request = request
            .try_into_http1x()
            .map_err(|error| ConnectorError::user(Box::new(error)))?;
        let mut request = reqwest::Request::try_from(request.map(body))
            .map_err(|error| ConnectorError::user(Box::new(error)))?;
        // reqwest's time would run on through the body, whose length this does not know.
        *request.timeout_mut() = None;
        let answered = tokio::time::timeout(self.read, connection.execute(request)).await;
        let response = match answered {
            Err(_) => {
                return Err(ConnectorError::timeout(Box::new(ReachError::TimedOut {
                    url: reach::place(&url),
                    seconds: self.read.as_secs_f64(),
                })));
            }
            Ok(Err(error)) => {
                let error = reach::explain(&url, &error);
                return Err(match error {
                    ReachError::Private { .. } => user(error),
                    _ => ConnectorError::io(Box::new(error)),
                });
            }
            Ok(Ok(response)) => response,
        };
        let response: axum::http::Response<reqwest::Body> = response.into();
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(Box::new(error), None))
    }
}

/// What is in memory goes as it is, with its length; the rest is streamed.
fn body(body: SdkBody) -> reqwest::Body {
    match body.bytes() {
        Some(bytes) => reqwest::Body::from(bytes::Bytes::copy_from_slice(bytes)),
        None => reqwest::Body::wrap(body),
    }
}

/// The rule about addresses, where a failure goes back to it.
pub(super) fn forbidden(error: &(dyn Error + 'static)) -> Option<StorageError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<ReachError>() {
            Some(ReachError::Private { host }) => {
                return Some(ReachError::Private { host: host.clone() }.into());
            }
            Some(ReachError::BadUrl { url, wanted }) => {
                let url = url.clone();
                return Some(ReachError::BadUrl { url, wanted }.into());
            }
            _ => cause = error.source(),
        }
    }
    None
}
