//! What the weight store may be told, in one structure: the command line fills it from the settings, and nothing below reads
//! an environment.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

use crate::storage::Addressing;

/// Everything that may be set about where weights come from and where they are kept.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The hub.
    pub hub: HubAccess,
    /// Buckets that speak S3.
    pub s3: S3Access,
    /// The hub's mirror in such a bucket.
    pub mirror: Option<MirrorPlace>,
    /// Where fetched files are kept, in the layout that Hugging Face's tools share.
    pub cache: Option<PathBuf>,
    /// Caches that are only read, and first.
    pub read_caches: Vec<PathBuf>,
    /// Bytes that the cache may hold.
    pub budget: Option<u64>,
    /// No request leaves.
    pub offline: bool,
    /// Connections at most; `None` leaves it to the transfer.
    pub connections: Option<usize>,
    /// How long a transfer may stand still.
    pub stall: Duration,
    /// Which precision, as file names call it, in the order of preference; the one without a mark is the empty text.
    pub variants: Vec<String>,
}

/// How the hub is spoken to.
#[derive(Debug, Clone)]
pub struct HubAccess {
    /// Where it is.
    pub endpoint: Url,
    /// The token, where there is one.
    pub token: Option<SecretString>,
    /// How long it may take to say what there is.
    pub timeout: Duration,
}

/// How buckets are spoken to.
#[derive(Debug, Clone, Default)]
pub struct S3Access {
    /// Where the store is; Amazon's when nobody says.
    pub endpoint: Option<Url>,
    /// Its region.
    pub region: Option<String>,
    /// How buckets are addressed.
    pub addressing: Addressing,
    /// Access key id.
    pub access_key: Option<SecretString>,
    /// Secret access key.
    pub secret_key: Option<SecretString>,
    /// Session token of keys that were lent.
    pub session_token: Option<SecretString>,
}

/// The hub's mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPlace {
    /// Its bucket.
    pub bucket: String,
    /// What all its keys begin with.
    pub prefix: String,
    /// Whether what came from the hub is put there.
    pub fill: bool,
}

impl HubAccess {
    /// A hub that asks for no token.
    pub fn at(endpoint: Url) -> Self {
        Self {
            endpoint,
            token: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl StoreOptions {
    /// What is usual where nothing is set, with a cache nowhere.
    pub fn new(hub: HubAccess) -> Self {
        Self {
            hub,
            s3: S3Access::default(),
            mirror: None,
            cache: None,
            read_caches: Vec::new(),
            budget: None,
            offline: false,
            connections: None,
            stall: Duration::from_secs(10),
            variants: vec![String::new()],
        }
    }
}
