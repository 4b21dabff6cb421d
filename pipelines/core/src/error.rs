//! The errors that cross a pipeline's edge. A kind decides the answer everywhere: one function maps it to HTTP, one to RunPod.

/// What sort of failure this is; a front door chooses its status from this and from nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be served as written (HTTP 400).
    BadInput,
    /// The request is well formed and asks for something this model or build does not do (HTTP 400).
    Unsupported,
    /// The model or route is not here (HTTP 404).
    NotFound,
    /// No key, or a wrong one (HTTP 401).
    Unauthorized,
    /// The body or a part of it is over a limit (HTTP 413).
    TooLarge,
    /// The queue is full or a rate limit was reached (HTTP 429).
    Busy,
    /// The model is loading or the worker is stopping (HTTP 503).
    NotReady,
    /// The device has too little memory for this request even when it runs alone (HTTP 507).
    OutOfMemory,
    /// It took longer than allowed (HTTP 504).
    Timeout,
    /// The caller went away; nobody reads this error.
    Cancelled,
    /// Our fault (HTTP 500).
    Internal,
}

/// Why a request got no answer. The message names the field, its value and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// Decides the status.
    pub kind: ErrorKind,
    /// One sentence for the person who sent the request.
    pub message: String,
    /// The field at fault, as the request spells it.
    pub field: Option<String>,
    /// A word that programs branch on, such as `context_length_exceeded`.
    pub code: Option<&'static str>,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u32>,
}

impl RequestError {
    /// An error of a kind, with nothing else known about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            field: None,
            code: None,
            retry_after: None,
        }
    }

    /// A field whose value will not do.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(ErrorKind::BadInput, message)
        }
    }

    /// Something that this model or build does not do.
    pub fn unsupported(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(ErrorKind::Unsupported, message)
        }
    }

    /// Our own failure.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the word that programs branch on.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds the seconds after which trying again makes sense.
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

/// Why a step failed. Failures of one request are events, not these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The device's memory did not hold this batch; smaller ones may fit.
    #[error("out of device memory: {0}")]
    OutOfMemory(String),
    /// The batch failed; its members may succeed alone.
    #[error("{0}")]
    Batch(String),
    /// The device is gone; nothing can run here any more.
    #[error("the device is lost: {0}")]
    Fatal(String),
}

impl StepError {
    /// What a request is told that failed like this when it ran alone.
    pub fn into_request_error(self) -> RequestError {
        match self {
            Self::OutOfMemory(_) => RequestError::new(ErrorKind::OutOfMemory, self.to_string()),
            Self::Batch(_) | Self::Fatal(_) => {
                RequestError::internal(format!("the model failed on this request: {self}"))
            }
        }
    }
}

/// Why a model could not be loaded. The message is for the person who started the worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

impl LoadError {
    /// Any error's words, with what it is about in front.
    pub fn context(what: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}
