//! Which cache the commands look after.

use std::path::PathBuf;

use anyhow::Context;

use crate::weights::cache::{Cache, CacheOptions};

/// Which cache.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The cache's directory [env: CHANDLER_HUB_CACHE, HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, else $HF_HOME/hub]
    #[arg(long, value_name = "DIRECTORY")]
    hub_cache: Option<PathBuf>,
    /// Further caches, with commas between them, which are only read [env: CHANDLER_HUB_READ_CACHES]
    #[arg(long, value_name = "DIRECTORIES", value_delimiter = ',')]
    hub_read_caches: Vec<PathBuf>,
}

impl Place {
    /// The cache. The one place where these commands read the environment: to be replaced by the settings of the weight store.
    pub(super) fn open(self) -> anyhow::Result<Cache> {
        let root = self.hub_cache.or_else(default_root);
        let root = root.context("no home directory is known: name the cache's directory with --hub-cache or HF_HUB_CACHE")?;
        let mut options = CacheOptions::new(root);
        options.read_only = match std::env::var("CHANDLER_HUB_READ_CACHES") {
            Ok(text) if self.hub_read_caches.is_empty() => text
                .split(',')
                .filter(|part| !part.is_empty())
                .map(PathBuf::from)
                .collect(),
            _ => self.hub_read_caches,
        };
        options.symlinks = !said("HF_HUB_DISABLE_SYMLINKS");
        Ok(Cache::open(options))
    }
}

/// What huggingface_hub uses, after what is set for this program only.
fn default_root() -> Option<PathBuf> {
    let direct = [
        "CHANDLER_HUB_CACHE",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
    ];
    let home = || Some(path("HF_HOME")?.join("hub"));
    let caches = || path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
    let usual = || Some(caches()?.join("huggingface/hub"));
    direct
        .into_iter()
        .find_map(path)
        .or_else(home)
        .or_else(usual)
}

fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn said(variable: &str) -> bool {
    let words = ["1", "ON", "YES", "TRUE"];
    std::env::var(variable).is_ok_and(|value| words.contains(&value.to_uppercase().as_str()))
}
