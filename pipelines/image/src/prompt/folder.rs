//! One folder of a snapshot, and the JSON files in it; errors name the file with its folder. Apart because every tokenizer reads one.

use chandler_nn::weights::Snapshot;
use serde_json::{Map, Value};

use crate::error::{ImageError, Result};

/// A folder of a snapshot.
pub(super) struct Folder<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// `tokenizer`, `tokenizer_2`; empty for the snapshot itself.
    pub(super) name: &'a str,
}

impl Folder<'_> {
    fn path(&self, file: &str) -> String {
        match self.name {
            "" => file.to_owned(),
            folder => format!("{folder}/{file}"),
        }
    }

    /// A file's contents, or nothing when it is not there.
    pub(super) fn bytes(&self, file: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.snapshot.read(&self.path(file))?)
    }

    /// A file that holds a JSON object, or nothing when it is not there.
    pub(super) fn object(&self, file: &str) -> Result<Option<Map<String, Value>>> {
        let Some(bytes) = self.bytes(file)? else {
            return Ok(None);
        };
        let map = serde_json::from_slice(&bytes)
            .map_err(|error| self.fault(file, format!("it is no JSON object: {error}")))?;
        Ok(Some(map))
    }

    /// An error about a file.
    pub(super) fn fault(&self, file: &str, reason: impl std::fmt::Display) -> ImageError {
        ImageError::Tokenizer(format!("{}: {reason}", self.path(file)))
    }
}
