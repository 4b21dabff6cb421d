//! The side of the engine that front doors hold: submit, watch, drain. Everything here is async or cheap; the model's
//! thread is on the other side of a channel.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chandler_core::{ErrorKind, Input, LoadError, ModelInfo, Pipeline, RequestError};
use tokio::sync::{oneshot, watch};

use super::cold_start::{ColdStart, Stopwatch};
use super::gate::{Door, Place, Subscription};
use super::stats::{Counters, Stats};
use super::status::{Loading, Status};
use super::thread::{self, LoadProgress, Loaded};
use super::worker::panic_message;

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
    /// How long the model stays on its device without a request; for good when nobody says.
    pub park_after: Option<Duration>,
    /// Bytes of the host's memory that are free, where that is known.
    pub free_memory: fn() -> Option<u64>,
    /// When the process began; the engine's own start when nobody says.
    pub started: Option<Instant>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queue: 256,
            load_wait: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            drain_grace: Duration::from_secs(25),
            park_after: None,
            free_memory: || None,
            started: None,
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
    pub(super) stopwatch: Arc<Stopwatch>,
    pub(super) door: OnceLock<Arc<dyn Door>>,
}

impl Engine {
    /// Starts the model's thread, which loads and then serves. Returns at once.
    pub fn start<P: Pipeline + 'static>(
        options: EngineOptions,
        load: impl FnOnce(&LoadProgress<'_>) -> Result<P, LoadError> + Send + 'static,
    ) -> Engine {
        Self::launch(options, |progress| load(progress).map(Loaded::new))
    }

    /// As [`Engine::start`], for a loader that finds out what kind of model it is.
    pub fn launch(
        options: EngineOptions,
        load: impl FnOnce(&LoadProgress<'_>) -> Result<Loaded, LoadError> + Send + 'static,
    ) -> Engine {
        let shared = Arc::new(Shared {
            stopwatch: Arc::new(Stopwatch::new(options.started.unwrap_or_else(Instant::now))),
            options,
            status: watch::Sender::new(Status::Loading(Loading::STARTING)),
            stats: Arc::default(),
            door: OnceLock::new(),
        });
        thread::spawn(&shared, load);
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

    /// The cold start: what it took, or what it has taken so far.
    pub fn cold_start(&self) -> ColdStart {
        self.shared.stopwatch.record()
    }

    /// Facts about the model; `None` while it loads.
    pub fn info(&self) -> Option<ModelInfo> {
        self.shared.door.get().map(|door| door.info())
    }

    /// Token texts by id; `None` while it loads.
    pub async fn vocabulary(&self) -> Option<Vec<String>> {
        let door = self.shared.door.get()?.clone();
        tokio::task::spawn_blocking(move || door.vocabulary())
            .await
            .ok()
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
        let (door, text) = (self.ready().await?, text.to_owned());
        let tokens = tokio::task::spawn_blocking(move || door.tokenize(&text));
        tokens
            .await
            .map_err(|join| RequestError::internal(format!("tokenising was cut off: {join}")))?
    }

    /// Tokens that the model would read of an input.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`], or the input's own.
    pub async fn count_tokens(&self, input: Input) -> Result<u32, RequestError> {
        let door = self.ready().await?;
        let count = tokio::task::spawn_blocking(move || door.count_tokens(&input));
        count
            .await
            .map_err(|join| RequestError::internal(format!("counting was cut off: {join}")))?
    }

    /// Facts about the model, waited for while it loads.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`].
    pub async fn loaded(&self) -> Result<ModelInfo, RequestError> {
        Ok(self.ready().await?.info())
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
        // Places first: those who wait for a loading model count as queued, too.
        let places = self.places(inputs.len()).map_err(|e| (0, e))?;
        let door = self.ready().await.map_err(|e| (0, e))?;
        let prepared = tokio::task::spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| door.enqueue(inputs, places)))
        });
        match prepared.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err((0, RequestError::internal(panic_message(panic.as_ref())))),
            Err(join) => Err((
                0,
                RequestError::internal(format!("preparing was cut off: {join}")),
            )),
        }
    }

    /// Takes nothing new; what is here is finished within the grace. Returns at once.
    pub fn drain(&self) {
        self.shared.status.send_if_modified(|status| {
            let open = matches!(status, Status::Ready | Status::Loading(_));
            if open {
                *status = Status::Draining;
            }
            open
        });
        if let Some(door) = self.shared.door.get() {
            door.drain();
        }
    }

    /// Lets the model leave its device as soon as nothing runs, or brings it back; resolves when it has. A request brings it back, too.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`], [`ErrorKind::Unsupported`] of a model that has nothing on a device, [`ErrorKind::OutOfMemory`] when
    /// the host has no room for what is to be kept, or the device none for what is to come back.
    pub async fn park(&self, parked: bool) -> Result<(), RequestError> {
        let door = self.ready().await?;
        let (reply, answer) = oneshot::channel();
        door.park(parked, reply);
        match answer.await {
            Ok(how) => how,
            Err(_) => Err(not_ready(&Status::Stopped)),
        }
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

    /// Whether one more request would find a place in the queue, for a caller who has much to read before he submits it.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`].
    pub fn has_place(&self) -> Result<(), RequestError> {
        let queued = self.shared.stats.queued.load(Ordering::Acquire);
        match queued < self.shared.options.queue {
            true => Ok(()),
            false => Err(self.full(queued)),
        }
    }

    fn full(&self, queued: usize) -> RequestError {
        let limit = self.shared.options.queue;
        self.shared.stats.rejected();
        let message =
            format!("the queue is full: {queued} requests wait and {limit} may; try again later");
        RequestError::new(ErrorKind::Busy, message).with_retry_after(1 + queued as u32 / 64)
    }

    fn places(&self, wanted: usize) -> Result<Vec<Place>, RequestError> {
        let (queued, limit) = (&self.shared.stats.queued, self.shared.options.queue);
        if wanted > limit {
            let message =
                format!("{wanted} prompts in one request; this worker queues at most {limit}");
            return Err(RequestError::new(ErrorKind::TooLarge, message));
        }
        let before = queued.fetch_add(wanted, Ordering::AcqRel);
        let places = (0..wanted)
            .map(|_| Place(self.shared.stats.clone()))
            .collect();
        if before + wanted > limit {
            return Err(self.full(before));
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

pub(super) fn not_ready(status: &Status) -> RequestError {
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
