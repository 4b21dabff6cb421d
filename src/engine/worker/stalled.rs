//! Requests whose readers are behind: taken out of the batch, put back when their readers have caught up, ended when they stay away.
//! Apart from the loop, which goes on without them.

use std::time::Instant;

use chandler_core::{ErrorKind, Event, Pipeline, RequestError, RequestId};

use super::{Job, Worker};

/// A request whose reader is behind.
pub(super) struct Stalled<T> {
    pub(super) job: Job<T>,
    since: Instant,
}

impl<P: Pipeline> Worker<P> {
    /// Pauses a request whose reader is behind.
    pub(super) fn stall(&mut self, id: RequestId) {
        if let Some(job) = self.take_out(id) {
            self.stalled.push(Stalled {
                job,
                since: Instant::now(),
            });
            if self.running.is_empty() {
                self.recovery.trial_over();
            }
        }
    }

    pub(super) fn resume_stalled(&mut self) {
        let (ready, keep): (Vec<_>, Vec<_>) = self
            .stalled
            .drain(..)
            .partition(|stalled| stalled.job.outbox.has_room());
        self.stalled = keep;
        // The one that has waited longest is to be in front.
        for stalled in ready.into_iter().rev() {
            self.queue.push_front(stalled.job);
        }
    }

    /// Ends requests whose reader stayed away too long.
    pub(super) fn expire_stalled(&mut self) {
        let stall = self.around.options.stall;
        let (late, keep): (Vec<_>, Vec<_>) = self
            .stalled
            .drain(..)
            .partition(|stalled| stalled.since.elapsed() >= stall);
        self.stalled = keep;
        for Stalled { job, .. } in late {
            self.around.stats.cancelled(job.timeline.elapsed());
            let message = format!("the answer was not read for {} s", stall.as_secs());
            let _ = job.outbox.post(Event::Failed(RequestError::new(
                ErrorKind::Timeout,
                message,
            )));
        }
    }
}
