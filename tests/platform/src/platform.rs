//! The platform as a whole: what every connection shares, and the handle that a test holds.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::account::Account;
use crate::book::Book;
use crate::environment;
use crate::faults::{Fault, Faults, Rates};
use crate::job::{Job, Snapshot, Status};
use crate::options::Options;
use crate::route::Kind;
use crate::server;
use crate::wire_log::{Entry, WireLog};

pub struct State {
    pub options: Options,
    pub base: String,
    pub hold_ms: AtomicU64,
    /// Wakes one take poll.
    pub queued: Notify,
    pub log: Option<WireLog>,
    book: Mutex<Book>,
    faults: Mutex<Faults>,
    ended: watch::Sender<u64>,
}

impl State {
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms.load(Ordering::Relaxed))
    }

    /// Tells whoever counts ended jobs.
    pub fn one_ended(&self) {
        self.ended.send_modify(|count| *count += 1);
    }

    pub fn submit(self: &Arc<Self>, given: Map<String, Value>, synchronous: bool) -> Arc<str> {
        let ttl = given
            .get("policy")
            .and_then(|policy| policy["ttl"].as_u64());
        let id = self.book().submit(given, synchronous);
        self.queued.notify_one();
        if let Some(ttl) = ttl {
            let (state, id) = (Arc::clone(self), Arc::clone(&id));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ttl)).await;
                state.stop(&id, Status::TimedOut);
                state.book().jobs.remove(&id);
            });
        }
        id
    }

    pub fn stop(&self, id: &str, status: Status) -> bool {
        let stopped = self.book().stop(id, status);
        if stopped {
            self.one_ended();
        }
        stopped
    }

    /// Looks at a job whenever it changes, until `look` has seen enough or the time is over.
    pub async fn follow<T>(
        &self,
        id: &str,
        limit: Duration,
        mut look: impl FnMut(&mut Job) -> Option<T>,
    ) -> Option<T> {
        let deadline = tokio::time::Instant::now() + limit;
        let changed = {
            let mut book = self.book();
            let changed = &mut book.jobs.get_mut(id)?.changed;
            Arc::clone(changed.get_or_insert_default())
        };
        loop {
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(seen) = look(self.book().jobs.get_mut(id)?) {
                return Some(seen);
            }
            tokio::time::timeout_at(deadline, notified).await.ok()?;
        }
    }

    pub fn account(&self) -> Account {
        let faults = self.faults().injected.clone();
        Account {
            faults,
            ..self.book().account()
        }
    }

    /// Waits until so many jobs have ended since the start.
    pub async fn wait_ended(&self, count: u64, limit: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        let enough = ended.wait_for(|ended| *ended >= count);
        tokio::time::timeout(limit, enough)
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    pub fn ended(&self) -> u64 {
        *self.ended.borrow()
    }

    pub fn workers(&self) -> BTreeMap<String, WorkerSeen> {
        let book = self.book();
        let seen = book.workers.iter().map(|(id, worker)| {
            let seen = WorkerSeen {
                first_take: worker.first_take,
                pings: worker.pings,
                last_ping: worker.last_ping.clone(),
                running: worker.running,
            };
            (id.to_string(), seen)
        });
        seen.collect()
    }
}

/// What the platform has seen of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSeen {
    /// When it polled for jobs first.
    pub first_take: Option<SystemTime>,
    /// How often it pinged.
    pub pings: u64,
    /// The last ping's query.
    pub last_ping: String,
    /// Jobs that it has.
    pub running: usize,
}

/// A running platform; it ends when this is dropped.
pub struct Platform {
    state: Arc<State>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Platform {
    /// Starts listening on loopback.
    ///
    /// # Errors
    /// When the port is taken, or the log file cannot be made.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            base: format!("http://{address}"),
            hold_ms: AtomicU64::new(options.hold.as_millis() as u64),
            queued: Notify::new(),
            log: WireLog::new(&options)?,
            book: Mutex::new(Book::new(options.seed)),
            faults: Mutex::new(Faults::new(options.seed)),
            ended: watch::Sender::new(0),
            options,
        });
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&state)));
        Ok(Self {
            state,
            address,
            serving,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The client's base: `http://…/v2/{endpoint}`.
    pub fn url(&self) -> String {
        format!("{}/v2/{}", self.state.base, self.state.options.endpoint)
    }

    /// The variables that a worker of this name needs.
    pub fn environment(&self, worker: &str) -> Vec<(String, String)> {
        environment::of_worker(&self.state.options, &self.state.base, worker)
    }

    /// Puts a job into the queue; `input` is the job's input.
    pub fn submit(&self, input: Value) -> String {
        self.submit_with(input, Map::new())
    }

    /// The same with further keys beside `input`: `policy`, `webhook`, `s3Config`, …
    pub fn submit_with(&self, input: Value, mut more: Map<String, Value>) -> String {
        more.insert("input".into(), input);
        self.state.submit(more, false).to_string()
    }

    /// Cancels a job, as a client would. `false` when it has ended, or is not known.
    pub fn cancel(&self, id: &str) -> bool {
        self.state.stop(id, Status::Cancelled)
    }

    /// The next messages of a kind meet these faults, one each.
    pub fn script(&self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults().script(kind, faults);
    }

    /// Sets how often which fault happens.
    pub fn break_at(&self, rates: Rates) {
        self.state.faults().set(rates);
    }

    /// Sets how long polls are held.
    pub fn hold_for(&self, hold: Duration) {
        self.state
            .hold_ms
            .store(hold.as_millis() as u64, Ordering::Relaxed);
    }

    /// A job, if it is known.
    pub fn job(&self, id: &str) -> Option<Snapshot> {
        self.state.book().jobs.get(id).map(Job::snapshot)
    }

    /// Every job that a client gave, in no order.
    pub fn jobs(&self) -> Vec<Snapshot> {
        let book = self.state.book();
        let real = book.jobs.values().filter(|job| !job.is_malformed);
        real.map(Job::snapshot).collect()
    }

    /// Waits for a job's end; `None` when it does not come in time.
    pub async fn ended(&self, id: &str, limit: Duration) -> Option<Snapshot> {
        let look = |job: &mut Job| job.status.is_final().then(|| job.snapshot());
        self.state.follow(id, limit, look).await
    }

    /// Waits until so many jobs have ended since the start; `false` when they do not in time.
    pub async fn wait_ended(&self, count: u64, limit: Duration) -> bool {
        self.state.wait_ended(count, limit).await
    }

    /// Waits until a worker has taken a job.
    pub async fn taken(&self, id: &str, limit: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < deadline {
            let status = self.state.book().jobs.get(id).map(|job| job.status);
            if status != Some(Status::InQueue) {
                return status.is_some();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    }

    /// Everything added up.
    pub fn account(&self) -> Account {
        self.state.account()
    }

    /// What was seen of each worker.
    pub fn workers(&self) -> BTreeMap<String, WorkerSeen> {
        self.state.workers()
    }

    /// Every wire message so far, if they are kept.
    pub fn wire(&self) -> Vec<Entry> {
        self.state
            .log
            .as_ref()
            .map(WireLog::kept)
            .unwrap_or_default()
    }

    /// Health as the client's side shows it.
    pub fn health(&self) -> Value {
        health(&self.state)
    }
}

pub fn health(state: &State) -> Value {
    let book = state.book();
    let account = &book.account;
    let running = book
        .workers
        .values()
        .filter(|worker| worker.running > 0)
        .count();
    let in_progress: usize = book.workers.values().map(|worker| worker.running).sum();
    let ready = book
        .workers
        .values()
        .filter(|worker| worker.first_take.is_some())
        .count();
    json!({
        "jobs": {
            "completed": account.completed,
            "failed": account.failed,
            "inProgress": in_progress,
            "inQueue": book.waiting(),
            "retried": account.retried,
        },
        "workers": {
            "idle": ready - running.min(ready),
            "initializing": book.workers.len() - ready,
            "ready": ready,
            "running": running,
            "throttled": 0,
            "unhealthy": 0,
        },
    })
}
