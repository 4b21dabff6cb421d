//! Measuring an endpoint: OpenAI's routes, Vertex's `/predict` or RunPod's queue, whoever serves it. Apart from the command
//! because nothing here knows a terminal, and apart from the front doors because it stands on the other side of the wire.
//!
//! Requests are made before anything is measured ([`Asker::new`]), sent by [`run`] from a closed loop (so many at a time) or an
//! open one (so many a second), and counted in [`Figures`], whose memory does not grow with their number.

mod address;
mod ask;
mod figures;
mod finding;
mod load;
mod outcome;
mod prompts;
mod requests;
mod series;
mod wav;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use address::{Address, Kind};
pub use ask::{Asker, Key};
pub use figures::{Figures, Report, Run, Trouble};
pub use finding::{Endpoint, Wish, find};
pub use load::{Plan, Tally, run};
pub use outcome::{Failure, FailureKind, Success};
pub use prompts::{Prompt, Prompts};
pub use requests::{Options, Submit};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// What was given is no address.
    #[error("`{given}` is no address to measure: {wanted}")]
    Address {
        /// What was given, without what may be a secret.
        given: String,
        /// What would do.
        wanted: &'static str,
    },
    /// It cannot be told how the endpoint is to be asked, or for what.
    #[error("{place} {said}; give {flag}")]
    Untold {
        /// Scheme and host.
        place: String,
        /// What is not known, and why.
        said: String,
        /// The flag that would say it.
        flag: &'static str,
    },
    /// The endpoint is there and answers nobody yet.
    #[error("{place} does not serve: {said}")]
    NotReady {
        /// Scheme and host.
        place: String,
        /// Its own words.
        said: String,
    },
    /// A file of prompts, or one that a prompt names, cannot be used.
    #[error("{}: {reason}", path.display())]
    Prompts {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A prompt that the model cannot be given.
    #[error("prompt {number} is {is}, and the model does {task}: {wanted}")]
    Prompt {
        /// From 1.
        number: usize,
        /// What it is.
        is: &'static str,
        /// What the model does.
        task: &'static str,
        /// What would do.
        wanted: &'static str,
    },
    /// A task that has no measure here.
    #[error("the model does {task}; bench measures {known}")]
    Task {
        /// What the model does.
        task: &'static str,
        /// What would do.
        known: &'static str,
    },
    /// The key cannot be a header, or the client not be set up.
    #[error("{0}")]
    Client(String),
}
