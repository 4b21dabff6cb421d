//! The one error type of this crate: what can be wrong with a language model's files. A request's own errors are
//! [`chandler_core::RequestError`]; these are told to the person who started the worker.

use chandler_nn::error::NnError;

/// Why a language model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A field of config.json or generation_config.json.
    #[error("{field}: {message}")]
    Config {
        /// File and field, such as `config.json: num_attention_heads`.
        field: String,
        /// The value, and what would do.
        message: String,
    },
    /// tokenizer.json or tokenizer_config.json.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template.
    #[error("chat template: {0}")]
    Template(String),
    /// An adapter.
    #[error("adapter {name}: {source}")]
    Adapter {
        /// What requests call it.
        name: String,
        /// What is wrong with it.
        source: Box<NnError>,
    },
    /// Weights, shapes, devices.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// A tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl TextError {
    /// An error of a config field.
    pub fn config(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// What the functions of this crate return.
pub type Result<T, E = TextError> = std::result::Result<T, E>;
