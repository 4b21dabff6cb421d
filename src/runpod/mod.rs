//! The RunPod front door: jobs in, outputs back. A job's input becomes one request to the worker's own HTTP routes, so that
//! every dialect does here what it does over HTTP; this module never looks into `api`, it is handed the routes.

mod answer;
mod dialect;
mod growth;
mod handler;
mod job;
pub mod local;
mod outcome;
mod sse;
mod work;

pub use growth::Growth;
pub use handler::{Handler, Streaming};
pub use job::Job;
pub use work::{Outcome, Piece, Work};
