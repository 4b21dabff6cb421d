//! Which cache the commands look after: the one that the settings name.

use anyhow::Context;

use crate::cli::flags::{CacheOnly, SettingFlags};
use crate::cli::places;
use crate::weights::cache::{Cache, CacheOptions};

/// Which cache.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    settings: SettingFlags<CacheOnly>,
}

impl Place {
    /// The cache. Touches nothing.
    pub(super) fn open(self) -> anyhow::Result<Cache> {
        let resolution = self.settings.resolve()?;
        for warning in &resolution.warnings {
            eprintln!("warning: {warning}");
        }
        let options = places::store_options(&resolution.settings);
        let root = options.cache.context(
            "no home directory is known: name the cache's directory with --hub-cache or HF_HUB_CACHE",
        )?;
        Ok(Cache::open(CacheOptions {
            read_only: options.read_caches,
            symlinks: options.symlinks,
            ..CacheOptions::new(root)
        }))
    }
}
