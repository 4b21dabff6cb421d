//! What happens after a batch has failed: its members run again, one at a time, from where they stood. Those that get past
//! the point of failure rejoin the others; the one that fails alone is the one to get the error.

use std::collections::VecDeque;

use super::worker::Job;

/// Steps that a suspect takes alone before it is believed.
const TRIAL_STEPS: u32 = 8;
/// Steps without a failure after which one more row is allowed again.
const STEPS_PER_ROW: u32 = 64;

/// The suspects of a failed batch, and how many rows memory was found to hold.
pub(super) struct Recovery<T> {
    suspects: VecDeque<Job<T>>,
    cleared: Vec<Job<T>>,
    /// Steps that the suspect now running has taken.
    trial: Option<u32>,
    ceiling: Option<usize>,
    calm_steps: u32,
}

/// What the worker is to do with the suspect that is running.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let it run.
    Continue,
    /// Take it out; it is believed.
    Release,
}

impl<T> Default for Recovery<T> {
    fn default() -> Self {
        Self {
            suspects: VecDeque::new(),
            cleared: Vec::new(),
            trial: None,
            ceiling: None,
            calm_steps: 0,
        }
    }
}

impl<T> Recovery<T> {
    /// Takes the members of a failed batch in.
    pub(super) fn suspect(&mut self, members: impl IntoIterator<Item = Job<T>>) {
        for mut job in members {
            job.strikes += 1;
            self.suspects.push_back(job);
        }
        self.trial = None;
    }

    /// Memory held fewer than `rows`.
    pub(super) fn out_of_memory(&mut self, rows: usize) {
        self.ceiling = Some((rows / 2).max(1));
        self.calm_steps = 0;
    }

    /// Whether a request of `rows` may join `running` rows. One alone always may.
    pub(super) fn allows(&self, running: usize, rows: usize) -> bool {
        running == 0 || self.ceiling.is_none_or(|ceiling| running + rows <= ceiling)
    }

    /// Whether only suspects may run now.
    pub(super) fn is_active(&self) -> bool {
        self.trial.is_some() || !self.suspects.is_empty()
    }

    /// Jobs held here.
    pub(super) fn held(&self) -> usize {
        self.suspects.len() + self.cleared.len()
    }

    /// The next suspect to run alone, once nothing runs.
    pub(super) fn next_suspect(&mut self) -> Option<Job<T>> {
        let next = self.suspects.pop_front();
        self.trial = next.as_ref().map(|_| 0);
        next
    }

    /// Puts a suspect back that found no room.
    pub(super) fn put_back(&mut self, job: Job<T>) {
        self.suspects.push_front(job);
        self.trial = None;
    }

    /// A step went well.
    pub(super) fn stepped(&mut self, strikes: u8) -> Verdict {
        self.calm_steps += 1;
        if self.calm_steps >= STEPS_PER_ROW {
            self.calm_steps = 0;
            self.ceiling = self.ceiling.map(|c| c + 1);
        }
        let Some(steps) = &mut self.trial else {
            return Verdict::Continue;
        };
        *steps += 1;
        // Why the strikes: who was in two failed batches runs to its end alone, so that recovery itself ends.
        if *steps >= TRIAL_STEPS && strikes < 2 {
            Verdict::Release
        } else {
            Verdict::Continue
        }
    }

    /// A believed suspect waits here for the others' trials.
    pub(super) fn clear(&mut self, job: Job<T>) {
        self.cleared.push(job);
        self.trial = None;
    }

    /// The suspect ended, one way or the other.
    pub(super) fn trial_over(&mut self) {
        self.trial = None;
    }

    /// All trials are over: those who may rejoin, in their old order.
    pub(super) fn rejoining(&mut self) -> Vec<Job<T>> {
        if self.is_active() {
            Vec::new()
        } else {
            std::mem::take(&mut self.cleared)
        }
    }

    /// Every job held, when nothing can run any more or a caller went away.
    pub(super) fn take_where(&mut self, gone: impl Fn(&Job<T>) -> bool) -> Vec<Job<T>> {
        let mut taken = Vec::new();
        for job in self.suspects.drain(..).collect::<Vec<_>>() {
            if gone(&job) {
                taken.push(job);
            } else {
                self.suspects.push_back(job);
            }
        }
        let (out, keep): (Vec<_>, Vec<_>) = self.cleared.drain(..).partition(gone);
        self.cleared = keep;
        taken.extend(out);
        taken
    }
}
