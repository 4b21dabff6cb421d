//! Name resolution that gives back only what may be reached. reqwest connects to what its resolver says, so that nothing
//! can change between the check and the connection.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::allowed::AllowedHosts;

/// How names become addresses; tests have their own.
pub(super) type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;
/// The addresses of a name.
pub(super) type Found = futures_util::future::BoxFuture<'static, std::io::Result<Vec<SocketAddr>>>;

/// The system's resolver, behind the rule.
pub(super) struct Filter {
    pub allowed: Arc<AllowedHosts>,
    pub lookup: Lookup,
}

/// All addresses of a name are off limits.
#[derive(Debug, thiserror::Error)]
#[error("not a public address")]
pub(super) struct OffLimits;

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found = found.await?;
            let any = !found.is_empty();
            let open: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| allowed.admits(address.ip()))
                .collect();
            if any && open.is_empty() {
                return Err(Box::new(OffLimits) as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

/// As the system resolves names.
pub(super) fn system() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    })
}

/// Whether an error goes back to [`OffLimits`].
pub(super) fn is_off_limits(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<OffLimits>() {
            return true;
        }
        cause = error.source();
    }
    false
}
