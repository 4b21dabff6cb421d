//! Where a snapshot comes from: what is compiled in, a directory, and the stores that files are fetched from. One file or
//! directory per source; transfer and cache know a source only as [`remote::Source`].

pub mod cache;
pub mod choose;
#[cfg(feature = "models")]
mod embedded;
mod error;
pub mod gs;
pub mod hub;
mod listed;
mod location;
mod manifest;
pub mod mirror;
pub mod names;
mod options;
pub mod progress;
pub mod remote;
mod resolve;
pub mod s3;
pub mod store;
pub mod transfer;
mod wanted;

pub use error::WeightsError;
pub use location::{Bucket, Demo, FileChoice, Location, Mock};
pub use options::{MirrorPlace, StoreOptions};
#[cfg(feature = "models")]
pub use resolve::fetched;
pub use resolve::{Resolved, Source, resolve};
pub use wanted::{Kind, Wanted};
