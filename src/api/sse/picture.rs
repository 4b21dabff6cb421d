//! Pictures on their way to a reader: what is there of one becomes an event on another thread. Apart from the stream itself, which
//! must not wait for a file to be compressed.

use chandler_core::{Drawn, Preview, RequestError};
use serde_json::Value;

/// A picture that is to be shown.
pub(in crate::api) enum Seen {
    /// What is there of it so far.
    Preview(Box<Preview>),
    /// All of it.
    Drawn(Box<Drawn>),
}

/// Makes an event of a picture: pixels become a file, which takes too long for a thread that answers others.
pub(in crate::api) type Encode = Box<dyn FnOnce() -> Result<Value, RequestError> + Send>;

/// The event, made on a thread of its own.
///
/// # Errors
/// Why there is no file of it.
pub(super) async fn encoded(encode: Encode) -> Result<Value, RequestError> {
    let event = tokio::task::spawn_blocking(encode).await;
    event.unwrap_or_else(|_| Err(RequestError::internal("a picture could not be written")))
}
