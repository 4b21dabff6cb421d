//! A request between the front door and the batch, and again when it was taken out: everything that it needs to go on.

use std::sync::Arc;

use chandler_core::{Cost, Heard, Prepared, Usage};

use super::plan::Plan;
use super::track::Track;

/// A request that is ready for the batch, or was taken out of it.
#[derive(Debug)]
pub struct WhisperPrepared {
    pub(super) plan: Arc<Plan>,
    pub(super) tracks: Vec<Track>,
    pub(super) heard: Heard,
    /// The language's token and code, once they are known; no token for a model of one language.
    pub(super) language: Option<(Option<u32>, String)>,
    /// What was heard has been told.
    pub(super) told: bool,
    pub(super) usage: Usage,
    /// Milliseconds that the last progress said.
    pub(super) progress: u32,
}

impl Prepared for WhisperPrepared {
    fn cost(&self) -> Cost {
        Cost {
            rows: self.plan.rows(),
            blocks: 1,
            bytes: self.tracks.iter().map(|track| track.heard.bytes()).sum(),
        }
    }
}
