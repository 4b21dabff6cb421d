//! The model's thread from its first instant to its last: load, warm up, open the door, serve, and say how it ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};

use chandler_core::{Activity, Admission, Event, Events, LoadError, Pipeline, Ticket};
use tokio::sync::watch;

use super::cold_start::Stopwatch;
use super::gate::Gate;
use super::handle::Shared;
use super::status::{Download, Loading, Stage, Status};
use super::worker::{Surroundings, Worker, panic_message};

/// Reports how far loading is.
pub struct LoadProgress<'a> {
    status: &'a watch::Sender<Status>,
    stopwatch: &'a Stopwatch,
}

impl LoadProgress<'_> {
    /// A new stage has begun.
    pub fn stage(&self, stage: Stage) {
        self.stopwatch.enter(stage);
        self.tell(|loading| loading.stage = stage);
    }

    /// Bytes of weights in memory, of all.
    pub fn bytes(&self, done: u64, total: u64) {
        self.stopwatch.read(done);
        self.tell(|loading| (loading.done_bytes, loading.total_bytes) = (done, total));
    }

    /// How far the download is.
    pub fn download(&self, download: Download) {
        self.stopwatch.fetched(download.received_bytes);
        self.tell(|loading| loading.download = download);
    }

    /// The stage that runs.
    pub(super) fn now(&self) -> Option<Stage> {
        match &*self.status.borrow() {
            Status::Loading(loading) => Some(loading.stage),
            _ => None,
        }
    }

    /// Whether somebody has asked for the end meanwhile.
    pub fn stopped(&self) -> bool {
        !matches!(*self.status.borrow(), Status::Loading(_))
    }

    /// Whoever watches is woken only by news.
    fn tell(&self, change: impl FnOnce(&mut Loading)) {
        self.status.send_if_modified(|status| {
            let Status::Loading(loading) = status else {
                return false;
            };
            let before = *loading;
            change(loading);
            *loading != before
        });
    }
}

/// A model of any kind, ready to be driven.
pub struct Loaded {
    serve: Serve,
    /// What must last as long as the model.
    kept: Vec<Box<dyn Any + Send>>,
}

/// Serves until the end; an error is one that ends the engine.
type Serve = Box<dyn FnOnce(&Host) -> Result<(), String>>;

impl Loaded {
    /// Hides what kind of pipeline it is.
    pub fn new<P: Pipeline + 'static>(pipeline: P) -> Self {
        Self {
            serve: Box::new(move |host| host.serve(pipeline)),
            kept: Vec::new(),
        }
    }

    /// Keeps something until the model is gone: its files, which nobody may remove meanwhile.
    pub fn keeping(mut self, what: impl Any + Send) -> Self {
        self.kept.push(Box::new(what));
        self
    }
}

/// What the thread has besides the model. The handle is held weakly: the model ends when the last handle is dropped.
struct Host {
    shared: Weak<Shared>,
    status: watch::Sender<Status>,
    stopwatch: Arc<Stopwatch>,
}

/// What ended an engine before its time.
enum Ended {
    Loading(LoadError),
    Serving(String),
}

/// Starts the thread.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    load: impl FnOnce(&LoadProgress<'_>) -> Result<Loaded, LoadError> + Send + 'static,
) {
    let host = Host {
        shared: Arc::downgrade(shared),
        status: shared.status.clone(),
        stopwatch: shared.stopwatch.clone(),
    };
    let main = move || {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let loaded = load(&host.progress()).map_err(Ended::Loading)?;
            let Loaded { serve, kept } = loaded;
            let served = serve(&host).map_err(Ended::Serving);
            drop(kept);
            served
        }));
        let last = match ended {
            Ok(Ok(())) => Status::Stopped,
            // Somebody has asked for the end while the model was loading, and that is what it came to.
            Ok(Err(Ended::Loading(error))) if *host.status.borrow() == Status::Draining => {
                tracing::info!(reason = %error, "loading was given up");
                Status::Stopped
            }
            Ok(Err(Ended::Loading(error))) => Status::Failed(error.to_string()),
            Ok(Err(Ended::Serving(message))) => Status::Failed(message),
            Err(panic) => Status::Failed(panic_message(panic.as_ref())),
        };
        if let Status::Failed(message) = &last {
            tracing::error!(error = %message, "the engine has ended");
        }
        host.stopwatch.stop();
        let failed = matches!(last, Status::Failed(_));
        host.status.send_replace(last);
        drop(host);
        // Whoever was told of the failure ends the process. Until then the thread stays: values of its own that libraries have here, as
        // candle has a handle of cuDNN, would panic at its end where the device is gone, and that aborts the process.
        if failed {
            loop {
                std::thread::park();
            }
        }
    };
    let spawned = std::thread::Builder::new()
        .name("engine".into())
        .spawn(main);
    if let Err(error) = spawned {
        let message = format!("the engine's thread did not start: {error}");
        shared.status.send_replace(Status::Failed(message));
    }
}

impl Host {
    fn progress(&self) -> LoadProgress<'_> {
        LoadProgress {
            status: &self.status,
            stopwatch: &self.stopwatch,
        }
    }

    /// Warms up, opens the door, and serves until the end. An error is one that ends the engine.
    fn serve<P: Pipeline + 'static>(&self, mut pipeline: P) -> Result<(), String> {
        self.progress().stage(Stage::WarmingUp);
        if let Err(error) = warm_up(&mut pipeline) {
            std::mem::forget(pipeline); // as `Worker::abandon` has it
            return Err(format!("the first pass failed: {error}"));
        }
        let (sender, commands) = channel();
        let preparer = pipeline.preparer();
        let around = {
            let Some(shared) = self.shared.upgrade() else {
                return Ok(());
            };
            shared.stats.holds(pipeline.footprint());
            shared.stats.occupied(pipeline.occupancy());
            let gate = Gate::new(preparer.clone(), sender, shared.stats.clone());
            // Why ignored: this runs once per engine.
            let _ = shared.door.set(Arc::new(gate));
            Surroundings {
                options: shared.options.clone(),
                stats: shared.stats.clone(),
            }
        };
        self.stopwatch.stop(); // before anybody can ask what the start took
        let opened = self.status.send_if_modified(|status| {
            let loading = matches!(status, Status::Loading(_));
            if loading {
                *status = Status::Ready;
            }
            loading
        });
        if !opened {
            return Ok(()); // A drain was asked for while the model was loading.
        }
        let cache = preparer.info().cache.unwrap_or_default();
        let cold_start = self.stopwatch.record();
        tracing::info!(
            elapsed_ms = cold_start.total.as_millis() as u64,
            stages = %cold_start,
            fetched_bytes = cold_start.fetched_bytes,
            weights_bytes = cold_start.weights_bytes,
            cache_bytes = cache.bytes,
            cache_blocks = cache.blocks,
            cache_tokens = cache.tokens,
            "model loaded"
        );
        let mut worker = Worker::new(pipeline, commands, around);
        let served = worker.serve();
        if served.is_err() {
            worker.abandon();
        }
        served
    }
}

/// Runs the model's own sample request, so that the first user does not pay for first times: in batches of the sizes that the
/// pipeline names.
fn warm_up<P: Pipeline>(pipeline: &mut P) -> Result<(), String> {
    for size in pipeline.warm_up_batches() {
        warm_up_batch(pipeline, size)?;
    }
    Ok(())
}

fn warm_up_batch<P: Pipeline>(pipeline: &mut P, size: usize) -> Result<(), String> {
    let preparer = pipeline.preparer();
    for number in 0..size as u64 {
        let prepared = preparer
            .prepare(preparer.warm_up())
            .map_err(|e| e.to_string())?;
        match pipeline.admit(Ticket::new(u64::MAX - number), prepared) {
            Admission::Taken => {}
            // A batch of this size does not fit, and no user's will.
            Admission::Full(_) => break,
            Admission::Refused(error) => return Err(error.to_string()),
        }
    }
    let mut events = Events::default();
    while pipeline
        .step(&mut events)
        .map_err(|e| e.to_string())?
        .activity
        == Activity::Worked
    {
        for (_, event) in events.drain() {
            if let Event::Failed(error) = event {
                return Err(error.to_string());
            }
        }
    }
    Ok(())
}
