//! Requests of a mock that run together, each a piece a step: what the mocks of pictures and of speech have in common. The one of
//! text is a pipeline of its own, because it can fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{RequestError, StepError};
use crate::event::Events;
use crate::pipeline::{
    Activity, Admission, Footprint, Occupancy, Pipeline, Prepare, Prepared, RequestId, Step, Ticket,
};

/// A request that a mock works on.
pub trait Played: Prepared + Sized + 'static {
    /// What makes it of an input.
    fn preparer() -> Arc<dyn Prepare<Prepared = Self>>;

    /// Does its next piece; `true` when that was the last.
    fn play(&mut self, id: RequestId, events: &mut Events) -> bool;
}

/// The pipeline.
#[derive(Debug)]
pub struct MockBatch<P> {
    rows: usize,
    step: Duration,
    running: BTreeMap<RequestId, (Ticket, P)>,
}

impl<P: Played> MockBatch<P> {
    /// Runs so many rows at once, a piece of each request in a step that takes so long.
    pub fn new(rows: usize, step: Duration) -> Self {
        Self {
            rows,
            step,
            running: BTreeMap::new(),
        }
    }

    fn running_rows(&self) -> usize {
        self.running.values().map(|(_, p)| p.cost().rows).sum()
    }
}

impl<P: Played> Pipeline for MockBatch<P> {
    type Prepared = P;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = P>> {
        P::preparer()
    }

    fn admit(&mut self, ticket: Ticket, prepared: P) -> Admission<P> {
        let rows = prepared.cost().rows;
        if rows > self.rows {
            let message = format!(
                "n is {rows}; this worker runs at most {} at once",
                self.rows
            );
            return Admission::Refused(RequestError::field("n", message));
        }
        if self.running_rows() + rows > self.rows {
            return Admission::Full(prepared);
        }
        self.running.insert(ticket.id, (ticket, prepared));
        Admission::Taken
    }

    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        if self.running.is_empty() {
            return Ok(Step::IDLE);
        }
        if !self.step.is_zero() {
            std::thread::sleep(self.step);
        }
        let rows = self.running_rows();
        self.running
            .retain(|id, (_, request)| !request.play(*id, events));
        Ok(Step {
            activity: Activity::Worked,
            rows,
            work: rows,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.running.remove(&id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<P> {
        self.running.remove(&id).map(|(_, prepared)| prepared)
    }

    fn reset(&mut self) -> Result<(), StepError> {
        Ok(())
    }

    fn step_bound(&self) -> usize {
        self.rows
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            requests: self.running.len(),
            rows: self.running_rows(),
            ..Occupancy::default()
        }
    }

    fn footprint(&self) -> Footprint {
        Footprint::default()
    }
}
