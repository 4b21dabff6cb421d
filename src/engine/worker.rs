//! The loop of the engine's thread: it owns the pipeline, and goes round receive, admit, step, deliver.
//! Nothing here waits for a client.

mod stalled;

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::gate::{Place, Signal};
use super::handle::EngineOptions;
use super::mailbox::{Delivery, Outbox};
use super::parking::{Parking, Reply};
use super::recovery::{Recovery, Verdict};
use super::stats::{Stats, Timeline};
use chandler_core::{
    Activity, Admission, ErrorKind, Event, Events, Pipeline, Prepared, RequestError, RequestId,
    Step, StepError, Ticket,
};
use stalled::Stalled;

/// What the handle sends.
pub(super) enum Command<T> {
    Submit(Box<Job<T>>),
    Signal(Signal),
    /// The model is to leave its device when nothing runs.
    Park(Reply),
    /// It is to come back.
    Wake(Reply),
    Drain,
}

/// A request on its way to the batch, or back from it.
pub(super) struct Job<T> {
    pub(super) ticket: Ticket,
    pub(super) prepared: T,
    pub(super) outbox: Outbox,
    pub(super) timeline: Timeline,
    /// Its place in the queue, until it is first admitted.
    pub(super) place: Option<Place>,
    /// Failed batches it was part of.
    pub(super) strikes: u8,
}

/// What a request leaves here while the pipeline holds it.
struct Running {
    ticket: Ticket,
    outbox: Outbox,
    timeline: Timeline,
    strikes: u8,
}

/// What the thread is given besides the model.
pub(super) struct Surroundings {
    pub(super) options: EngineOptions,
    pub(super) stats: Arc<Stats>,
}

/// The loop and all that it looks after.
pub(super) struct Worker<P: Pipeline> {
    pipeline: P,
    commands: Receiver<Command<P::Prepared>>,
    around: Surroundings,
    queue: VecDeque<Job<P::Prepared>>,
    running: BTreeMap<RequestId, Running>,
    stalled: Vec<Stalled<P::Prepared>>,
    recovery: Recovery<P::Prepared>,
    parking: Parking,
    /// When the drain's grace ends.
    draining: Option<Instant>,
    /// Every handle is gone.
    orphaned: bool,
}

impl<P: Pipeline> Worker<P> {
    pub(super) fn new(
        pipeline: P,
        commands: Receiver<Command<P::Prepared>>,
        around: Surroundings,
    ) -> Self {
        Self {
            parking: Parking::new(&around.options, &pipeline),
            pipeline,
            commands,
            around,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            stalled: Vec::new(),
            recovery: Recovery::default(),
            draining: None,
            orphaned: false,
        }
    }

    /// Serves until a drain is over. An error is one that ends the engine.
    pub(super) fn serve(&mut self) -> Result<(), String> {
        let mut waiting = false;
        loop {
            self.receive(waiting);
            self.expire_stalled();
            self.resume_stalled();
            if self.is_over() {
                return Ok(());
            }
            self.rest_or_wake()?;
            self.admit();
            waiting = match self.step() {
                Ok(step) if step.activity == Activity::Worked => {
                    self.parking.touch();
                    false
                }
                Ok(_) => true,
                Err(StepError::Fatal(message)) => return Err(self.give_up(&message)),
                Err(error) => {
                    self.recover(error)?;
                    false
                }
            };
            self.around.stats.occupied(self.pipeline.occupancy());
        }
    }

    /// Lets go of everything but the pipeline, which is left as it is: what it has on a device that is gone cannot be given back, and
    /// libraries panic where they are refused that.
    pub(super) fn abandon(self) {
        std::mem::forget(self.pipeline);
    }

    /// Takes what was sent; blocks only when there is nothing to do.
    fn receive(&mut self, waiting: bool) {
        let busy = !self.queue.is_empty() && self.running.is_empty() || self.recovery.is_active();
        if waiting && !busy {
            let alarm = match (self.stalled.is_empty(), self.draining) {
                (true, None) => Duration::from_secs(3600),
                _ => Duration::from_millis(50),
            };
            let due = self.parking.alarm().filter(|_| self.held() == 0);
            let alarm = due.map_or(alarm, |due| due.min(alarm));
            match self.commands.recv_timeout(alarm) {
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.orphan(),
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => return self.orphan(),
            }
        }
    }

    fn obey(&mut self, command: Command<P::Prepared>) {
        match command {
            Command::Submit(job) => self.queue.push_back(*job),
            Command::Signal(Signal::Cancel(id)) => self.forget(id),
            Command::Signal(Signal::CaughtUp) => {}
            Command::Park(reply) => self.parking.ask(reply),
            Command::Wake(reply) => self.parking.call(reply),
            Command::Drain => {
                let grace = self.around.options.drain_grace;
                self.draining.get_or_insert_with(|| Instant::now() + grace);
            }
        }
    }

    fn orphan(&mut self) {
        self.orphaned = true;
        self.draining.get_or_insert_with(Instant::now);
    }

    /// The caller has left: wherever the request is, it goes.
    fn forget(&mut self, id: RequestId) {
        let timeline = if let Some(running) = self.running.remove(&id) {
            self.pipeline.cancel(id);
            if self.running.is_empty() {
                self.recovery.trial_over();
            }
            Some(running.timeline)
        } else {
            self.take_waiting(|job| job.ticket.id == id)
                .pop()
                .map(|job| job.timeline)
        };
        if let Some(timeline) = timeline {
            self.around.stats.cancelled(timeline.elapsed());
        }
    }

    /// Takes jobs out of every place where they wait.
    fn take_waiting(&mut self, gone: impl Fn(&Job<P::Prepared>) -> bool) -> Vec<Job<P::Prepared>> {
        let mut taken = self.recovery.take_where(&gone);
        let (out, keep): (Vec<_>, Vec<_>) = self.queue.drain(..).partition(&gone);
        self.queue = keep.into();
        taken.extend(out);
        let (out, keep): (Vec<_>, Vec<_>) = self.stalled.drain(..).partition(|p| gone(&p.job));
        self.stalled = keep;
        taken.extend(out.into_iter().map(|p| p.job));
        taken
    }

    /// Requests in every place.
    fn held(&self) -> usize {
        self.queue.len() + self.running.len() + self.stalled.len() + self.recovery.held()
    }

    /// With nothing here the model may leave its device; with something it comes back, or everybody hears why not.
    fn rest_or_wake(&mut self) -> Result<(), String> {
        if self.held() == 0 {
            // Who is about to end gives everything up anyway.
            return match self.draining {
                None => self
                    .parking
                    .rest(&mut self.pipeline, &self.around.stats)
                    .map_err(|message| self.give_up(&message)),
                Some(_) => Ok(()),
            };
        }
        self.parking.touch();
        match self.parking.wake(&mut self.pipeline, &self.around.stats) {
            Ok(()) => Ok(()),
            Err(StepError::Fatal(message)) => Err(self.give_up(&message)),
            Err(error) => {
                self.fail_everything(&error.into_request_error());
                Ok(())
            }
        }
    }

    /// Whether a drain has ended, by finishing or by its grace.
    fn is_over(&mut self) -> bool {
        let Some(deadline) = self.draining else {
            return false;
        };
        let held = self.held();
        if held > 0 && Instant::now() < deadline {
            return false;
        }
        if held > 0 && !self.orphaned {
            tracing::warn!(
                requests = held,
                "the grace has ended; what still runs is answered with an error"
            );
        }
        let error =
            RequestError::new(ErrorKind::NotReady, "the worker is stopping").with_retry_after(1);
        self.fail_everything(&error);
        true
    }

    fn fail_everything(&mut self, error: &RequestError) {
        for (id, running) in std::mem::take(&mut self.running) {
            self.pipeline.cancel(id);
            self.post_failure(&running.outbox, &running.timeline, error.clone());
        }
        for job in self.take_waiting(|_| true) {
            self.post_failure(&job.outbox, &job.timeline, error.clone());
        }
    }

    fn give_up(&mut self, message: &str) -> String {
        let error = RequestError::internal(format!("the device is lost: {message}"));
        self.fail_everything(&error);
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Submit(job) = command {
                self.post_failure(&job.outbox, &job.timeline, error.clone());
            }
        }
        format!("the device is lost: {message}")
    }

    fn post_failure(&self, outbox: &Outbox, timeline: &Timeline, error: RequestError) {
        self.around.stats.failed(timeline.elapsed());
        // Why ignored: nobody reads, nobody is told.
        let _ = outbox.post(Event::Failed(error));
    }

    /// Fills the batch: suspects alone, everyone else in order of arrival.
    fn admit(&mut self) {
        if self.recovery.is_active() {
            if self.running.is_empty()
                && let Some(job) = self.recovery.next_suspect()
                && let Some(back) = self.offer(job)
            {
                self.recovery.put_back(back);
            }
            return;
        }
        for job in self.recovery.rejoining().into_iter().rev() {
            self.queue.push_front(job);
        }
        while let Some(job) = self.queue.pop_front() {
            let running = self.pipeline.occupancy().rows;
            if !self.recovery.allows(running, job.prepared.cost().rows) {
                self.queue.push_front(job);
                return;
            }
            if let Some(back) = self.offer(job) {
                self.queue.push_front(back);
                return;
            }
        }
    }

    /// Offers a job to the pipeline; it comes back when there is no room.
    fn offer(&mut self, job: Job<P::Prepared>) -> Option<Job<P::Prepared>> {
        let Job {
            ticket,
            prepared,
            outbox,
            mut timeline,
            place,
            strikes,
        } = job;
        match self.pipeline.admit(ticket.clone(), prepared) {
            Admission::Taken => {
                timeline.admitted();
                // Counted as running before it is no longer counted as waiting.
                self.around.stats.occupied(self.pipeline.occupancy());
                drop(place);
                self.running.insert(
                    ticket.id,
                    Running {
                        ticket,
                        outbox,
                        timeline,
                        strikes,
                    },
                );
                None
            }
            Admission::Full(prepared) if self.running.is_empty() => {
                drop(prepared);
                let message = "the request does not fit this worker even when it runs alone";
                self.post_failure(
                    &outbox,
                    &timeline,
                    RequestError::new(ErrorKind::OutOfMemory, message),
                );
                self.recovery.trial_over();
                None
            }
            Admission::Full(prepared) => Some(Job {
                ticket,
                prepared,
                outbox,
                timeline,
                place,
                strikes,
            }),
            Admission::Refused(error) => {
                self.post_failure(&outbox, &timeline, error);
                self.recovery.trial_over();
                None
            }
        }
    }

    /// One step of the pipeline, its events delivered. A panic in it is a failed batch.
    fn step(&mut self) -> Result<Step, StepError> {
        let mut events = Events::default();
        let stepped = catch_unwind(AssertUnwindSafe(|| self.pipeline.step(&mut events)));
        self.around.stats.occupied(self.pipeline.occupancy());
        self.around.stats.tallied(self.pipeline.tally());
        // Also of a step that failed: what a request has said before the failure is part of where it stands.
        self.deliver_all(&mut events);
        let step = match stepped {
            Ok(result) => result?,
            Err(panic) => return Err(StepError::Batch(panic_message(panic.as_ref()))),
        };
        if step.activity == Activity::Worked {
            self.around.stats.stepped(step);
            self.judge();
        }
        Ok(step)
    }

    fn deliver_all(&mut self, events: &mut Events) {
        let mut stalled = Vec::new();
        for (id, event) in events.drain() {
            if self.deliver(id, event) == Some(Delivery::Stalled) {
                stalled.push(id);
            }
        }
        for id in stalled {
            self.stall(id);
        }
    }

    fn deliver(&mut self, id: RequestId, event: Event) -> Option<Delivery> {
        let running = self.running.get_mut(&id)?;
        if matches!(event, Event::Text(_) | Event::Segment(_)) {
            running.timeline.text_arrived();
        }
        let ending = match &event {
            Event::Done(usage) => Some(Ok(*usage)),
            Event::Failed(_) => Some(Err(())),
            _ => None,
        };
        // Counted before it is posted: who has read the end finds it counted.
        let took = running.timeline.elapsed();
        match ending {
            Some(Ok(usage)) => self.around.stats.completed(usage, took),
            Some(Err(())) => self.around.stats.failed(took),
            None => {}
        }
        let delivery = running.outbox.post(event);
        if ending.is_some() {
            self.running.remove(&id);
            if self.running.is_empty() {
                self.recovery.trial_over();
            }
        }
        Some(delivery)
    }

    /// After a good step: is the suspect that runs alone believed?
    fn judge(&mut self) {
        let strikes = self.running.values().map(|r| r.strikes).max().unwrap_or(0);
        if self.recovery.stepped(strikes) == Verdict::Release
            && let Some(id) = self.running.keys().next().copied()
            && let Some(job) = self.take_out(id)
        {
            self.recovery.clear(job);
        }
    }

    /// Takes a running request out of the pipeline, to go on later where it stands.
    fn take_out(&mut self, id: RequestId) -> Option<Job<P::Prepared>> {
        let Running {
            ticket,
            outbox,
            timeline,
            strikes,
        } = self.running.remove(&id)?;
        let Some(prepared) = self.pipeline.suspend(id) else {
            let lost = RequestError::internal("the request was lost between two steps");
            self.post_failure(&outbox, &timeline, lost);
            return None;
        };
        Some(Job {
            ticket,
            prepared,
            outbox,
            timeline,
            place: None,
            strikes,
        })
    }

    /// The batch failed. Alone, the request gets the error; in company, all are tried alone.
    fn recover(&mut self, error: StepError) -> Result<(), String> {
        let members: Vec<RequestId> = self.running.keys().copied().collect();
        let rows = self.pipeline.occupancy().rows;
        tracing::warn!(%error, requests = members.len(), rows, "a batch failed");
        let mut jobs: Vec<_> = members
            .into_iter()
            .filter_map(|id| self.take_out(id))
            .collect();
        let reset = catch_unwind(AssertUnwindSafe(|| self.pipeline.reset()));
        if let Some(message) = match reset {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic_message(panic.as_ref())),
        } {
            self.recovery.suspect(jobs);
            return Err(self.give_up(&message));
        }
        if matches!(error, StepError::OutOfMemory(_)) {
            self.recovery.out_of_memory(rows);
        }
        if jobs.len() > 1 {
            jobs.iter().for_each(|_| self.around.stats.retried());
            self.recovery.suspect(jobs);
        } else if let Some(job) = jobs.pop() {
            self.post_failure(&job.outbox, &job.timeline, error.into_request_error());
            self.recovery.trial_over();
        }
        Ok(())
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "a panic: {}",
        said.as_deref().unwrap_or("without a message")
    )
}
