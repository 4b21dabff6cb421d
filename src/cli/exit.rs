//! Exit codes: what a supervisor can tell from how the process ended.

use std::process::ExitCode;

use crate::config::ConfigError;

/// Something failed: the model did not load, an answer was wrong.
pub const FAILED: u8 = 1;
/// The command line, a setting or the port is wrong; starting again changes nothing.
pub const USAGE: u8 = 2;
/// The device was lost while serving: `EX_TEMPFAIL` of sysexits.h; starting again, perhaps elsewhere, may help.
pub const DEVICE_LOST: u8 = 75;

/// A failure that chooses its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    /// The code.
    pub code: u8,
    /// For the person who started the command.
    pub message: String,
}

impl Exit {
    /// A failure with a code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// Prints an error with its causes on one line and finds the code for it.
pub fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("chandler: {error:#}");
    let code = match (
        error.downcast_ref::<Exit>(),
        error.downcast_ref::<ConfigError>(),
    ) {
        (Some(exit), _) => exit.code,
        (None, Some(_)) => USAGE,
        (None, None) => FAILED,
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let of = |error: anyhow::Error| format!("{:?}", report(&error));
        assert_eq!(
            of(anyhow::anyhow!("x")),
            format!("{:?}", ExitCode::from(FAILED))
        );
        assert_eq!(
            of(ConfigError::Table.into()),
            format!("{:?}", ExitCode::from(USAGE))
        );
        let lost = anyhow::Error::from(Exit::new(DEVICE_LOST, "gone")).context("serving");
        assert_eq!(of(lost), format!("{:?}", ExitCode::from(DEVICE_LOST)));
    }
}
