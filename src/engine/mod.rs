//! The only caller of the pipelines: one plain thread per loaded model, one bounded queue in front of it.
//! Front doors see [`Engine`] and [`Subscription`]; no tensor and no model type passes this point upwards.

mod handle;
mod mailbox;
mod recovery;
mod stats;
mod status;
mod worker;

#[cfg(test)]
mod tests;

pub use handle::{Engine, EngineOptions, LoadProgress, Subscription};
pub use stats::{BUCKETED_HISTOGRAMS, Counters};
pub use status::{Loading, Stage, Status};
