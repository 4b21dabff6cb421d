//! What Google's refusals mean when a bucket was asked for.

use crate::google::GoogleError;
use crate::weights::WeightsError;

/// A bucket's error in the words of the weights; `known` says whether somebody was logged in.
pub(super) fn refused(error: GoogleError, known: bool) -> WeightsError {
    let denied = |place: String, said: String, wanted: &str| WeightsError::Denied {
        place,
        what: format!("Google refuses ({said})"),
        wanted: wanted.to_owned(),
    };
    match error {
        GoogleError::Login {
            place,
            what,
            wanted,
        } => WeightsError::Denied {
            place,
            what,
            wanted,
        },
        GoogleError::Unreachable { place, reason } => WeightsError::Unreachable { place, reason },
        GoogleError::RateLimited { place, wait } => WeightsError::RateLimited { place, wait },
        GoogleError::Malformed { place, reason } => WeightsError::Malformed { place, reason },
        GoogleError::Refused {
            place,
            status: 401 | 403,
            said,
        } if !known => denied(
            place,
            said,
            "nobody is logged in: name a credentials file with CHANDLER_GS_CREDENTIALS (or GOOGLE_APPLICATION_CREDENTIALS), \
             or run where Google's metadata server is",
        ),
        GoogleError::Refused {
            place,
            status: 401,
            said,
        } => denied(
            place,
            said,
            "the login is not valid (any more): get a new token or key",
        ),
        GoogleError::Refused {
            place,
            status: 403,
            said,
        } => denied(
            place,
            said,
            "this account needs the role Storage Object Viewer on the bucket (storage.objects.list and storage.objects.get)",
        ),
        GoogleError::Refused {
            place,
            status: 404,
            said,
        } => WeightsError::NotFound {
            place,
            what: format!("there is no such bucket or object ({said})"),
            wanted: "check its name; a bucket that this account may not see looks the same"
                .to_owned(),
        },
        GoogleError::Refused { place, said, .. } => WeightsError::Malformed {
            place,
            reason: said,
        },
    }
}
