//! The only caller of the pipelines: one plain thread per loaded model, one bounded queue in front of it.
//! Front doors see [`Engine`] and [`Subscription`]; no tensor and no model type passes this point upwards.

#[cfg(feature = "models")]
mod arriving;
mod beside;
mod cold_start;
pub mod devices;
mod fetch;
mod gate;
mod handle;
pub mod load;
#[cfg(feature = "image")]
mod load_image;
#[cfg(feature = "speech")]
mod load_speech;
#[cfg(feature = "text")]
mod load_text;
mod mailbox;
mod parking;
mod recovery;
#[cfg(feature = "models")]
mod registry;
mod stats;
mod status;
mod thread;
mod worker;

#[cfg(test)]
mod tests;

pub use beside::{Beside, Role};
pub use cold_start::ColdStart;
pub use fetch::{Brought, Coming, Fetch, Watch};
pub use gate::Subscription;
pub use handle::{Engine, EngineOptions};
pub use stats::{BUCKETED_HISTOGRAMS, Counters};
pub use status::{Download, Loading, Stage, Status};
pub use thread::{LoadProgress, Loaded};
