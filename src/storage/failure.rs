//! What a store's refusal means, and which refusals are worth another try.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use secrecy::ExposeSecret;

use super::StorageError;
use super::destination::Destination;
use super::transport::forbidden;

/// Characters of a store's own words that are told on.
const WORDS: usize = 300;

/// One upload, for its errors to tell of.
pub(super) struct Attempt<'a> {
    pub to: &'a Destination,
    pub client: &'a Client,
    pub what: String,
}

impl Attempt<'_> {
    pub(super) fn failed<E>(&self, error: &SdkError<E, HttpResponse>) -> StorageError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        if let Some(reach) = forbidden(error) {
            return reach;
        }
        if let SdkError::ServiceError(service) = error {
            let code = service.err().code().map_or_else(
                || format!("HTTP status {}", service.raw().status().as_u16()),
                str::to_owned,
            );
            let said = match service.err().message().unwrap_or_default() {
                "" => code.clone(),
                words => format!("{code}: {words}"),
            };
            let mut refused = self.failed_with(&said);
            if let StorageError::Failed { reason, .. } = &mut refused {
                reason.push_str(hint(&code));
            }
            return refused;
        }
        // The last cause says what happened; the ones before it are the library's own layers.
        let mut last = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            last = error.to_string();
            cause = error.source();
        }
        self.failed_with(&last)
    }

    pub(super) fn failed_with(&self, reason: &str) -> StorageError {
        StorageError::Failed {
            host: self.to.endpoint_url(),
            what: self.what.clone(),
            bucket: self.to.bucket.clone(),
            reason: self.without_keys(reason),
        }
    }

    /// A store may say back what it was sent; keys are cut out of its words.
    fn without_keys(&self, words: &str) -> String {
        let keys = &self.to.credentials;
        let token = keys.session_token.as_ref();
        let secrets = [Some(&keys.access_key), Some(&keys.secret_key), token];
        let mut words: String = words.to_owned();
        for secret in secrets
            .into_iter()
            .flatten()
            .map(ExposeSecret::expose_secret)
        {
            if !secret.is_empty() {
                words = words.replace(secret, "********");
            }
        }
        words.chars().take(WORDS).collect()
    }
}

fn hint(code: &str) -> &'static str {
    match code {
        "NoSuchBucket" => {
            "; create the bucket, or name another one (--output-s3, BUCKET_NAME, or bucketName in s3Config)"
        }
        "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "AuthorizationHeaderMalformed" => {
            "; check the access key, the secret key and the region"
        }
        "AccessDenied" | "Unauthorized" => {
            "; the keys need permission to put objects into this bucket"
        }
        "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
            "; the bucket lies in another region: give its region, or an address that holds it"
        }
        "RequestTimeTooSkewed" => "; this machine's clock is wrong",
        _ => "",
    }
}

/// R2 answers 429, which Amazon's own classifiers take for final.
#[derive(Debug)]
pub(super) struct Throttled;

impl ClassifyRetry for Throttled {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context
            .response()
            .map(|response| response.status().as_u16())
        {
            Some(408 | 429) => RetryAction::throttling_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "HTTP status 429"
    }
}
