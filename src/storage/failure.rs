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

/// Why a store said no, as far as there are different things to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such bucket.
    NoBucket,
    /// There is no such object.
    NoKey,
    /// The keys are good and do not suffice, or there are none.
    Denied,
    /// The store does not know the key, or the signature is wrong.
    WrongKeys,
    /// Lent keys have run out.
    Expired,
    /// This machine's clock and the store's are too far apart.
    Skewed,
    /// The bucket lies in another region; in which, where the store says.
    OtherRegion(Option<String>),
    /// It wants fewer requests.
    Busy,
    /// What a condition named is not so any more.
    Changed,
    /// The store cannot do this.
    Unsupported,
    /// It has an error of its own, or one that is none of these.
    Other,
    /// There was no answer.
    Unreachable,
}

impl Refusal {
    fn read(code: Option<&str>, raw: &HttpResponse) -> Self {
        let region = || {
            let header = raw.headers().get("x-amz-bucket-region");
            let body = || {
                let body = std::str::from_utf8(raw.body().bytes()?).ok()?;
                let (_, rest) = body.split_once("<Region>")?;
                Some(rest.split_once("</Region>")?.0)
            };
            let plain = |name: &&str| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            let name = header.or_else(body).filter(plain);
            name.map(str::to_owned)
        };
        let status = raw.status().as_u16();
        match code.unwrap_or_default() {
            "NoSuchBucket" => Self::NoBucket,
            "NoSuchKey" | "NotFound" => Self::NoKey,
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException"
            | "AuthorizationHeaderMalformed" => Self::OtherRegion(region()),
            "SignatureDoesNotMatch"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "AuthorizationQueryParametersError" => Self::WrongKeys,
            "ExpiredToken" | "TokenRefreshRequired" => Self::Expired,
            "RequestTimeTooSkewed" => Self::Skewed,
            "PreconditionFailed" | "ConditionalRequestConflict" => Self::Changed,
            "NotImplemented" => Self::Unsupported,
            _ => match status {
                // A HEAD has no body that could hold a code.
                301 | 307 => Self::OtherRegion(region()),
                400 if region().is_some() => Self::OtherRegion(region()),
                401 => Self::WrongKeys,
                403 => Self::Denied,
                404 => Self::NoKey,
                409 | 412 => Self::Changed,
                429 | 503 => Self::Busy,
                501 => Self::Unsupported,
                _ => Self::Other,
            },
        }
    }
}

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
            let raw = service.raw();
            let refusal = Refusal::read(service.err().code(), raw);
            let code = service.err().code().map_or_else(
                || format!("HTTP status {}", service.raw().status().as_u16()),
                str::to_owned,
            );
            let said = match service.err().message().unwrap_or_default() {
                "" => code.clone(),
                words => format!("{code}: {words}"),
            };
            let mut refused = self.failed_with(&said);
            if let StorageError::Failed {
                reason, refusal: r, ..
            } = &mut refused
            {
                reason.push_str(hint(&code));
                *r = refusal;
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
            refusal: Refusal::Unreachable,
        }
    }

    /// A store may say back what it was sent; keys are cut out of its words.
    fn without_keys(&self, words: &str) -> String {
        let keys = self.to.credentials.as_ref();
        let secrets = [
            keys.map(|keys| &keys.access_key),
            keys.map(|keys| &keys.secret_key),
            keys.and_then(|keys| keys.session_token.as_ref()),
        ];
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
