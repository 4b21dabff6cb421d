//! What was asked, and what was answered.

use std::sync::Mutex;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `GET`.
    pub method: String,
    /// With the bucket in front, as it came.
    pub path: String,
    /// Behind the `?`; signatures included.
    pub query: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-Match` header.
    pub if_match: Option<String>,
    /// Whether the address carried the signature.
    pub presigned: bool,
    /// Whether a header carried it.
    pub signed: bool,
    /// The answer's status.
    pub status: u16,
    /// Whether a fault was put in.
    pub fault: bool,
}

#[derive(Default)]
pub(crate) struct Records(Mutex<Vec<Record>>);

impl Records {
    pub(crate) fn add(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }

    pub(crate) fn all(&self) -> Vec<Record> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}
