//! Makes endpoints that run this very program, on other people's machines or on this one, looks after them and takes them
//! down. One file or folder per platform behind [`Platform`]; what is the same everywhere is beside them:
//!
//! - [`Deployment`]: what is wanted, in no platform's words; [`Name`]: what it is found by.
//! - [`Call`] and [`Api`]: requests as data, in which secrets are only named; and their sending.
//! - [`ensure`](ensure::ensure): makes a thing exactly once, whatever happens to the answer.
//! - [`Flow`]: plan, apply, watch, prove by a real prediction, tell; and clean up after a failure.
//! - [`Records`]: what this machine has made, so that an interrupted run is continued and nothing is forgotten.
//!
//! No step relies on memory: every run looks at what exists under the deployment's name and does what is missing. So a run
//! may be killed between any two calls.

mod access;
mod api;
mod attempts;
mod bearer;
mod call;
pub mod cloud_run;
mod deployment;
pub mod docker;
mod ensure;
mod error;
mod flow;
pub mod google;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod name;
mod notice;
mod platform;
mod probe;
pub mod process;
mod records;
pub mod runpod;
mod secrets;
mod status;
pub mod vast;
pub mod vertex;
mod wire;

pub use access::{Access, Door, Passage};
pub use api::{Api, Login, Nobody, Patience, Reply};
pub use attempts::attempts;
pub use call::{Call, Step};
pub use deployment::{Deployment, Needs, Scaling, Served};
pub use ensure::ensure;
pub use error::ProvisionError;
pub use flow::{Flow, Outcome, Times};
pub use name::Name;
pub use notice::{Event, Notice};
pub use platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say};
pub use probe::{Probed, probe};
pub use records::{Record, Records, State};
pub use secrets::{MASK, Secrets};
pub use status::{Phase, Price, Status, Workers};
pub use wire::{Lost, Wire};

pub use crate::config::{DEPLOYMENT_VARIABLE, OWNER_VARIABLE};

/// What marks everything that we make, where a platform has labels.
pub const MANAGED_BY: &str = "chandler";
