//! Where a snapshot comes from. Today: what is compiled in, and a directory; the stores of a later change are files beside this one.

#[cfg(feature = "text")]
mod embedded;
mod resolve;

pub use resolve::{DEMO, MOCK, Resolved, Source, WeightsError, resolve};
