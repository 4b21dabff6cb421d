//! The jobs in hand: taken, and not yet answered. One place, because the heartbeat names them, the stop channel ends them, the
//! taker makes room by them, and the drain waits for them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A stop may arrive before the job that it is for, since they come over two connections; it is remembered for so long, and
/// no longer, because a client may send a cancelled job again under its id.
const STOP_MEMORY: Duration = Duration::from_secs(5);
/// Stops that are remembered at most.
const STOPS: usize = 256;
/// A new job's part in the average of how long a job works.
const NEW_PART: f64 = 0.2;

/// All jobs in hand.
#[derive(Debug, Default)]
pub(super) struct Hand {
    jobs: Mutex<Jobs>,
    /// Jobs whose work is not done. The others are only being answered, which takes nothing of the engine's.
    working: AtomicUsize,
    /// Bytes of results on their way.
    unsent: AtomicU64,
    /// Microseconds that a job's work takes, averaged; 0 until there was one.
    usual: AtomicU64,
    /// Something came free, or all is done.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    serial: u64,
    running: HashMap<Arc<str>, Running>,
    stopped: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Running {
    serial: u64,
    task: AbortHandle,
}

/// Whether a job was begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    Yes,
    /// It is in hand already.
    Twice,
    /// The platform has stopped it meanwhile.
    Stopped,
}

impl Hand {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job into the hand; `spawn` starts the task that has its [`Hold`].
    pub(super) fn begin(
        self: &Arc<Self>,
        id: &str,
        spawn: impl FnOnce(Hold) -> AbortHandle,
    ) -> Begun {
        // Held while spawning: a task that is done at once must find its entry to remove.
        let mut jobs = self.jobs();
        let now = Instant::now();
        jobs.stopped
            .retain(|(_, at)| now.duration_since(*at) < STOP_MEMORY);
        if jobs.running.contains_key(id) {
            return Begun::Twice;
        }
        if let Some(place) = jobs.stopped.iter().position(|(stopped, _)| stopped == id) {
            jobs.stopped.remove(place);
            return Begun::Stopped;
        }
        jobs.serial += 1;
        let (id, serial): (Arc<str>, u64) = (id.into(), jobs.serial);
        self.working.fetch_add(1, Relaxed);
        let hold = Hold {
            hand: self.clone(),
            id: id.clone(),
            serial,
            working: Some(now),
            unsent: 0,
        };
        let task = spawn(hold);
        jobs.running.insert(id, Running { serial, task });
        Begun::Yes
    }

    /// Ends a job of which nothing is to be told; `false` when it is not in hand.
    pub(super) fn stop(&self, id: &str) -> bool {
        let mut jobs = self.jobs();
        if let Some(running) = jobs.running.remove(id) {
            drop(jobs); // the task's own end wants the lock
            running.task.abort();
            self.changed.notify_one();
            return true;
        }
        if jobs.stopped.len() == STOPS {
            jobs.stopped.pop_front();
        }
        jobs.stopped.push_back((id.to_owned(), Instant::now()));
        false
    }

    /// Ends all jobs; how many there were.
    pub(super) fn abandon(&self) -> usize {
        let running = std::mem::take(&mut self.jobs().running);
        for job in running.values() {
            job.task.abort();
        }
        running.len()
    }

    /// The ids of all, as the heartbeat has them.
    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.jobs().running.keys().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs().running.is_empty()
    }

    pub(super) fn working(&self) -> usize {
        self.working.load(Relaxed)
    }

    /// Jobs that are only being answered, and the bytes of their results.
    pub(super) fn answering(&self) -> (usize, u64) {
        let all = self.jobs().running.len();
        (
            all.saturating_sub(self.working()),
            self.unsent.load(Relaxed),
        )
    }

    /// How long a job's work takes; `None` until there was one.
    pub(super) fn usual(&self) -> Option<Duration> {
        match self.usual.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    /// Resolves when something came free since the last time. For one waiter at a time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn worked(&self, took: Duration) {
        let took = took.as_micros().max(1) as f64;
        let before = self.usual.load(Relaxed) as f64;
        let now = if before == 0.0 {
            took
        } else {
            before + NEW_PART * (took - before)
        };
        // Two ends at one time may lose one of them, which an average can bear.
        self.usual.store(now.max(1.0) as u64, Relaxed);
    }
}

/// A job's place in the hand, given back on drop however its task ends.
#[derive(Debug)]
pub(super) struct Hold {
    hand: Arc<Hand>,
    id: Arc<str>,
    serial: u64,
    /// When its work began; `None` when it is done.
    working: Option<Instant>,
    unsent: u64,
}

impl Hold {
    /// The work is done: another job may come.
    pub(super) fn done(&mut self) {
        if let Some(begun) = self.working.take() {
            self.hand.worked(begun.elapsed());
            self.hand.working.fetch_sub(1, Relaxed);
            self.hand.changed.notify_one();
        }
    }

    /// A result of so many bytes is on its way.
    pub(super) fn sending(&mut self, bytes: usize) {
        self.unsent += bytes as u64;
        self.hand.unsent.fetch_add(bytes as u64, Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.working.take().is_some() {
            self.hand.working.fetch_sub(1, Relaxed);
        }
        self.hand.unsent.fetch_sub(self.unsent, Relaxed);
        let mut jobs = self.hand.jobs();
        // A job that was stopped may be back under its id already.
        if jobs
            .running
            .get(&self.id)
            .is_some_and(|job| job.serial == self.serial)
        {
            jobs.running.remove(&self.id);
        }
        drop(jobs);
        self.hand.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(hold: Hold) -> AbortHandle {
        tokio::spawn(async move {
            let _hold = hold;
            std::future::pending::<()>().await;
        })
        .abort_handle()
    }

    #[tokio::test]
    async fn a_job_is_in_hand_once_and_until_its_end() {
        let hand = Arc::new(Hand::default());
        assert_eq!(hand.begin("a", parked), Begun::Yes);
        assert_eq!(hand.begin("a", parked), Begun::Twice);
        assert_eq!((hand.ids().len(), hand.working()), (1, 1));
        assert!(hand.stop("a"));
        hand.changed().await;
        while hand.working() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(hand.is_empty());
        // A client may send it again.
        assert_eq!(hand.begin("a", parked), Begun::Yes);
    }

    #[tokio::test]
    async fn a_stop_that_comes_before_its_job_is_not_forgotten() {
        let hand = Arc::new(Hand::default());
        assert!(!hand.stop("a"));
        assert_eq!(hand.begin("a", parked), Begun::Stopped);
        assert_eq!(hand.begin("a", parked), Begun::Yes);
    }

    #[tokio::test]
    async fn work_that_is_done_makes_room_before_its_result_has_arrived() {
        let hand = Arc::new(Hand::default());
        let mut held = None;
        hand.begin("a", |hold| {
            held = Some(hold);
            tokio::spawn(async {}).abort_handle()
        });
        let mut hold = held.unwrap();
        assert_eq!(hand.usual(), None);
        hold.done();
        hold.sending(10);
        assert_eq!((hand.working(), hand.answering()), (0, (1, 10)));
        assert!(hand.usual().is_some());
        drop(hold);
        assert_eq!((hand.is_empty(), hand.answering()), (true, (0, 0)));
    }
}
