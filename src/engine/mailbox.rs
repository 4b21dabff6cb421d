//! What lies between the engine's thread and one reader: bounded, never blocking the engine. Text that waits is merged,
//! progress and previews are replaced, and when too much lies here the engine is told that the reader is behind.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chandler_core::{ErrorKind, Event, RequestError};
use tokio::sync::Notify;

/// Bytes that may wait for a reader before its request is stalled.
const HIGH_WATER: usize = 256 * 1024;
/// Bytes below which a stalled request goes on.
const LOW_WATER: usize = 64 * 1024;

/// How a posted event fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It waits for the reader.
    Taken,
    /// It waits, and so much else does that the request should pause.
    Stalled,
    /// Nobody will read it.
    Gone,
}

/// The letters of one request.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Events with their weights in bytes; a merged event has the sum.
    waiting: VecDeque<(Event, usize)>,
    weight: usize,
    gone: bool,
    /// The terminal event has been posted.
    sealed: bool,
}

impl State {
    /// Drops what an event makes worthless. Only such events have something looked for: there may be many that wait.
    fn forget_replaced(&mut self, event: &Event) {
        if !matches!(event, Event::Progress { .. } | Event::Preview(_)) {
            return;
        }
        let replaced = self
            .waiting
            .iter()
            .rposition(|(held, _)| event.replaces(held));
        if let Some((_, weight)) = replaced.and_then(|at| self.waiting.remove(at)) {
            self.weight = self.weight.saturating_sub(weight);
        }
    }
}

impl Mailbox {
    /// A panic while the lock is held leaves the letters whole, so a poisoned lock is used as it is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Never blocks on the reader.
    pub(super) fn post(&self, event: Event) -> Delivery {
        let mut state = self.lock();
        if state.gone {
            return Delivery::Gone;
        }
        debug_assert!(!state.sealed, "an event after the terminal one");
        state.sealed |= event.is_terminal();
        state.forget_replaced(&event);
        // Why before: one large event does not make a reader slow; a second one that finds the first still here does.
        let behind = state.weight > HIGH_WATER;
        let weight = event.weight();
        state.weight += weight;
        let unmerged = match state.waiting.back_mut() {
            Some((held, held_weight)) => match held.absorb(event) {
                Ok(()) => {
                    *held_weight += weight;
                    None
                }
                Err(event) => Some(event),
            },
            None => Some(event),
        };
        if let Some(event) = unmerged {
            state.waiting.push_back((event, weight));
        }
        let stalled = behind && !state.sealed;
        drop(state);
        self.arrived.notify_one();
        if stalled {
            Delivery::Stalled
        } else {
            Delivery::Taken
        }
    }

    /// The next event; `None` after the terminal one. The flag says that a stalled request may go on.
    pub(super) async fn take(&self) -> (Option<Event>, bool) {
        // A model that is faster than its reader has always something ready: without this, who gathers a whole answer would
        // never let go of the thread, and neither a drain nor a time limit would reach him.
        tokio::task::coop::consume_budget().await;
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.lock();
                if let Some((event, weight)) = state.waiting.pop_front() {
                    let before = state.weight;
                    state.weight -= weight;
                    let eased = before > LOW_WATER && state.weight <= LOW_WATER;
                    return (Some(event), eased);
                }
                if state.sealed {
                    return (None, false);
                }
            }
            arrived.await;
        }
    }

    /// Whether a stalled request may go on.
    pub(super) fn has_room(&self) -> bool {
        self.lock().weight <= LOW_WATER
    }

    /// The reader has left; what waits is dropped. `true` when the request had not ended yet.
    pub(super) fn close(&self) -> bool {
        let mut state = self.lock();
        state.gone = true;
        state.waiting.clear();
        state.weight = 0;
        !state.sealed
    }
}

/// The engine's end of a mailbox. Dropped without a terminal event, it posts one: no reader waits for ever.
#[derive(Debug)]
pub(super) struct Outbox(Arc<Mailbox>);

impl Outbox {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self(mailbox)
    }

    pub(super) fn post(&self, event: Event) -> Delivery {
        self.0.post(event)
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.has_room()
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let open = {
            let state = self.0.lock();
            !state.sealed && !state.gone
        };
        if open {
            let error = RequestError::new(ErrorKind::NotReady, "the worker is stopping");
            self.0.post(Event::Failed(error.with_retry_after(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use chandler_core::{Preview, TextDelta, Usage};

    use super::*;

    fn text(n: usize) -> Event {
        Event::Text(TextDelta {
            text: "x".repeat(n),
            ..TextDelta::default()
        })
    }

    #[tokio::test]
    async fn waiting_text_is_merged_and_nothing_is_lost() {
        let mailbox = Mailbox::default();
        for _ in 0..1000 {
            assert_eq!(mailbox.post(text(3)), Delivery::Taken);
        }
        mailbox.post(Event::Done(Usage::default()));
        assert_eq!(mailbox.take().await.0, Some(text(3000)));
        assert_eq!(mailbox.take().await.0, Some(Event::Done(Usage::default())));
        assert_eq!(mailbox.take().await.0, None);
    }

    #[tokio::test]
    async fn a_reader_who_stays_away_stalls_the_request_and_eases_it_on_return() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.post(text(HIGH_WATER)), Delivery::Taken);
        assert_eq!(mailbox.post(text(1)), Delivery::Stalled);
        assert!(!mailbox.has_room());
        let (event, eased) = mailbox.take().await;
        assert!(event.is_some() && eased && mailbox.has_room());
    }

    #[tokio::test]
    async fn previews_and_progress_take_the_place_of_their_forerunners() {
        let mailbox = Mailbox::default();
        let preview = |index: u32, step: u32| {
            Event::Preview(Box::new(Preview {
                index,
                step,
                width: 200,
                height: 200,
                rgb: vec![0; 120_000].into(),
            }))
        };
        let progress = |done: u32| Event::Progress { done, total: 50 };
        for step in 1..50 {
            for event in [progress(step), preview(0, step), preview(1, step)] {
                assert_eq!(mailbox.post(event), Delivery::Taken);
            }
        }
        for event in [progress(49), preview(0, 49), preview(1, 49)] {
            assert_eq!(mailbox.take().await.0, Some(event));
        }
        assert!(mailbox.has_room());
    }

    #[tokio::test]
    async fn a_reader_who_always_finds_something_lets_others_run() {
        let mailbox = Mailbox::default();
        let other = tokio::spawn(async {});
        for _ in 0..1000 {
            mailbox.post(text(1));
            assert!(mailbox.take().await.0.is_some());
        }
        assert!(other.is_finished());
    }

    #[test]
    fn a_closed_mailbox_holds_nothing() {
        let mailbox = Mailbox::default();
        mailbox.post(text(10));
        assert!(mailbox.close());
        assert_eq!(mailbox.post(text(10)), Delivery::Gone);
    }
}
