//! What `--version` says: the version, the commit it was built from and the features that are in it (see `build.rs`).

/// For `-V`, and for the worker's own account of itself.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// For `--version`.
pub const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("CHANDLER_BUILD_COMMIT"),
    "\nfeatures: ",
    env!("CHANDLER_BUILD_FEATURES"),
);
