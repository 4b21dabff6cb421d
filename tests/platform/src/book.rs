//! The book that the platform keeps: jobs, the queue, workers, and what workers did wrong. No waiting and no HTTP here:
//! every function is short, since one lock is around all of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::account::{Account, Latency, Violation};
use crate::job::{Job, Posted, Status};
use crate::random::Random;

pub struct Book {
    pub jobs: HashMap<Arc<str>, Job>,
    pub queue: VecDeque<Arc<str>>,
    pub workers: BTreeMap<Arc<str>, Worker>,
    pub account: Account,
    random: Random,
}

/// What the platform knows of a worker.
#[derive(Default)]
pub struct Worker {
    pub first_take: Option<SystemTime>,
    pub pings: u64,
    /// The query of the last ping.
    pub last_ping: String,
    pub stops: VecDeque<Arc<str>>,
    pub stops_changed: Arc<Notify>,
    pub running: usize,
}

/// What a worker's post came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Accepted, and the job has ended with it.
    Ended,
    BadBody,
    UnknownJob,
}

impl Verdict {
    pub fn status(self) -> u16 {
        match self {
            Self::Accepted | Self::Ended => 200,
            Self::BadBody => 400,
            Self::UnknownJob => 404,
        }
    }
}

/// Keys of a request that are the platform's own business; everything else goes to the worker.
const OWN_KEYS: [&str; 2] = ["policy", "webhookV2"];

impl Book {
    pub fn new(seed: u64) -> Self {
        Self {
            jobs: HashMap::new(),
            queue: VecDeque::new(),
            workers: BTreeMap::new(),
            account: Account::default(),
            random: Random::new(seed),
        }
    }

    /// Puts a request into the queue. The id has production's look: `…-u1`, and `sync-…` for a synchronous one.
    pub fn submit(&mut self, mut given: Map<String, Value>, synchronous: bool) -> Arc<str> {
        let uuid = self.random.uuid();
        let id: Arc<str> = if synchronous {
            format!("sync-{uuid}-e1").into()
        } else {
            format!("{uuid}-u1").into()
        };
        let timeout = given
            .get("policy")
            .and_then(|policy| policy["executionTimeout"].as_u64());
        for key in OWN_KEYS {
            given.remove(key);
        }
        given.insert("id".into(), (*id).into());
        let mut job = Job::new(Arc::clone(&id), Value::Object(given).to_string().into());
        job.execution_timeout = timeout;
        self.jobs.insert(Arc::clone(&id), job);
        self.queue.push_back(Arc::clone(&id));
        self.account.submitted += 1;
        id
    }

    /// A job that nobody gave: what comes back about it is no violation.
    pub fn invent(&mut self, id: &str, worker: &Arc<str>) {
        let id: Arc<str> = id.into();
        let mut job = Job::new(Arc::clone(&id), Bytes::new());
        job.is_malformed = true;
        job.status = Status::InProgress;
        job.worker = Some(Arc::clone(worker));
        self.jobs.insert(id, job);
    }

    pub fn worker(&mut self, id: &str) -> (Arc<str>, &mut Worker) {
        let key = match self.workers.get_key_value(id) {
            Some((key, _)) => Arc::clone(key),
            None => id.into(),
        };
        (Arc::clone(&key), self.workers.entry(key).or_default())
    }

    /// Up to `count` jobs go to the worker.
    pub fn take(&mut self, worker: &Arc<str>, count: usize) -> Vec<Arc<str>> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let Some(id) = self.queue.pop_front() else {
                break;
            };
            // Cancelled ones stay in the queue until somebody comes by.
            let Some(job) = self
                .jobs
                .get_mut(&id)
                .filter(|job| job.status == Status::InQueue)
            else {
                continue;
            };
            job.status = Status::InProgress;
            job.worker = Some(Arc::clone(worker));
            job.taken = Some(Instant::now());
            taken.push(id);
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.running += taken.len();
        }
        taken
    }

    /// The worker has never seen these: they go back to the queue's front.
    pub fn take_back(&mut self, ids: Vec<Arc<str>>) {
        for id in ids.into_iter().rev() {
            let Some(job) = self
                .jobs
                .get_mut(&id)
                .filter(|job| job.status == Status::InProgress)
            else {
                continue;
            };
            job.status = Status::InQueue;
            job.taken = None;
            let holder = job.worker.take();
            if let Some(worker) = holder.and_then(|w| self.workers.get_mut(&w)) {
                worker.running = worker.running.saturating_sub(1);
            }
            self.account.undelivered += 1;
            self.queue.push_front(id);
        }
    }

    /// A job-done: progress, or a result.
    pub fn post(&mut self, worker: &str, id: &str, body: Bytes, is_stream: bool) -> Verdict {
        let Ok(value) = serde_json::from_slice::<Map<String, Value>>(&body) else {
            let body = String::from_utf8_lossy(&body).into_owned();
            self.violate(Violation::BadBody {
                job: id.into(),
                body,
            });
            return Verdict::BadBody;
        };
        if !self.holds(worker, id) {
            return Verdict::UnknownJob;
        }
        let Some(job) = self.jobs.get_mut(id) else {
            return Verdict::UnknownJob;
        };
        if value.get("status").and_then(Value::as_str) == Some("IN_PROGRESS") {
            job.progress_posts += 1;
            if !job.results.is_empty() {
                self.violate(Violation::ProgressAfterResult { job: id.into() });
            } else {
                job.progress = value.get("output").cloned();
            }
            return Verdict::Accepted;
        }
        if let Some(same) = job.results.iter_mut().find(|posted| posted.body == body) {
            same.times += 1;
            self.account.repeats += 1;
            return Verdict::Accepted;
        }
        let posted = Posted {
            body,
            is_stream,
            times: 1,
        };
        if let Some(first) = job.results.first() {
            let text = |posted: &Posted| String::from_utf8_lossy(&posted.body).into_owned();
            let (first, second) = (text(first), text(&posted));
            job.results.push(posted);
            self.violate(Violation::TwoResults {
                job: id.into(),
                first,
                second,
            });
            return Verdict::Accepted;
        }
        job.results.push(posted);
        if value.get("stopPod") == Some(&Value::Bool(true)) {
            self.account.stop_pod += 1;
        }
        let status = if value.contains_key("error") {
            Status::Failed
        } else {
            Status::Completed
        };
        job.answer = value;
        if job.status.is_final() {
            self.account.late_results += 1;
            return Verdict::Accepted;
        }
        let counts = !job.is_malformed;
        self.end(id, status);
        if counts {
            Verdict::Ended
        } else {
            Verdict::Accepted
        }
    }

    /// A job-stream.
    pub fn chunk(&mut self, worker: &str, id: &str, body: &Bytes) -> Verdict {
        let parsed = serde_json::from_slice::<Map<String, Value>>(body).ok();
        let Some(chunk) = parsed.and_then(|mut map| map.shift_remove("output")) else {
            let body = String::from_utf8_lossy(body).into_owned();
            self.violate(Violation::BadBody {
                job: id.into(),
                body,
            });
            return Verdict::BadBody;
        };
        if !self.holds(worker, id) {
            return Verdict::UnknownJob;
        }
        let Some(job) = self.jobs.get_mut(id) else {
            return Verdict::UnknownJob;
        };
        if job.results.is_empty() {
            job.chunks.push(chunk);
            job.wake();
        } else {
            self.violate(Violation::ChunkAfterResult { job: id.into() });
        }
        Verdict::Accepted
    }

    /// Whether a worker may speak about a job; a violation when not.
    fn holds(&mut self, worker: &str, id: &str) -> bool {
        let job = self.jobs.get(id);
        let holds = job.is_some_and(|job| job.worker.as_deref() == Some(worker));
        if !holds {
            let (job, worker) = (id.into(), worker.into());
            self.violate(Violation::NotItsJob { job, worker });
        }
        holds
    }

    pub fn end(&mut self, id: &str, status: Status) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        let was = job.status;
        job.status = status;
        job.ended = Some(Instant::now());
        job.wake();
        let holder = job.worker.as_ref().filter(|_| was == Status::InProgress);
        if let Some(worker) = holder.and_then(|worker| self.workers.get_mut(worker)) {
            worker.running = worker.running.saturating_sub(1);
        }
        if job.is_malformed {
            return;
        }
        match status {
            Status::Completed => self.account.completed += 1,
            Status::Failed => self.account.failed += 1,
            Status::Cancelled => self.account.cancelled += 1,
            Status::TimedOut => self.account.timed_out += 1,
            Status::InQueue | Status::InProgress => {}
        }
    }

    /// Ends a job before its result has come, and tells its worker. `false` when there is nothing to end.
    pub fn stop(&mut self, id: &str, status: Status) -> bool {
        let Some(job) = self.jobs.get_mut(id).filter(|job| !job.status.is_final()) else {
            return false;
        };
        let holder = job
            .worker
            .clone()
            .filter(|_| job.status == Status::InProgress);
        let id = Arc::clone(&job.id);
        self.end(&id, status);
        if let Some(worker) = holder.and_then(|worker| self.workers.get_mut(&worker)) {
            worker.stops.push_back(id);
            worker.stops_changed.notify_one();
        }
        true
    }

    pub fn stops(&mut self, worker: &str) -> Vec<Arc<str>> {
        let (_, worker) = self.worker(worker);
        let ids: Vec<Arc<str>> = worker.stops.drain(..).collect();
        for id in &ids {
            if let Some(job) = self.jobs.get_mut(id) {
                job.stop_told = true;
            }
        }
        ids
    }

    /// Only what has failed is tried again, as production has it.
    pub fn retry(&mut self, id: &str) -> bool {
        let Some(job) = self.jobs.get_mut(id) else {
            return false;
        };
        let failed = match job.status {
            Status::Failed => &mut self.account.failed,
            Status::TimedOut => &mut self.account.timed_out,
            _ => return false,
        };
        *failed = failed.saturating_sub(1);
        let (key, wire) = (Arc::clone(&job.id), job.wire.clone());
        let fresh = Job {
            execution_timeout: job.execution_timeout,
            retries: job.retries + 1,
            ..Job::new(Arc::clone(&key), wire)
        };
        *job = fresh;
        self.queue.push_back(key);
        self.account.retried += 1;
        true
    }

    /// Empties the queue; says how many jobs that were.
    pub fn purge(&mut self) -> usize {
        let ids: Vec<Arc<str>> = self.queue.drain(..).collect();
        ids.iter()
            .filter(|id| self.stop(id, Status::Cancelled))
            .count()
    }

    pub fn violate(&mut self, violation: Violation) {
        self.account.violations.push(violation);
    }

    pub fn waiting(&self) -> u64 {
        let waits = |id: &&Arc<str>| {
            self.jobs
                .get(*id)
                .is_some_and(|job| job.status == Status::InQueue)
        };
        self.queue.iter().filter(waits).count() as u64
    }

    pub fn account(&self) -> Account {
        let real = || self.jobs.values().filter(|job| !job.is_malformed);
        let served = || real().filter(|job| !job.results.is_empty());
        let span = |from: fn(&Job) -> Option<Instant>| {
            let of = |job: &Job| Some(job.ended?.saturating_duration_since(from(job)?));
            Latency::of(served().filter_map(of).collect())
        };
        let first = served().filter_map(|job| job.taken).min();
        let last = served().filter_map(|job| job.ended).max();
        let busy = first
            .zip(last)
            .map(|(first, last)| last.saturating_duration_since(first));
        Account {
            in_queue: self.waiting(),
            in_progress: real()
                .filter(|job| job.status == Status::InProgress)
                .count() as u64,
            service: span(|job| job.taken),
            total: span(|job| Some(job.queued)),
            busy_seconds: busy.unwrap_or_default().as_secs_f64(),
            ..self.account.clone()
        }
    }

    /// Forgets every job that has ended, and all that was added up; workers stay.
    pub fn reset(&mut self) {
        self.jobs.retain(|_, job| !job.status.is_final());
        self.account = Account::default();
    }
}
