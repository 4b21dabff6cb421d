//! Why an endpoint could not be made, found or taken down; each says what would help.

use super::Phase;

/// A failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// A value that will not do.
    #[error("{field} is `{value}`; {wanted}")]
    Invalid {
        /// The field or flag.
        field: &'static str,
        /// What it was.
        value: String,
        /// What would do.
        wanted: String,
    },
    /// Something the platform needs was not given.
    #[error("{platform} needs {what}; {remedy}")]
    Missing {
        /// The platform.
        platform: &'static str,
        /// What.
        what: String,
        /// How to give it.
        remedy: String,
    },
    /// The platform does not do this.
    #[error("{platform} has no {what}; {instead}")]
    Unsupported {
        /// The platform.
        platform: &'static str,
        /// What was asked.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// The key is not accepted, or may not do this.
    #[error("{platform} does not let this login {purpose}: {message} (HTTP {status}); {remedy}")]
    Denied {
        /// The platform.
        platform: &'static str,
        /// What was tried.
        purpose: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
        /// What would help.
        remedy: String,
    },
    /// The platform refused a request; trying again changes nothing.
    #[error("{platform} refused to {purpose}: {message} (HTTP {status})")]
    Refused {
        /// The platform.
        platform: &'static str,
        /// What was tried.
        purpose: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It said no as often as we were willing to ask.
    #[error("{platform} was asked {tries} times to {purpose} and still says: {message}")]
    Busy {
        /// The platform.
        platform: &'static str,
        /// What was tried.
        purpose: String,
        /// How often.
        tries: u32,
        /// What it said.
        message: String,
    },
    /// No connection.
    #[error("{platform} cannot be reached to {purpose}: {reason}")]
    Unreachable {
        /// The platform.
        platform: &'static str,
        /// What was tried.
        purpose: String,
        /// Why not.
        reason: String,
    },
    /// The request was sent and its answer never came: what it asked for may have happened.
    #[error("{platform} never answered whether it did {purpose}: {reason}")]
    Ambiguous {
        /// The platform.
        platform: &'static str,
        /// What was tried.
        purpose: String,
        /// What happened instead of an answer.
        reason: String,
    },
    /// An answer that is not what the platform's documents promise.
    #[error("{platform}'s answer to {purpose} is not understood: {reason}")]
    Malformed {
        /// The platform.
        platform: &'static str,
        /// What was asked.
        purpose: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No machine of the kinds that were asked for.
    #[error(
        "{platform} has no {hardware} to lend now: {message}; try again later, or allow other hardware with --gpu"
    )]
    Capacity {
        /// The platform.
        platform: &'static str,
        /// The kinds that were tried.
        hardware: String,
        /// What it said.
        message: String,
    },
    /// The name belongs to something that we did not make.
    #[error(
        "{platform} already has a {what} called `{name}` that chandler did not make; choose another --name"
    )]
    Foreign {
        /// The platform.
        platform: &'static str,
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Nothing of this name exists.
    #[error("there is no endpoint called `{name}`{hint}")]
    Unknown {
        /// The name.
        name: String,
        /// Where it was looked for, and what is near.
        hint: String,
    },
    /// It did not come up in time.
    #[error("`{name}` did not serve within {seconds} s; it is {phase}{}", reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default())]
    NotReady {
        /// The deployment.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// How far it came.
        phase: Phase,
        /// What the platform says.
        reason: Option<String>,
    },
    /// It came up and failed.
    #[error("`{name}` failed to start: {reason}")]
    Failed {
        /// The deployment.
        name: String,
        /// What the platform says.
        reason: String,
    },
    /// It serves, and its answer to a real prediction is wrong.
    #[error("`{name}` answers, but not with a prediction: {reason}")]
    WrongPrediction {
        /// The deployment.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The records on this machine.
    #[error("the records of endpoints in {path}: {reason}")]
    Records {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// This machine refused something that a local platform needs.
    #[error("cannot {purpose}: {reason}")]
    Local {
        /// What was tried.
        purpose: String,
        /// Why not.
        reason: String,
    },
    /// The person pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl ProvisionError {
    /// A value that will not do.
    pub fn invalid(field: &'static str, value: &str, wanted: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            value: value.to_owned(),
            wanted: wanted.into(),
        }
    }

    /// Whether what was asked may have happened all the same.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous { .. })
    }

    /// Whether other hardware may do better.
    pub fn is_capacity(&self) -> bool {
        matches!(self, Self::Capacity { .. })
    }

    /// Whether the caller's words are at fault, and nothing was done.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. } | Self::Missing { .. } | Self::Unsupported { .. }
        )
    }
}
