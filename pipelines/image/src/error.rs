//! The one error type of this crate: what can be wrong with an image model's files, or with running it. A request's own errors
//! are [`chandler_core::RequestError`]; these are told to the person who started the worker.

use chandler_nn::error::NnError;

/// Why an image model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The tokenizer's files.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// An adapter (LoRA).
    #[error("adapter {name}: {reason}")]
    Adapter {
        /// What requests call it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something was asked of the model that it cannot do: a caller's mistake, not a request's.
    #[error("{0}")]
    Input(String),
    /// Weights, their configuration, shapes, devices.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// What the functions of this crate return.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;
