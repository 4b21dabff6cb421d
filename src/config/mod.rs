//! Settings and their precedence: flag > environment > file > catalog > platform > default. Resolved once, here, into an immutable
//! [`Settings`] that knows where each value came from; nothing below this point reads the environment.

mod adapters;
mod address;
mod foreign;
mod home;
mod listening;
mod platform;
mod quantity;
mod resolve;
mod setting;
mod settings;
mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use adapters::{Adapters, NamedAdapter};
pub use address::{HttpUrl, S3Place};
pub use listening::{Host, Origin, Route};
pub use platform::Platform;
pub use quantity::ByteSize;
pub use resolve::{DEPLOYMENT_VARIABLE, Given, OWNER_VARIABLE, Resolution, resolve};
pub use setting::{Group, Setting, Shown, Source, Spec, Variable};
pub use settings::{SPECS, Settings};
pub use value::{
    Activations, CudaSwitch, Device, Dtype, Factor, LogFilter, LogFormat, MASK, MirrorScope,
    Permission, Quantize, S3Addressing, Speculate, Strength, Switch, Value, Variant,
};

/// Why the settings do not make sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that will not do.
    #[error("{place} is `{value}`: {wanted}")]
    Invalid {
        /// The flag, variable or key that gave it.
        place: String,
        /// What it said.
        value: String,
        /// What would do.
        wanted: String,
    },
    /// A key that no setting has.
    #[error("{place} has no setting `{key}`{hint}")]
    UnknownKey {
        /// The file or card.
        place: String,
        /// The key.
        key: String,
        /// The nearest known one, if any is near.
        hint: String,
    },
    /// A file that cannot be used.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Keys were asked for and none are there; serving without would open the worker to everybody.
    #[error("{place} holds no API key: give at least one, or leave it out to serve without keys")]
    NoKeys {
        /// The variable or file.
        place: String,
    },
    /// A catalog that cannot be used.
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
    /// The table of settings is inconsistent, which its tests rule out.
    #[error("the table of settings is inconsistent")]
    Table,
}
