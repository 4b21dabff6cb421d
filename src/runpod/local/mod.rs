//! RunPod without RunPod: one job from the command line, and the platform's client-side API on the worker's own port
//! (runpod.md 3 and 4), so that what is written for an endpoint can be tried against one process.

mod record;
mod routes;
mod run;
mod store;
mod submission;
mod test_input;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::work::Work;
use crate::engine::Engine;
use store::Store;

pub use test_input::{run_once, test_job};

/// Told when a job that names a webhook has ended.
pub type Hook = Arc<dyn Fn(Notice) + Send + Sync>;

/// What a webhook is to be told.
#[derive(Clone)] // Why no Debug: the body is somebody's output.
pub struct Notice {
    /// Where to, as the job named it; nobody has looked at it yet.
    pub url: String,
    /// The job as `/status` shows it.
    pub body: Value,
}

/// How the local API is set up.
pub struct LocalOptions {
    /// Jobs that run at once; further ones wait in the queue.
    pub concurrency: usize,
    /// Bytes that a request's body may have.
    pub body_limit: usize,
    /// Who delivers webhooks; without one, a job that names a webhook is refused.
    pub hook: Option<Hook>,
    /// Counts the jobs that wait in the queue.
    pub waiting: Arc<AtomicUsize>,
}

/// What the routes share.
struct Local {
    work: Arc<dyn Work>,
    /// Looked at so that no job begins before the model can serve it.
    engine: Engine,
    /// The worker's own routes, for the paths that the platform passes on.
    inner: Router,
    store: Store,
    slots: Semaphore,
    options: LocalOptions,
}

/// The routes of the local API: `/run`, `/runsync`, `/status/{id}`, `/stream/{id}`, `/cancel/{id}` and `/purge-queue`, each
/// also below `/v2/{endpoint}` as on the platform, where `/health` and `/openai/…` are too. `inner` are the worker's own
/// routes without keys: the caller guards these.
pub fn routes(work: Arc<dyn Work>, engine: Engine, inner: Router, options: LocalOptions) -> Router {
    let local = Local {
        work,
        engine,
        inner,
        store: Store::default(),
        slots: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
        options,
    };
    routes::of(Arc::new(local))
}
