//! Doubles of the platforms' management APIs. Each is a [`Cloud`]: a state machine that takes a request and gives an answer,
//! as strict as the real one. What they share is here: the connections, what goes wrong on them, and what was asked.

// A double panics when a test misuses it; nobody is served by it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cloud_run;
pub mod docker;
mod fault;
mod forward;
pub mod google;
pub mod kubernetes;
mod message;
pub mod runpod;
mod server;
pub mod vast;
mod vertex;

pub use fault::{Fault, When};
pub use forward::forward;
pub use message::{Reply, Request};
pub use server::{Cloud, Server};
