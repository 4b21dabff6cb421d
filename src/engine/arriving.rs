//! The store's arrivals as the pipelines know them: the two may not know each other, and here they meet.

use std::sync::Arc;

use chandler_nn::weights;

use crate::weights::store::Arrivals;

/// Shards on their way.
pub(super) struct Shards(pub(super) Arc<Arrivals>);

impl weights::Arrivals for Shards {
    fn size(&self, file: &str) -> Option<u64> {
        self.0.size(file)
    }

    fn wait(&self, file: &str) -> Result<(), String> {
        self.0.wait(file)
    }
}
