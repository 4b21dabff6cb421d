//! The order in which hardware is tried: as the platform groups it, but what an endpoint has already comes first. Otherwise a
//! second run would take a working endpoint off the hardware that was left when the better had no capacity.

use super::{Deployment, Platform, ProvisionError};

/// The deployment with each group of its hardware, in the order in which they are tried.
///
/// # Errors
/// When the platform does not say what exists, or cannot run such a deployment.
pub async fn attempts(
    platform: &dyn Platform,
    wanted: &Deployment,
) -> Result<Vec<Deployment>, ProvisionError> {
    let with = |hardware| Deployment {
        hardware,
        ..wanted.clone()
    };
    let groups = platform.groups(&wanted.hardware).into_iter();
    let mut all: Vec<Deployment> = groups.map(with).collect();
    if all.len() < 2 {
        return Ok(all);
    }
    let mut nearest: Option<(usize, usize)> = None;
    for (at, attempt) in all.iter().enumerate() {
        let differs = match platform.diff(attempt).await {
            Ok(Some(changes)) => changes.len(),
            Ok(None) => break,
            Err(error) if error.is_capacity() => continue,
            Err(error) => return Err(error),
        };
        if nearest.is_none_or(|(_, least)| differs < least) {
            nearest = Some((at, differs));
        }
    }
    if let Some((at, _)) = nearest {
        let first = all.remove(at);
        all.insert(0, first);
    }
    Ok(all)
}
