//! What every platform can do. A platform is built from its own options and its login; it keeps nothing between calls and
//! finds what it made by the deployment's name.

use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::{Access, Deployment, Name, Price, ProvisionError, Status, Step};
use crate::catalog::Hardware;

/// What a platform's methods give. Of one thread: provisioning waits for one thing after the other.
pub type Answer<'a, T> = LocalBoxFuture<'a, Result<T, ProvisionError>>;

/// Where a platform says what it is doing, a line at a time: `created the template (tpl_abc)`.
pub type Say<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Takes lines of log until it says that enough is enough (`false`).
pub type LogSink<'a> = &'a (dyn Fn(&str) -> bool + Send + Sync);

/// What applying came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Whether this run made it; otherwise it was there.
    pub created: bool,
    /// What was changed of what was there.
    pub changed: Vec<Change>,
}

/// A field that is not as it should be. Secrets are shown masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where it stands: `workers.max`, `env.CHANDLER_DTYPE`.
    pub field: String,
    /// What it is.
    pub from: String,
    /// What it should be.
    pub to: String,
}

/// Something on a platform that bears our mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// What it is: `endpoint`, `template`, `model`.
    pub kind: &'static str,
    /// The platform's id.
    pub id: String,
    /// The deployment that it belongs to.
    pub deployment: Option<Name>,
    /// Whose it is.
    pub owner: Option<String>,
    /// Whether what it belongs to is gone: a template without its endpoint.
    pub orphan: bool,
}

/// A place where endpoints run.
pub trait Platform: Send + Sync {
    /// `runpod`, `vertex`, `cloudrun`, `kubernetes`, `docker`, `process`, `vast`.
    fn id(&self) -> &'static str;

    /// Whether it is this machine, whose hardware is what it is.
    fn is_here(&self) -> bool {
        false
    }

    /// The options that it was built from, without secrets: the records keep them, and it is built from them again.
    fn options(&self) -> Value;

    /// What makes a deployment where nothing exists: requests in order, with `{…}` for ids that answers will give.
    /// Needs no network.
    ///
    /// # Errors
    /// When the platform cannot run such a deployment.
    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError>;

    /// The hardware in the groups in which it is tried, one endpoint's worth each; the next when one has no capacity.
    fn groups(&self, hardware: &[Hardware]) -> Vec<Vec<Hardware>> {
        match hardware.is_empty() {
            true => vec![Vec::new()],
            false => hardware.iter().map(|card| vec![card.clone()]).collect(),
        }
    }

    /// What a worker of it would cost, by a price list that can be read now; `None` where there is none. Makes nothing.
    fn price<'a>(&'a self, _: &'a Deployment) -> Answer<'a, Option<Price>> {
        let here = self.is_here().then(Price::of_this_machine);
        Box::pin(async move { Ok(here) })
    }

    /// What exists and differs; `None` where nothing exists.
    fn diff<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Vec<Change>>>;

    /// Makes what is missing and changes what differs, and nothing else. Called again after an interruption it finishes.
    fn apply<'a>(&'a self, wanted: &'a Deployment, say: Say<'a>) -> Answer<'a, Applied>;

    /// How it is. Starts no worker and queues no job.
    fn status<'a>(&'a self, name: &'a Name) -> Answer<'a, Status>;

    /// How it is reached.
    fn url<'a>(&'a self, name: &'a Name) -> Answer<'a, Access>;

    /// Hands the worker's log lines to `sink`, from the oldest that the platform still has; with `follow` until the sink has
    /// enough, otherwise until there are no more.
    fn logs<'a>(&'a self, name: &'a Name, follow: bool, sink: LogSink<'a>) -> Answer<'a, ()>;

    /// Changes the fewest and the most workers.
    fn scale<'a>(&'a self, name: &'a Name, scale: (u32, u32)) -> Answer<'a, ()>;

    /// Takes down everything under this name, in the order that the platform wants. Says `false` when there was nothing.
    fn delete<'a>(&'a self, name: &'a Name, say: Say<'a>) -> Answer<'a, bool>;

    /// Everything that bears our mark, whoever's it is.
    fn ours(&self) -> Answer<'_, Vec<Piece>>;

    /// Takes one such thing down.
    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()>;
}

/// Whether a deployment's fewest and most workers are what a platform has where one worker is a deployment.
///
/// # Errors
/// [`ProvisionError::Unsupported`] with `instead`.
pub(super) fn only_one(
    platform: &'static str,
    (min, max): (u32, u32),
    instead: &'static str,
) -> Result<(), ProvisionError> {
    let what = match (min, max) {
        (0 | 1, 1) => return Ok(()),
        (_, 1) => format!("--min-workers {min}"),
        _ => format!("--max-workers {max}"),
    };
    Err(ProvisionError::Unsupported {
        platform,
        what,
        instead: instead.to_owned(),
    })
}
