//! What a store's refusal means to somebody who wants weights, and what that person can do.

use super::Doing;
use crate::storage::{Refusal, StorageError};
use crate::weights::WeightsError;

/// The names of the keys' settings.
const KEYS: &str = "CHANDLER_S3_ACCESS_KEY and CHANDLER_S3_SECRET_KEY (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)";

/// A failure in the weights' words. `signs` is whether there are keys.
pub(super) fn explained(
    place: &str,
    signs: bool,
    doing: Doing,
    error: StorageError,
) -> WeightsError {
    let place = place.to_owned();
    let (reason, refusal) = match error {
        StorageError::Failed {
            reason, refusal, ..
        } => (reason, refusal),
        StorageError::Cancelled => return WeightsError::Stopped,
        StorageError::File { path, source } => return WeightsError::Disk { path, source },
        StorageError::TooMany { most, .. } => {
            return WeightsError::Malformed {
                place,
                reason: format!(
                    "there are more than {most} objects under this prefix; name the one that holds the model alone"
                ),
            };
        }
        other => {
            let reason = other.to_string();
            return WeightsError::Unreachable { place, reason };
        }
    };
    // What the store said, without what an upload would be told to do about it.
    let said = reason.split("; ").next().unwrap_or_default().to_owned();
    let denied = |what: String, wanted: String| WeightsError::Denied {
        place: place.clone(),
        what,
        wanted,
    };
    match refusal {
        Refusal::NoBucket => WeightsError::NotFound {
            place,
            what: format!("there is no such bucket ({said})"),
            wanted: "check its name, and with --s3-endpoint (CHANDLER_S3_ENDPOINT) the store that it lies in".to_owned(),
        },
        Refusal::NoKey => WeightsError::NotFound {
            place,
            what: format!("the object is not there ({said})"),
            wanted: "push the model again, or name another prefix".to_owned(),
        },
        Refusal::Denied if !signs => denied(
            format!("without keys, the store refuses ({said})"),
            format!("set {KEYS}, unless the bucket is meant to be public"),
        ),
        Refusal::Denied => denied(
            format!("the keys are known and may not do this ({said})"),
            match doing {
                Doing::Reading => "they need s3:ListBucket on the bucket and s3:GetObject on its objects; a bucket of a \
                                   jurisdiction on R2 has an endpoint of its own"
                    .to_owned(),
                Doing::Writing => "they need s3:PutObject and s3:AbortMultipartUpload on the bucket's objects".to_owned(),
            },
        ),
        Refusal::WrongKeys if !signs => denied(
            format!("without keys, the store refuses ({said})"),
            format!("set {KEYS}"),
        ),
        Refusal::WrongKeys => denied(
            format!("the store does not accept the keys ({said})"),
            format!("check {KEYS}, and that they are of this store"),
        ),
        Refusal::Expired => denied(
            format!("the keys were lent and have run out ({said})"),
            "get new ones; they come with a session token".to_owned(),
        ),
        Refusal::Skewed => denied(
            format!("this machine's clock and the store's differ too much ({said})"),
            "set the clock".to_owned(),
        ),
        Refusal::OtherRegion(region) => denied(
            format!("the bucket lies in another region ({said})"),
            match region {
                Some(region) => format!("set --s3-region {region}, and no endpoint of another region"),
                None => "set --s3-region (CHANDLER_S3_REGION) to the bucket's".to_owned(),
            },
        ),
        Refusal::Busy => WeightsError::RateLimited { place, wait: None },
        Refusal::Changed => WeightsError::Changed {
            place,
            file: "the object".to_owned(),
        },
        _ => WeightsError::Unreachable {
            place,
            reason: said,
        },
    }
}
