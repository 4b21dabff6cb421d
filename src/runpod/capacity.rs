//! How many more jobs the engine can really use now. It follows rows and cache as they are, so that there is nothing to resize
//! and nothing to wait for.

use std::time::Duration;

use crate::engine::{Counters, Engine};

/// Jobs that work longer than this are not taken ahead: another worker would have begun with them, and what is gained, the
/// time of a round trip, is next to nothing for them.
const WORTH_FETCHING: Duration = Duration::from_secs(2);

/// What may be in work.
#[derive(Debug, Clone)]
pub(super) struct Capacity {
    pub(super) engine: Engine,
    /// Rows that the engine works on at once; a job takes one or more.
    pub(super) rows: usize,
    /// Jobs that are taken ahead; `None` leaves it to how long they take.
    pub(super) prefetch: Option<usize>,
}

/// Room for jobs, and why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    For(usize),
    /// Until a job of ours is done.
    None,
    /// Others use the engine too; when they are done is not told.
    TakenByOthers,
}

impl Capacity {
    /// Room beside `working` jobs that take `usual` time each.
    pub(super) fn room(&self, working: usize, usual: Option<Duration>) -> Room {
        let ahead = self
            .prefetch
            .unwrap_or_else(|| usize::from(usual.is_some_and(|usual| usual < WORTH_FETCHING)));
        room(self.rows, ahead, working, self.engine.counters())
    }
}

fn room(rows: usize, ahead: usize, working: usize, now: Counters) -> Room {
    let free = rows.saturating_sub(working);
    if free == 0 {
        return match (rows + ahead).saturating_sub(working) {
            0 => Room::None,
            more => Room::For(more),
        };
    }
    // What the engine has besides: requests over HTTP, and jobs of several rows.
    let used = now.rows + now.queued;
    let by_rows = rows.saturating_sub(used.max(working));
    // Requests for which the cache has no blocks left would only wait.
    let by_cache = if now.running == 0 || now.blocks_total == 0 {
        usize::MAX
    } else {
        let each = now.blocks_used.div_ceil(now.running).max(1);
        let free = now.blocks_total.saturating_sub(now.blocks_used) / each;
        free.saturating_sub(now.queued)
    };
    match by_rows.min(by_cache) {
        0 if working == 0 && now.queued == 0 && now.rows < rows => Room::For(1),
        0 => Room::TakenByOthers,
        more => Room::For((more + ahead).min(rows + ahead - working)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(rows: usize, queued: usize) -> Counters {
        Counters {
            rows,
            running: rows,
            queued,
            ..Counters::default()
        }
    }

    #[test]
    fn jobs_fill_the_rows_and_one_more_is_taken_ahead() {
        assert_eq!(room(1, 0, 0, counters(0, 0)), Room::For(1));
        assert_eq!(room(1, 0, 1, counters(1, 0)), Room::None);
        assert_eq!(room(1, 1, 0, counters(0, 0)), Room::For(2));
        assert_eq!(room(1, 1, 1, counters(1, 0)), Room::For(1));
        assert_eq!(room(1, 1, 2, counters(1, 1)), Room::None);
        assert_eq!(room(32, 0, 5, counters(5, 0)), Room::For(27));
        // A job that has just come is not in the engine yet.
        assert_eq!(room(32, 0, 5, counters(0, 0)), Room::For(27));
    }

    #[test]
    fn jobs_of_several_rows_and_callers_over_http_take_room() {
        assert_eq!(room(32, 0, 4, counters(16, 0)), Room::For(16));
        assert_eq!(room(32, 0, 4, counters(32, 3)), Room::TakenByOthers);
        assert_eq!(room(32, 0, 0, counters(32, 0)), Room::TakenByOthers);
    }

    #[test]
    fn a_full_cache_takes_no_more_than_it_can_hold() {
        let cache = |used| Counters {
            blocks_used: used,
            blocks_total: 100,
            ..counters(8, 0)
        };
        assert_eq!(room(32, 0, 8, cache(80)), Room::For(2));
        assert_eq!(room(32, 0, 8, cache(96)), Room::TakenByOthers);
        let empty = Counters {
            blocks_total: 100,
            ..Counters::default()
        };
        assert_eq!(room(32, 0, 0, empty), Room::For(32));
    }
}
