//! The one error type of this crate: what can be wrong with a speech model's files, or with running it. A request's own errors
//! are [`chandler_core::RequestError`]; these are told to the person who started the worker.

use chandler_nn::error::NnError;

/// Why a speech model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeechError {
    /// A field of one of the model's JSON files.
    #[error("{field}: {message}")]
    Config {
        /// File and field, such as `config.json: d_model`.
        field: String,
        /// The value, and what would do.
        message: String,
    },
    /// The tokenizer's files.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Something was asked of the model that it cannot do: a caller's mistake, not a request's.
    #[error("{0}")]
    Input(String),
    /// Weights, shapes, devices.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl SpeechError {
    /// An error of a config field.
    pub fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// What the functions of this crate return.
pub type Result<T, E = SpeechError> = std::result::Result<T, E>;
