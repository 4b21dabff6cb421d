//! The link of one file, asked for once however many ranges want it, and once more when it has expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::weights::WeightsError;
use crate::weights::remote::{Link, RemoteFile, Source};

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    /// The link in use, and its number: how many there were, with it.
    held: Mutex<(u64, Option<Arc<Link>>)>,
    /// The last link that was answered with bytes.
    good: AtomicU64,
}

impl Links {
    /// A link, and its number. Whoever was refused hands in the number of the link that was: if nobody has yet, the source
    /// is asked for the next one, while the others wait for that.
    pub async fn get(
        &self,
        source: &dyn Source,
        file: &RemoteFile,
        refused: Option<u64>,
    ) -> Result<(u64, Arc<Link>), WeightsError> {
        let mut held = self.held.lock().await;
        let (number, link) = &mut *held;
        if let Some(link) = link
            && refused != Some(*number)
        {
            return Ok((*number, link.clone()));
        }
        let fresh = Arc::new(source.link(file).await?);
        *number += 1;
        *link = Some(fresh.clone());
        Ok((*number, fresh))
    }

    /// This link was answered with bytes.
    pub fn praise(&self, number: u64) {
        self.good.fetch_max(number, Ordering::Relaxed);
    }

    /// Whether this link, or a later one, was ever answered with bytes: if so, a refusal means that it has expired.
    pub fn was_good(&self, number: u64) -> bool {
        self.good.load(Ordering::Relaxed) >= number
    }
}
