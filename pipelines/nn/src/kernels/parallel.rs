//! One fork and join over numbered tasks, handed out one by one to whichever thread is free.
//! Apart so that every kernel divides its work the same way, and small work stays on the caller's thread.

use super::crew::Crew;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Multiply-adds below which waking another thread costs more than it saves: some 4 µs of one core.
pub(crate) const INLINE_WORK: usize = 1 << 16;

/// How many threads take part.
pub(crate) fn threads() -> usize {
    Crew::get().threads()
}

/// Runs `task(0)` to `task(tasks - 1)`, in any order and in parallel when `work`, in multiply-adds or so, is worth it.
pub(crate) fn for_each(tasks: usize, work: usize, task: impl Fn(usize) + Sync) {
    for_each_of(tasks, work, |_, index| task(index));
}

/// The same, telling `task` first which thread it is on: a number below [`threads`] that no other thread has meanwhile.
pub(crate) fn for_each_of(tasks: usize, work: usize, task: impl Fn(usize, usize) + Sync) {
    if tasks <= 1 || work < INLINE_WORK || threads() <= 1 {
        (0..tasks).for_each(|index| task(0, index));
        return;
    }
    // Each thread has a stretch of tasks to start with, so that what it reads goes on where it was, and then helps the others.
    let stretches = threads();
    let end = |stretch: usize| (stretch + 1) * tasks / stretches;
    let next: Vec<AtomicUsize> = (0..stretches)
        .map(|stretch| AtomicUsize::new(stretch * tasks / stretches))
        .collect();
    let arrived = AtomicUsize::new(0);
    Crew::get().run(&|| {
        let own = arrived.fetch_add(1, Ordering::Relaxed);
        if own >= stretches {
            // A thread that joined before and found nothing left.
            return;
        }
        for stretch in own..own + stretches {
            let stretch = stretch % stretches;
            let Some(next) = next.get(stretch) else {
                continue;
            };
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= end(stretch) {
                    break;
                }
                task(own, index);
            }
        }
    });
}

/// A pointer that tasks may share because each touches a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub(crate) *mut T);

// SAFETY: whoever makes a `Shared` promises that tasks write disjoint parts; plain numbers have no thread of their own.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer; a method, so that closures capture the whole and not the field.
    #[inline(always)]
    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}
