//! The S3 client for one store: how it signs, how long it waits and how often it tries. Apart from what is asked of it, since
//! outputs and weights want the same.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use secrecy::ExposeSecret;

use super::destination::Destination;
use super::failure::Throttled;

/// One request, with its body; a part of 16 MiB at 140 kB/s passes.
const ATTEMPT: Duration = Duration::from_secs(120);
const ALL_TRIES: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The client for a store, which tries each request so many times.
pub(super) fn client(to: &Destination, http: SharedHttpClient, tries: u32) -> Client {
    let timeouts = TimeoutConfig::builder()
        .read_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(ALL_TRIES);
    let retries = RetryConfig::standard()
        .with_max_attempts(tries)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(LONGEST_PAUSE);
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(Region::new(to.region.clone()))
        .force_path_style(to.path_style())
        .retry_config(retries)
        .retry_classifier(Throttled)
        .timeout_config(timeouts.build())
        // The time of an attempt is bounded already; this would only add a second clock.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // R2, MinIO and RunPod's volumes do not take what AWS sends by default since 2025.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config = match &to.credentials {
        None => config.allow_no_auth(),
        Some(keys) => config.credentials_provider(Credentials::new(
            keys.access_key.expose_secret(),
            keys.secret_key.expose_secret(),
            keys.session_token
                .as_ref()
                .map(|token| token.expose_secret().to_owned()),
            None,
            "chandler",
        )),
    };
    config.set_endpoint_url(to.endpoint.as_ref().map(|_| to.endpoint_url()));
    Client::from_conf(config.build())
}
