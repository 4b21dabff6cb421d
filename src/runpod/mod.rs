//! The RunPod front door: jobs in, outputs back, over the wire of a queue worker (contract, sections 1 and 2). The loop takes and
//! answers jobs and knows no route; the handler makes a job's input one request to the worker's own HTTP routes, so that every
//! dialect does here what it does over HTTP. This module never looks into `api`: it is handed the routes.

mod answer;
mod backoff;
mod capacity;
mod client;
mod deliver;
mod dialect;
mod drive;
mod environment;
mod finish;
mod fitness;
mod growth;
mod hand;
mod handed;
mod handler;
mod heartbeat;
mod job;
pub mod local;
mod outbox;
mod outcome;
mod output_store;
mod outputs;
mod phase;
pub mod report;
mod run;
mod shared;
mod stop;
mod supervise;
mod take;
mod template;
mod work;

pub use environment::{Environment, EnvironmentError, Variables};
pub use fitness::{Checks, Unfit};
pub use growth::Growth;
pub use handler::{Handler, Streaming};
pub use job::Job;
pub use output_store::OutputStore;
pub use outputs::{OutputError, Outputs};
pub use run::{End, Setup, run};
pub use shared::Options;
pub use work::{Outcome, Piece, Work};
