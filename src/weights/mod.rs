//! Where a snapshot comes from: what is compiled in, a directory, and the stores that files are fetched from. One file or
//! directory per source; transfer and cache know a source only as [`remote::Source`].

#[cfg(feature = "text")]
mod embedded;
mod error;
mod location;
pub mod names;
mod options;
pub mod progress;
pub mod remote;
mod resolve;
mod wanted;

pub use error::WeightsError;
pub use location::{Bucket, DEMO, GgufChoice, Location, MOCK};
pub use options::{HubAccess, MirrorPlace, S3Access, StoreOptions};
pub use resolve::{Resolved, Source, resolve};
pub use wanted::{Kind, Wanted};
