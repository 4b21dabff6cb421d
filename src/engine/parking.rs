//! When the model leaves its device and comes back: after so long without a request, or when somebody asks; and with the next request.
//! Apart from the loop, which asks here between two rounds; what it takes to leave a device is the pipeline's.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chandler_core::{ErrorKind, Parked, Pipeline, RequestError, StepError};
use tokio::sync::oneshot;

use super::handle::EngineOptions;
use super::stats::Stats;
use super::worker::panic_message;

/// Where an answer goes to whoever asked for the model to leave or to come back.
pub(super) type Reply = oneshot::Sender<Result<(), RequestError>>;

/// How far the model is, and who waits for it to leave.
pub(super) struct Parking {
    /// How long it stays without a request.
    after: Option<Duration>,
    /// Since when nobody has asked anything; nothing where it is not to leave by itself before somebody has.
    idle: Option<Instant>,
    asked: Vec<Reply>,
    /// Who wants it back.
    called: Vec<Reply>,
    /// What a parking that is under way has taken so far.
    begun: Option<Duration>,
    parked: bool,
    /// Bytes of the host's memory that are free, where that is known.
    free: fn() -> Option<u64>,
}

impl Parking {
    pub(super) fn new<P: Pipeline>(options: &EngineOptions, pipeline: &P) -> Self {
        let able = pipeline.parking_space().is_some();
        if options.park_after.is_some() && !able {
            tracing::warn!(
                "park_after has no effect: the model has nothing on a GPU that it could give up"
            );
        }
        Self {
            after: options.park_after.filter(|_| able),
            idle: Some(Instant::now()),
            asked: Vec::new(),
            called: Vec::new(),
            begun: None,
            parked: false,
            free: options.free_memory,
        }
    }

    /// Requests are here, or were a moment ago.
    pub(super) fn touch(&mut self) {
        self.idle = Some(Instant::now());
        self.begun = None;
    }

    /// Somebody wants it back. Whoever wanted it gone and still waits is told so.
    pub(super) fn call(&mut self, reply: Reply) {
        self.touch();
        self.called.push(reply);
        let message = "the model was asked to stay before it had left";
        let error = RequestError::new(ErrorKind::NotReady, message);
        let asked = self.asked.drain(..);
        asked.for_each(|reply| answer(reply, Err(error.clone())));
    }

    /// How long the loop may sleep before there is something to do here.
    pub(super) fn alarm(&self) -> Option<Duration> {
        if !self.called.is_empty() {
            return Some(Duration::ZERO);
        }
        if self.parked {
            return None;
        }
        if self.begun.is_some() || !self.asked.is_empty() {
            return Some(Duration::ZERO);
        }
        let left = self.after?.saturating_sub(self.idle?.elapsed());
        Some(left)
    }

    /// Somebody wants it gone as soon as nothing runs.
    pub(super) fn ask(&mut self, reply: Reply) {
        match self.parked {
            true => answer(reply, Ok(())),
            false => self.asked.push(reply),
        }
    }

    /// Does a piece of what is due. Called when nothing is here. An error is one that ends the engine.
    pub(super) fn rest<P: Pipeline>(
        &mut self,
        pipeline: &mut P,
        stats: &Stats,
    ) -> Result<(), String> {
        if !self.called.is_empty() {
            return match self.wake(pipeline, stats) {
                Err(StepError::Fatal(message)) => Err(message),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        if self.parked || self.alarm().is_none_or(|left| !left.is_zero()) {
            return Ok(());
        }
        if let Err(error) = self.check_space(pipeline) {
            self.give_up(&error);
            return Ok(());
        }
        let (before, begun) = (pipeline.footprint().device_bytes, Instant::now());
        let parked = caught(|| pipeline.park());
        let took = self.begun.unwrap_or_default() + begun.elapsed();
        match parked {
            Ok(Parked::Partly) => self.begun = Some(took),
            Ok(Parked::Wholly) => {
                let held = pipeline.footprint();
                stats.holds(held);
                stats.parked(true);
                stats.occupied(pipeline.occupancy());
                tracing::info!(
                    bytes = before.saturating_sub(held.device_bytes),
                    left_bytes = held.device_bytes,
                    host_bytes = held.host_bytes,
                    elapsed_ms = took.as_millis() as u64,
                    "model parked"
                );
                self.parked = true;
                self.begun = None;
                self.asked.drain(..).for_each(|reply| answer(reply, Ok(())));
            }
            Err(StepError::Fatal(message)) => return Err(message),
            Err(error @ StepError::OutOfMemory(_)) => self.give_up(&error.into_request_error()),
            Err(error) => self.give_up(&RequestError::internal(error.to_string())),
        }
        Ok(())
    }

    /// Brings the model back, where it is parked, and tells those who have called it.
    pub(super) fn wake<P: Pipeline>(
        &mut self,
        pipeline: &mut P,
        stats: &Stats,
    ) -> Result<(), StepError> {
        let woken = match self.parked {
            true => self.bring_back(pipeline, stats),
            false => Ok(()),
        };
        for reply in self.called.drain(..) {
            answer(reply, woken.clone().map_err(StepError::into_request_error));
        }
        woken
    }

    fn bring_back<P: Pipeline>(
        &mut self,
        pipeline: &mut P,
        stats: &Stats,
    ) -> Result<(), StepError> {
        let (before, begun) = (pipeline.footprint().device_bytes, Instant::now());
        if let Err(error) = caught(|| pipeline.wake()) {
            tracing::warn!(%error, elapsed_ms = begun.elapsed().as_millis() as u64, "the model stays parked");
            return Err(error);
        }
        let (held, took) = (pipeline.footprint(), begun.elapsed());
        stats.holds(held);
        stats.parked(false);
        stats.woken(took);
        tracing::info!(
            bytes = held.device_bytes.saturating_sub(before),
            elapsed_ms = took.as_millis() as u64,
            "model woken"
        );
        self.parked = false;
        self.touch();
        Ok(())
    }

    /// That what is to be kept on the host finds room there; the kernel would end the process for it otherwise.
    fn check_space<P: Pipeline>(&self, pipeline: &P) -> Result<(), RequestError> {
        let Some(needed) = pipeline.parking_space() else {
            let message = "this model has nothing on a GPU that it could give up";
            return Err(RequestError::new(ErrorKind::Unsupported, message));
        };
        match (self.free)() {
            Some(free) if needed > free => {
                let message = format!(
                    "the weights that are to be parked take {needed} bytes of the host's memory, and {free} are free"
                );
                Err(RequestError::new(ErrorKind::OutOfMemory, message))
            }
            _ => Ok(()),
        }
    }

    /// It stays where it is, until somebody has used it again or asks once more.
    fn give_up(&mut self, error: &RequestError) {
        tracing::warn!(%error, "the model is not parked");
        self.idle = None;
        self.begun = None;
        let asked = self.asked.drain(..);
        asked.for_each(|reply| answer(reply, Err(error.clone())));
    }
}

/// Why ignored: whoever asked has left.
pub(super) fn answer(reply: Reply, how: Result<(), RequestError>) {
    let _ = reply.send(how);
}

/// A panic leaves nobody who knows where the weights are.
fn caught<T>(work: impl FnOnce() -> Result<T, StepError>) -> Result<T, StepError> {
    let fatal = |panic: Box<dyn Any + Send>| StepError::Fatal(panic_message(panic.as_ref()));
    catch_unwind(AssertUnwindSafe(work)).map_err(fatal)?
}
