//! The RunPod front door: jobs in, outputs back.

mod job;
mod media;
mod outputs;

pub use job::Job;
pub use outputs::{OutputError, OutputStore, Outputs};
