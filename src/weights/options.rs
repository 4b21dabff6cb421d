//! What the weight store may be told, in one structure: the command line fills it from the settings, and nothing below reads
//! an environment.

use std::path::PathBuf;
use std::time::Duration;

use super::gs::GsOptions;
use super::hub::HubOptions;
use super::mirror::Scope;
use super::s3::S3Options;

/// Everything that may be set about where weights come from and where they are kept.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The hub.
    pub hub: HubOptions,
    /// Buckets that speak S3.
    pub s3: S3Options,
    /// Buckets of Google Cloud Storage.
    pub gs: GsOptions,
    /// The hub's mirror in such a bucket.
    pub mirror: Option<MirrorPlace>,
    /// Where fetched files are kept, in the layout that Hugging Face's tools share.
    pub cache: Option<PathBuf>,
    /// Caches that are only read, and first.
    pub read_caches: Vec<PathBuf>,
    /// Bytes that the cache may hold.
    pub budget: Option<u64>,
    /// Whether snapshots are made of symbolic links, where the file system has them.
    pub symlinks: bool,
    /// No request leaves.
    pub offline: bool,
    /// Connections at most; `None` leaves it to the transfer.
    pub connections: Option<usize>,
    /// How long a transfer may stand still.
    pub stall: Duration,
    /// Which precision, as file names call it, in the order of preference; the one without a mark is the empty text.
    pub variants: Vec<String>,
}

/// The hub's mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPlace {
    /// Its bucket.
    pub bucket: String,
    /// What all its keys begin with.
    pub prefix: String,
    /// What may be done with it.
    pub scope: Scope,
}

impl StoreOptions {
    /// What is usual where nothing is set, with a cache nowhere.
    pub fn new(hub: HubOptions) -> Self {
        Self {
            hub,
            s3: S3Options::default(),
            gs: GsOptions::default(),
            mirror: None,
            cache: None,
            read_caches: Vec::new(),
            budget: None,
            symlinks: true,
            offline: false,
            connections: None,
            stall: Duration::from_secs(10),
            variants: vec![String::new()],
        }
    }
}
