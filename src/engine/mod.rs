//! The only caller of the pipelines: one plain thread per loaded model, one bounded queue in front of it.
//! Front doors see [`Engine`] and [`Subscription`]; no tensor and no model type passes this point upwards.

pub mod devices;
mod gate;
mod handle;
pub mod load;
#[cfg(feature = "text")]
mod load_text;
mod mailbox;
mod recovery;
#[cfg(feature = "text")]
mod registry;
mod stats;
mod status;
mod thread;
mod worker;

#[cfg(test)]
mod tests;

pub use gate::Subscription;
pub use handle::{Engine, EngineOptions};
pub use stats::{BUCKETED_HISTOGRAMS, Counters};
pub use status::{Loading, Stage, Status};
pub use thread::{LoadProgress, Loaded};
