//! The side of the engine that front doors hold: submit, watch, drain. Everything here is async or cheap; the model's
//! thread is on the other side of a channel.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chandler_core::{
    Collected, ErrorKind, Event, Input, LoadError, ModelInfo, Pipeline, Prepare, Prepared,
    RequestError, RequestId, Ticket,
};
use tokio::sync::watch;

use super::mailbox::{Mailbox, Outbox};
use super::stats::{Counters, Stats, Timeline};
use super::status::{Loading, Stage, Status};
use super::worker::{self, Command, Job};

/// How an engine behaves under load.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Requests that may wait for a place in the batch; one more is told to come back later.
    pub queue: usize,
    /// How long a request waits for a model that is loading.
    pub load_wait: Duration,
    /// How long a reader may stay away before its request is cancelled.
    pub stall: Duration,
    /// How long a drain lets requests finish.
    pub drain_grace: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queue: 256,
            load_wait: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            drain_grace: Duration::from_secs(25),
        }
    }
}

/// A loaded (or loading) model's handle. Cheap to clone; the model ends when the last one is dropped.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What both sides see.
pub(super) struct Shared {
    pub(super) options: EngineOptions,
    pub(super) status: watch::Sender<Status>,
    pub(super) stats: Arc<Stats>,
    door: OnceLock<Arc<dyn Door>>,
    stop: Box<dyn Fn() + Send + Sync>,
}

/// The generic part behind the erased handle.
trait Door: Send + Sync {
    fn info(&self) -> ModelInfo;
    fn vocabulary(&self) -> Vec<String>;
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError>;
    /// Prepares all, then queues all. Blocking: called off the async threads.
    fn enqueue(
        &self,
        inputs: Vec<Input>,
        places: Vec<Place>,
    ) -> Result<Vec<Subscription>, (usize, RequestError)>;
}

/// What a reader tells the engine's thread.
pub(super) enum Signal {
    /// It has left.
    Cancel(RequestId),
    /// It has caught up.
    CaughtUp,
}

type Signals = Arc<dyn Fn(Signal) + Send + Sync>;

/// Reports how far loading is.
pub struct LoadProgress<'a>(&'a watch::Sender<Status>);

impl LoadProgress<'_> {
    /// A new stage has begun.
    pub fn stage(&self, stage: Stage) {
        self.0.send_modify(|status| {
            if let Status::Loading(loading) = status {
                loading.stage = stage;
            }
        });
    }

    /// Bytes of weights in memory, of all.
    pub fn bytes(&self, done: u64, total: u64) {
        self.0.send_modify(|status| {
            if let Status::Loading(loading) = status {
                (loading.done_bytes, loading.total_bytes) = (done, total);
            }
        });
    }
}

impl Engine {
    /// Starts the model's thread, which loads and then serves. Returns at once.
    pub fn start<P: Pipeline + 'static>(
        options: EngineOptions,
        load: impl FnOnce(&LoadProgress<'_>) -> Result<P, LoadError> + Send + 'static,
    ) -> Engine {
        let (sender, receiver) = std::sync::mpsc::channel::<Command<P::Prepared>>();
        let stopper = sender.clone();
        let shared = Arc::new(Shared {
            options,
            status: watch::Sender::new(Status::Loading(Loading::STARTING)),
            stats: Arc::default(),
            door: OnceLock::new(),
            // Why ignored: a thread that has ended needs no telling.
            stop: Box::new(move || drop(stopper.send(Command::Drain))),
        });
        let (status, stats) = (shared.status.clone(), shared.stats.clone());
        let options = shared.options.clone();
        let weak = Arc::downgrade(&shared);
        let open = move |preparer: Arc<dyn Prepare<Prepared = P::Prepared>>| {
            if let Some(shared) = weak.upgrade() {
                let signaller = sender.clone();
                let door = Gate {
                    preparer,
                    sender,
                    // Why ignored: a thread that has ended needs no signal.
                    signals: Arc::new(move |signal| drop(signaller.send(Command::Signal(signal)))),
                    stats: shared.stats.clone(),
                    next: AtomicU64::new(0),
                };
                // Why ignored: this closure runs once.
                let _ = shared.door.set(Arc::new(door));
            }
        };
        let main = move || {
            let progress = LoadProgress(&status);
            let ended = catch_unwind(AssertUnwindSafe(|| {
                worker::live(
                    load,
                    &progress,
                    open,
                    receiver,
                    worker::Surroundings {
                        options,
                        status: status.clone(),
                        stats,
                    },
                )
            }));
            let last = match ended {
                Ok(Ok(())) => Status::Stopped,
                Ok(Err(message)) => Status::Failed(message),
                Err(panic) => Status::Failed(worker::panic_message(panic.as_ref())),
            };
            if let Status::Failed(message) = &last {
                tracing::error!(error = %message, "the engine has ended");
            }
            status.send_replace(last);
        };
        let spawned = std::thread::Builder::new()
            .name("engine".into())
            .spawn(main);
        if let Err(error) = spawned {
            shared.status.send_replace(Status::Failed(format!(
                "the engine's thread did not start: {error}"
            )));
        }
        Engine { shared }
    }

    /// The state now.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// The state, and every change of it.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Facts about the model; `None` while it loads.
    pub fn info(&self) -> Option<ModelInfo> {
        self.shared.door.get().map(|door| door.info())
    }

    /// Token texts by id; `None` while it loads.
    pub fn vocabulary(&self) -> Option<Vec<String>> {
        self.shared.door.get().map(|door| door.vocabulary())
    }

    /// All counters at this moment.
    pub fn counters(&self) -> Counters {
        self.shared.stats.read()
    }

    /// Token ids of a text, without special tokens.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`], or that the model has no tokens.
    pub async fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        self.ready().await?.tokenize(text)
    }

    /// Queues one request. See [`Engine::submit_all`].
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when the queue is full, [`ErrorKind::NotReady`] while loading or draining, or the request's own.
    pub async fn submit(&self, input: Input) -> Result<Subscription, RequestError> {
        let mut all = self
            .submit_all(vec![input])
            .await
            .map_err(|(_, error)| error)?;
        all.pop()
            .ok_or_else(|| RequestError::internal("the engine returned no subscription"))
    }

    /// Waits for a loading model, prepares all requests off the engine's thread, and queues them; or queues none.
    ///
    /// # Errors
    /// The first failure, with the index of the request it is about.
    pub async fn submit_all(
        &self,
        inputs: Vec<Input>,
    ) -> Result<Vec<Subscription>, (usize, RequestError)> {
        let door = self.ready().await.map_err(|e| (0, e))?;
        let places = self.places(inputs.len()).map_err(|e| (0, e))?;
        let prepared = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| door.enqueue(inputs, places)))
        });
        match prepared.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err((
                0,
                RequestError::internal(worker::panic_message(panic.as_ref())),
            )),
            Err(join) => Err((
                0,
                RequestError::internal(format!("preparing was cut off: {join}")),
            )),
        }
    }

    /// Takes nothing new; what is here is finished within the grace. Returns at once.
    pub fn drain(&self) {
        self.shared.status.send_if_modified(|status| {
            let ready = matches!(status, Status::Ready);
            if ready {
                *status = Status::Draining;
            }
            ready
        });
        (self.shared.stop)();
    }

    /// Resolves when the engine's thread has ended.
    pub async fn stopped(&self) {
        // Why ignored: the sender lives in `shared`, which this handle holds.
        let _ = self.watch().wait_for(Status::is_final).await;
    }

    async fn ready(&self) -> Result<Arc<dyn Door>, RequestError> {
        let wait = self.shared.options.load_wait;
        let mut status = self.watch();
        // Why ignored: on a time-out the state as it is then is what is answered.
        let _ =
            tokio::time::timeout(wait, status.wait_for(|s| !matches!(s, Status::Loading(_)))).await;
        let status = self.status();
        match (&status, self.shared.door.get()) {
            (Status::Ready, Some(door)) => Ok(door.clone()),
            _ => Err(not_ready(&status)),
        }
    }

    fn places(&self, wanted: usize) -> Result<Vec<Place>, RequestError> {
        let (queued, limit) = (&self.shared.stats.queued, self.shared.options.queue);
        let before = queued.fetch_add(wanted, Ordering::AcqRel);
        let places = (0..wanted)
            .map(|_| Place(self.shared.stats.clone()))
            .collect();
        if before + wanted > limit {
            self.shared.stats.rejected();
            let message = format!(
                "the queue is full: {before} requests wait and {limit} may; try again later"
            );
            return Err(RequestError::new(ErrorKind::Busy, message)
                .with_retry_after(1 + before as u32 / 64));
        }
        Ok(places)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

fn not_ready(status: &Status) -> RequestError {
    let (message, retry_after) = match status {
        Status::Loading(loading) => (
            format!("the model is still loading: {}", loading.stage),
            Some(5),
        ),
        Status::Draining | Status::Stopped => ("the worker is stopping".to_owned(), Some(1)),
        Status::Failed(error) => (format!("the model cannot be served: {error}"), None),
        Status::Ready => ("the model is not open yet".to_owned(), Some(1)),
    };
    RequestError {
        retry_after,
        ..RequestError::new(ErrorKind::NotReady, message)
    }
}

/// A place in the queue, given back on drop.
pub(super) struct Place(Arc<Stats>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Gate<T> {
    preparer: Arc<dyn Prepare<Prepared = T>>,
    sender: Sender<Command<T>>,
    stats: Arc<Stats>,
    signals: Signals,
    next: AtomicU64,
}

impl<T: Prepared> Door for Gate<T> {
    fn info(&self) -> ModelInfo {
        self.preparer.info()
    }

    fn vocabulary(&self) -> Vec<String> {
        self.preparer.vocabulary()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        self.preparer.tokenize(text)
    }

    fn enqueue(
        &self,
        inputs: Vec<Input>,
        places: Vec<Place>,
    ) -> Result<Vec<Subscription>, (usize, RequestError)> {
        let mut prepared = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            prepared.push(self.preparer.prepare(input).map_err(|e| {
                self.stats.failed(Duration::ZERO);
                (index, e)
            })?);
        }
        let mut subscriptions = Vec::with_capacity(prepared.len());
        for (prepared, place) in prepared.into_iter().zip(places) {
            let ticket = Ticket::new(self.next.fetch_add(1, Ordering::Relaxed));
            let mailbox = Arc::new(Mailbox::default());
            subscriptions.push(Subscription {
                ticket: ticket.clone(),
                mailbox: mailbox.clone(),
                signals: self.signals.clone(),
            });
            let job = Job {
                ticket,
                prepared,
                outbox: Outbox::new(mailbox),
                timeline: Timeline::start(),
                place: Some(place),
                strikes: 0,
            };
            self.sender
                .send(Command::Submit(Box::new(job)))
                .map_err(|_| (0, not_ready(&Status::Stopped)))?;
        }
        Ok(subscriptions)
    }
}

/// The reader's end of a request. Dropping it cancels the request within one step.
pub struct Subscription {
    ticket: Ticket,
    mailbox: Arc<Mailbox>,
    signals: Signals,
}

impl Subscription {
    /// The next event; `None` after the terminal one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let (event, eased) = self.mailbox.take().await;
        if eased {
            (self.signals)(Signal::CaughtUp);
        }
        event
    }

    /// The whole answer.
    ///
    /// # Errors
    /// The request's own error.
    pub async fn collect(mut self) -> Result<Collected, RequestError> {
        let mut collected = Collected::default();
        while let Some(event) = self.next().await {
            if collected.add(event)? {
                return Ok(collected);
            }
        }
        Err(RequestError::internal(
            "the answer ended without its last event",
        ))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.mailbox.close() {
            self.ticket.cancelled.raise();
            (self.signals)(Signal::Cancel(self.ticket.id));
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.ticket.id)
            .finish_non_exhaustive()
    }
}
