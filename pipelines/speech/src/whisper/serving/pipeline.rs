//! Whisper as the engine sees it: requests share windows and sequences of one batch, and every step does a stage of the encoder and a
//! pass of the decoder for whoever is there.

use std::sync::Arc;

use chandler_core::{
    Activity, Admission, Event, Events, Footprint, Occupancy, Parked, Pipeline, Prepare,
    RequestError, RequestId, Step, StepError, Ticket,
};
use chandler_nn::device;
use chandler_nn::parking::Parking;

use super::prepare::WhisperPreparer;
use super::prepared::WhisperPrepared;
use super::running::{Running, Standing, Workshop};
use crate::failure;
use crate::whisper::decoding::{BatchLimits, DecodingBatch, Outcome, WindowId};
use crate::whisper::model::Whisper;

/// A loaded Whisper model.
pub struct WhisperPipeline {
    pub(super) model: Whisper,
    pub(super) batch: DecodingBatch,
    pub(super) preparer: Arc<WhisperPreparer>,
    pub(super) running: Vec<Running>,
    /// Whose turn it is to bring windows first.
    pub(super) turn: usize,
    pub(super) parking: Parking,
}

impl WhisperPipeline {
    /// How much it does at once.
    pub fn limits(&self) -> BatchLimits {
        self.batch.limits()
    }

    /// Keeps no more of a recording's frames than these bytes: what is beyond is read a second time. For tests.
    pub fn keeping(mut self, bytes: usize) -> Self {
        if let Some(preparer) = Arc::get_mut(&mut self.preparer) {
            preparer.kept_bytes = bytes;
        }
        self
    }

    /// Brings windows of all requests into the batch: each its share, and he first who was second the last time.
    fn bring(&mut self) -> Result<Vec<(RequestId, RequestError)>, StepError> {
        let mut failed = Vec::new();
        let count = self.running.len();
        let share = (self.batch.limits().caches.windows / count.max(1)).max(1);
        let mut shop = Workshop {
            model: &self.model,
            batch: &mut self.batch,
        };
        for place in 0..count {
            let Some(running) = self.running.get_mut((self.turn + place) % count) else {
                continue;
            };
            if running.ticket.cancelled.is_raised() {
                continue;
            }
            let brought = running.bring(&mut shop, share);
            let brought = brought.map_err(|error| failure::of_pass(&error))?;
            failed.extend(brought.err().map(|error| (running.id(), error)));
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(failed)
    }

    fn take(&mut self, outcomes: Vec<(WindowId, Outcome)>) -> Vec<(RequestId, RequestError)> {
        let mut shop = Workshop {
            model: &self.model,
            batch: &mut self.batch,
        };
        let mut failed = Vec::new();
        for (window, outcome) in outcomes {
            let owner = self
                .running
                .iter_mut()
                .find(|running| running.windows.iter().any(|one| one.id == window));
            if let Some(running) = owner
                && let Err(error) = running.take((window, outcome), &mut shop)
            {
                failed.push((running.id(), error));
            }
        }
        failed
    }

    fn take_out(&mut self, id: RequestId) -> Option<WhisperPrepared> {
        let at = self.running.iter().position(|running| running.id() == id)?;
        Some(self.running.remove(at).leave(&mut self.batch))
    }
}

impl Pipeline for WhisperPipeline {
    type Prepared = WhisperPrepared;

    fn preparer(&self) -> Arc<dyn Prepare<Prepared = WhisperPrepared>> {
        Arc::clone(&self.preparer) as _
    }

    fn admit(&mut self, ticket: Ticket, request: WhisperPrepared) -> Admission<WhisperPrepared> {
        // Everybody who is in gets a window in time.
        if self.running.len() >= self.batch.limits().caches.windows {
            return Admission::Full(request);
        }
        self.running.push(Running::new(ticket, request));
        Admission::Taken
    }

    fn step(&mut self, events: &mut Events) -> Result<Step, StepError> {
        if self.running.is_empty() {
            return Ok(Step::IDLE);
        }
        self.parking.check_awake()?;
        let mut failed = self.bring()?;
        let progress = self.batch.step(&self.model);
        let progress = progress.map_err(|error| failure::of_pass(&error))?;
        let work = progress.encoded + progress.rows;
        let rows = self.running.len();
        failed.extend(self.take(progress.outcomes));
        for (id, error) in failed {
            if self.take_out(id).is_some() {
                events.push(id, Event::Failed(error));
            }
        }
        let description = &self.model.description;
        let mut ended = Vec::new();
        let mut moving = false;
        for running in &mut self.running {
            let cancelled = running.ticket.cancelled.is_raised();
            moving |= !cancelled;
            if !cancelled && let Standing::Ended = running.tell(description, events) {
                ended.push(running.id());
            }
        }
        for id in ended {
            self.take_out(id);
        }
        let activity = match moving || work > 0 || !events.is_empty() {
            true => Activity::Worked,
            // Whoever is left was cancelled, and the engine has not said so yet.
            false => Activity::Waiting,
        };
        Ok(Step {
            activity,
            rows,
            work,
        })
    }

    fn cancel(&mut self, id: RequestId) {
        self.take_out(id);
    }

    fn suspend(&mut self, id: RequestId) -> Option<WhisperPrepared> {
        self.take_out(id)
    }

    fn reset(&mut self) -> Result<(), StepError> {
        device::failure::recover(&self.model.placement.device)?;
        self.batch.clear();
        Ok(())
    }

    fn parking_space(&self) -> Option<u64> {
        self.parking.space()
    }

    fn park(&mut self) -> Result<Parked, StepError> {
        let parked = self.parking.park()?;
        if parked == Parked::Wholly {
            self.batch.clear();
            self.batch.give_up();
            device::failure::recover(&self.model.placement.device)?;
        }
        Ok(parked)
    }

    fn wake(&mut self) -> Result<(), StepError> {
        self.parking.wake_with(|| self.batch.take_up())
    }

    fn step_bound(&self) -> usize {
        let limits = self.batch.limits();
        limits.encoded_together + limits.prompt_rows + limits.caches.sequences
    }

    fn occupancy(&self) -> Occupancy {
        let limits = self.batch.limits();
        let (used, all) = self.batch.caches().blocks();
        Occupancy {
            requests: self.running.len(),
            rows: limits.caches.sequences - self.batch.free_sequences(),
            blocks_used: used,
            blocks_kept: 0,
            blocks_total: all,
        }
    }

    fn footprint(&self) -> Footprint {
        let held = (self.model.bytes() + self.batch.caches().bytes()) as u64;
        let held = device::footprint(&self.model.placement.device, held);
        self.parking.footprint(held)
    }
}
