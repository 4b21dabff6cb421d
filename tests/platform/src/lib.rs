//! A RunPod platform on loopback: a queue with its worker side (job take, stop, results, streams, pings) and its client
//! side (run, status, stream, cancel, the OpenAI paths), as /v2/{endpoint}/… of production has them. It breaks on purpose
//! when asked, and keeps account of what the workers posted, so that "exactly one outcome" can be asserted.
//!
//! It knows nothing of chandler: the official `runpod` worker and client run against it too, which is what proves it.

mod account;
mod answer;
mod book;
mod client_side;
mod control;
mod environment;
mod faults;
mod job;
mod openai;
mod options;
mod platform;
mod random;
mod route;
mod server;
mod wire_log;
mod worker_side;

pub use account::{Account, Latency, Violation};
pub use faults::{Fault, Rates};
pub use job::{Posted, Snapshot, Status};
pub use options::Options;
pub use platform::{Platform, WorkerSeen};
pub use route::Kind;
pub use wire_log::Entry;
