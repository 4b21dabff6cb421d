//! Where a snapshot comes from: what is compiled in, a directory, and the stores that files are fetched from. One file or
//! directory per source; transfer and cache know a source only as [`remote::Source`].

#[cfg(feature = "text")]
mod embedded;
mod error;
pub mod gs;
mod listed;
mod manifest;
pub mod mirror;
pub mod names;
pub mod progress;
pub mod remote;
mod resolve;
pub mod s3;

pub use error::WeightsError;
pub use resolve::{DEMO, MOCK, Resolved, Source, resolve};
