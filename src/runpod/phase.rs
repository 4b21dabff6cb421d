//! How far the worker is on its way out: one value that only ever goes forward, and that everybody waits on.

use tokio::sync::watch;

/// The steps of an orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Jobs are taken.
    Taking,
    /// None is taken any more; what is in hand is worked on.
    Draining,
    /// What is still worked on is given up, and its clients are told.
    GivingUp,
    /// Whatever has not been told by now is not told.
    Over,
}

/// The side that moves it.
#[derive(Debug)]
pub(super) struct Phases(watch::Sender<Phase>);

/// The side that waits for it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Watched(watch::Receiver<Phase>);

impl Default for Phases {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Taking))
    }
}

impl Phases {
    pub(super) fn reach(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }

    pub(super) fn watch(&self) -> Watched {
        Watched(self.0.subscribe())
    }
}

impl Watched {
    /// Resolves when it is that far, or when whoever moves it is gone.
    pub(super) async fn reached(&mut self, phase: Phase) {
        // Why ignored: an end without ceremony is an end, too.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }

    pub(super) fn is(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase
    }
}
