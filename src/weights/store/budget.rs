//! Keeping the cache to its budget after something came into it.

use super::super::cache::PruneOptions;
use super::{Query, Store};

impl Store {
    /// Makes room after a fetch. That this fails is no reason not to serve what was fetched.
    pub(super) fn keep_to_budget(&self, query: &Query<'_>) {
        let Some(budget) = self.options.budget else {
            return;
        };
        let options = PruneOptions {
            budget: Some(budget),
            ..PruneOptions::default()
        };
        match query.cache.prune(&options) {
            Ok(pruned) => tracing::debug!(?pruned, "the cache keeps to its budget"),
            Err(error) => tracing::warn!(%error, "the cache could not be kept to its budget"),
        }
    }
}
