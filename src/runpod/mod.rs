//! The RunPod front door: jobs in, outputs back.

mod job;
mod output_store;
mod outputs;

pub use job::Job;
pub use output_store::OutputStore;
pub use outputs::{OutputError, Outputs};
