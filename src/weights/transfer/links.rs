//! The link of one file, asked for once however many ranges want it, and once more when it has expired.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::weights::WeightsError;
use crate::weights::remote::{Link, RemoteFile, Source};

/// The link in use, and how many there were before it.
#[derive(Default)]
pub(super) struct Links(Mutex<(u64, Option<Arc<Link>>)>);

impl Links {
    /// A link, and its number. Whoever was refused hands in the number of the link that was: if nobody has yet, the source
    /// is asked for the next one, while the others wait for that.
    pub async fn get(
        &self,
        source: &dyn Source,
        file: &RemoteFile,
        refused: Option<u64>,
    ) -> Result<(u64, Arc<Link>), WeightsError> {
        let mut held = self.0.lock().await;
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
}
