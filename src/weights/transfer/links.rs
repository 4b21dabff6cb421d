//! The link of one file, asked for once however many ranges want it, and once more when it has expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use crate::weights::WeightsError;
use crate::weights::remote::{Link, RemoteFile, Source};

/// See the module.
#[derive(Default)]
pub(super) struct Links {
    /// The link in use, and its number: how many there were, with it.
    held: Mutex<(u64, Option<Arc<Link>>)>,
    /// Whether one was answered with bytes.
    good: AtomicBool,
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

    /// A link was answered with bytes.
    pub fn praise(&self) {
        self.good.store(true, Ordering::Relaxed);
    }

    /// Whether any link of this file was ever answered with bytes.
    pub fn was_good(&self) -> bool {
        self.good.load(Ordering::Relaxed)
    }
}
