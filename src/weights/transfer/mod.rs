//! From a source to files on the disk: many files and many ranges of one at once, each byte straight to its place in a
//! preallocated file, checked on the way, and continued where the last run was cut off, whatever cut it.
//!
//! A file's way: `run` opens it (`active`, `disk`, `journal`), cuts what is missing into ranges (`queue`), and has as many
//! fetched at once as the link rewards (`gauge`). A range's task (`fetch`, `answer`, `links`, `pause`) writes what comes
//! (`piece`), while a thread follows the file's front with the digest (`digest`). Only a file whose size and digest are right is
//! handed to `whole`.
//!
//! Writes block, and are made right where the bytes arrive, on the runtime's own threads: the future is meant for a runtime
//! that does nothing else (its caller makes one, with several threads). To hand each piece to another thread would cost
//! a wakeup per piece and its place in the core's cache; a write to the page cache takes less. When the disk is slower than
//! the link, a blocked write is also what holds back the sender, through the socket's own window, with no queue to bound.
//!
//! Nothing is flushed to the disk here: a process that is killed loses nothing that it has written, and whoever gives a file its
//! final name decides whether a loss of power counts (the cache's option `sync`).
//!
//! The memory is that of the sockets: at most some 256 KiB gathered per request, and what the HTTP client has read ahead.

mod active;
mod answer;
mod client;
mod digest;
mod disk;
mod extents;
mod fetch;
mod gauge;
mod journal;
mod links;
mod options;
pub(super) mod pause;
mod piece;
mod queue;
mod run;

use std::path::PathBuf;
use std::sync::Arc;

pub use client::client_builder;
pub use journal::journal_path;
pub use options::{Options, Stop};

use super::WeightsError;
use super::progress::FileProgress;
use super::remote::{RemoteFile, Source};

/// A file to be fetched, and where to.
#[derive(Debug, Clone)]
pub struct Job {
    /// The file at the source.
    pub file: RemoteFile,
    /// Where its bytes go. Its journal lies beside it ([`journal_path`]). Nobody else may write it meanwhile.
    pub partial: PathBuf,
    /// How far it is.
    pub progress: Arc<FileProgress>,
}

/// What is done with a file that is complete and right.
pub type Whole = Arc<dyn Fn(&Job) -> Result<(), WeightsError> + Send + Sync>;

/// Fetches every job's bytes into its partial file, checks them on the way, and calls `whole` (on a blocking thread) for
/// each file that is complete and right. A partial file that is there already is continued. On an error, when stopped, and
/// when the future is dropped, what has come is kept for the next time.
///
/// # Errors
/// What no further attempt would mend, of the first file that it happens to; [`WeightsError::Stopped`]; what `whole` says.
pub async fn transfer(
    source: Arc<dyn Source>,
    jobs: Vec<Job>,
    options: &Options,
    stop: &Stop,
    whole: Whole,
) -> Result<(), WeightsError> {
    let checked = tokio::task::spawn_blocking(move || disk::room(&jobs).map(|()| jobs));
    let jobs = checked.await.map_err(|error| WeightsError::Malformed {
        place: source.name(),
        reason: format!("the disk cannot be looked at: {error}"),
    })??;
    run::Run::new(source, jobs, options, whole)
        .finish(stop)
        .await
}
