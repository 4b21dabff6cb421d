//! The jobs that the local API knows: so many and so many bytes at most. What has ended gives way, the oldest first; what
//! waits or runs never does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::record::{Record, Status};

/// Jobs at most.
const MOST_JOBS: usize = 1024;
/// Bytes of outputs at most.
const MOST_BYTES: usize = 256 << 20;

/// The jobs by id.
pub(super) struct Store {
    jobs: Mutex<HashMap<String, Arc<Record>>>,
    most_jobs: usize,
    most_bytes: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            most_jobs: MOST_JOBS,
            most_bytes: MOST_BYTES,
        }
    }
}

/// Every place is taken by a job that has not ended.
#[derive(Debug, thiserror::Error)]
#[error("{0} jobs wait or run already; try again later")]
pub(super) struct Full(usize);

impl Store {
    pub(super) fn insert(&self, record: Arc<Record>) -> Result<(), Full> {
        let mut jobs = self.jobs();
        if jobs.len() >= self.most_jobs && !drop_oldest(&mut jobs) {
            return Err(Full(jobs.len()));
        }
        jobs.insert(record.id.clone(), record);
        Ok(())
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Record>> {
        self.jobs().get(id).cloned()
    }

    pub(super) fn remove(&self, id: &str) {
        self.jobs().remove(id);
    }

    /// Lets the oldest outputs go until the rest is within bounds; the newest stays whatever its size.
    pub(super) fn trim(&self) {
        let mut jobs = self.jobs();
        loop {
            let ended = jobs
                .values()
                .filter(|record| record.ended().is_some())
                .count();
            let bytes: usize = jobs.values().map(|record| record.bytes()).sum();
            if bytes <= self.most_bytes || ended <= 1 || !drop_oldest(&mut jobs) {
                return;
            }
        }
    }

    /// Ends what waits in the queue; how many those were.
    pub(super) fn purge(&self) -> usize {
        let waiting: Vec<Arc<Record>> = self
            .jobs()
            .values()
            .filter(|record| record.status() == Status::InQueue)
            .cloned()
            .collect();
        for record in &waiting {
            record.end(Status::Cancelled, None, None);
        }
        waiting.len()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Arc<Record>>> {
        // Why not an error: no change of the map can be left half done.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_oldest(jobs: &mut HashMap<String, Arc<Record>>) -> bool {
    let ended = jobs
        .values()
        .filter_map(|record| Some((record.ended()?, record.id.clone())));
    match ended.min() {
        Some((_, id)) => jobs.remove(&id).is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::work::Outcome;
    use serde_json::json;
    use std::time::Duration;

    async fn ended(store: &Store, id: &str, output: &str) {
        let record = Arc::new(Record::new(id.into()));
        store.insert(record.clone()).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        record.done(Outcome::output(json!(output)));
        store.trim();
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_that_ended_gives_way_and_nothing_that_runs_does() {
        let store = Store {
            most_jobs: 2,
            most_bytes: 40,
            ..Store::default()
        };
        let running = Arc::new(Record::new("running".into()));
        running.begin();
        store.insert(running).unwrap();
        ended(&store, "a", "x").await;
        ended(&store, "b", "x").await;
        assert!(store.get("a").is_none() && store.get("b").is_some());
        store.remove("b");
        store
            .insert(Arc::new(Record::new("waiting".into())))
            .unwrap();
        let full = store
            .insert(Arc::new(Record::new("more".into())))
            .unwrap_err();
        assert_eq!(
            full.to_string(),
            "2 jobs wait or run already; try again later"
        );
        assert_eq!(store.purge(), 1);
        assert_eq!(store.get("waiting").unwrap().status(), Status::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn outputs_are_bounded_together_and_the_newest_stays() {
        let store = Store {
            most_bytes: 60,
            ..Store::default()
        };
        ended(&store, "a", &"x".repeat(30)).await;
        ended(&store, "b", &"x".repeat(30)).await;
        assert!(store.get("a").is_none() && store.get("b").is_some());
        ended(&store, "c", &"x".repeat(90)).await;
        assert!(store.get("b").is_none() && store.get("c").is_some());
    }
}
