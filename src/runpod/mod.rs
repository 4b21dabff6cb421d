//! The RunPod front door: jobs in, outputs back, over the wire of a queue worker (contract, sections 1 and 2). It knows no model
//! and no HTTP route: what a job's work is, it is handed as [`Work`].

mod backoff;
mod capacity;
mod client;
mod deliver;
mod drive;
mod environment;
mod finish;
mod fitness;
mod hand;
mod handed;
mod heartbeat;
mod job;
mod outbox;
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

pub use environment::{Environment, EnvironmentError, Platform, Variables};
pub use fitness::{Checks, Unfit};
pub use job::Job;
pub use outputs::Outputs;
pub use run::{End, Setup, run};
pub use shared::Options;
pub use supervise::ColdStart;
pub use work::{Outcome, Piece, Work};
