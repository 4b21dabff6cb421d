//! The transfer as a whole: which file is opened next, how many ranges are under way, what follows when one is done. All of
//! it is state of one task; ranges, digests and disks work in tasks and threads of their own and report here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::active::{Active, Manner, Unwritten};
use super::digest::follow;
use super::fetch::{Failure, Fetch, Shared};
use super::gauge::{Gauge, Window};
use super::links::Links;
use super::queue::{Cut, Queue};
use super::{Job, Options, Stop, Whole, journal, journal_path};
use crate::weights::WeightsError;
use crate::weights::remote::{Digest, Source};

/// How often the number of requests is thought over.
const WINDOW: Duration = Duration::from_millis(250);

/// A file of the transfer.
struct File {
    job: Arc<Job>,
    links: Arc<Links>,
    active: Option<Arc<Active>>,
    tasks: Vec<AbortHandle>,
    manner: Manner,
    /// How often it was opened: what belongs to an earlier time does not count.
    time: u32,
    /// How often its digest was wrong.
    damaged: u32,
    changed: bool,
    /// Its digest is followed, or it is being handed over.
    ending: bool,
}

/// What tasks report.
enum Event {
    Opened(Result<Option<Active>, WeightsError>),
    Fetched(Result<(), Failure>),
    Digested(Result<Digest, Unwritten>),
    Whole(Result<(), WeightsError>),
}

/// Counts a range that is under way, however it ends.
struct Flight(Arc<AtomicUsize>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
pub(super) struct Run {
    shared: Arc<Shared>,
    whole: Whole,
    /// In the order in which they are fetched.
    files: Vec<File>,
    unopened: VecDeque<usize>,
    /// Bytes of files that are not opened.
    later: u64,
    /// Files that were opened and are not done.
    open: usize,
    left: usize,
    queue: Queue,
    tasks: JoinSet<(usize, u32, Event)>,
    flying: Arc<AtomicUsize>,
    gauge: Gauge,
    window: (Instant, u64),
}

impl Run {
    pub fn new(source: Arc<dyn Source>, jobs: Vec<Job>, options: &Options, whole: Whole) -> Self {
        // Why small ones first: configuration and tokenizer are wanted before the weights.
        let is_small = |job: &Job| job.file.size <= options.range_bytes;
        let (small, large): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(is_small);
        let files = small.into_iter().chain(large).map(|job| File {
            job: Arc::new(job),
            links: Arc::default(),
            active: None,
            tasks: Vec::new(),
            manner: Manner::default(),
            time: 0,
            damaged: 0,
            changed: false,
            ending: false,
        });
        let files: Vec<File> = files.collect();
        Self {
            shared: Arc::new(Shared::new(source, options.clone())),
            whole,
            later: files.iter().map(|file| file.job.file.size).sum(),
            left: files.len(),
            unopened: (0..files.len()).collect(),
            files,
            open: 0,
            queue: Queue::default(),
            tasks: JoinSet::new(),
            flying: Arc::default(),
            gauge: Gauge::new(options.first_connections, options.connections),
            window: (Instant::now(), 0),
        }
    }

    /// Until everything is done, or something goes wrong that waiting does not mend. What has come is kept.
    pub async fn finish(mut self, stop: &Stop) -> Result<(), WeightsError> {
        let result = self.work(stop).await;
        self.close();
        self.tasks.abort_all();
        // Whoever gets the answer may rely on it that no thread of ours looks at a file any more.
        while self.tasks.join_next().await.is_some() {}
        result
    }

    async fn work(&mut self, stop: &Stop) -> Result<(), WeightsError> {
        let mut windows = tokio::time::interval(WINDOW);
        windows.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if stop.is_set() {
                return Err(WeightsError::Stopped);
            }
            self.start_more();
            if self.left == 0 {
                return Ok(());
            }
            tokio::select! {
                () = stop.wait() => return Err(WeightsError::Stopped),
                Some(done) = self.tasks.join_next() => self.learn(done)?,
                _ = windows.tick() => self.measure(),
            }
        }
    }

    /// Opens files and sends requests, as far as there are places.
    fn start_more(&mut self) {
        let requests = self.gauge.requests();
        let most = self.shared.options.range_bytes;
        // Files are opened before their turn, so that no place is idle while an old journal is checked.
        while self.open < 2 * requests + 8
            && self.queue.ranges(most) < 2 * requests as u64
            && let Some(index) = self.unopened.pop_front()
        {
            self.open_file(index);
        }
        while self.flying.load(Ordering::Relaxed) < requests {
            let cut = Cut {
                most,
                requests,
                later: self.later,
            };
            let files = &self.files;
            let Some((index, range)) = self.queue.next(cut, &|file| files[file].manner.whole)
            else {
                return;
            };
            let file = &mut self.files[index];
            let Some(active) = file.active.clone() else {
                continue;
            };
            let fetch = Fetch {
                shared: self.shared.clone(),
                links: file.links.clone(),
                active,
                range,
            };
            self.flying.fetch_add(1, Ordering::Relaxed);
            let flight = Flight(self.flying.clone());
            let time = file.time;
            file.tasks.push(self.tasks.spawn(async move {
                let done = fetch.run().await;
                drop(flight);
                (index, time, Event::Fetched(done))
            }));
        }
    }

    fn open_file(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.time += 1;
        file.ending = false;
        self.open += 1;
        self.later = self.later.saturating_sub(file.job.file.size);
        let (job, manner, time) = (file.job.clone(), file.manner, file.time);
        let shared = self.shared.clone();
        self.tasks.spawn_blocking(move || {
            let over = || shared.over.load(Ordering::Relaxed);
            (
                index,
                time,
                Event::Opened(Active::open(&job, manner, &over)),
            )
        });
    }

    fn learn(&mut self, done: Result<(usize, u32, Event), JoinError>) -> Result<(), WeightsError> {
        let (index, time, event) = match done {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(error) => {
                return Err(WeightsError::Malformed {
                    place: self.shared.source.name(),
                    reason: format!("a task of the transfer has failed: {error}"),
                });
            }
        };
        if time != self.files[index].time {
            return Ok(());
        }
        match event {
            Event::Opened(opened) => self.opened(index, opened?),
            Event::Fetched(Ok(())) => self.end_if_complete(index),
            Event::Fetched(Err(failure)) => self.failed(index, failure)?,
            Event::Digested(Ok(digest)) => self.digested(index, digest)?,
            Event::Digested(Err(Unwritten::Disk(error))) => return Err(error),
            // Only this task closes files, and what it has closed is of another time.
            Event::Digested(Err(Unwritten::Closed)) => {}
            Event::Whole(handed_over) => {
                handed_over?;
                self.files[index].active = None;
                self.files[index].tasks = Vec::new();
                self.open -= 1;
                self.left -= 1;
            }
        }
        Ok(())
    }

    fn opened(&mut self, index: usize, active: Option<Active>) {
        // None: the transfer is over.
        let Some(active) = active.map(Arc::new) else {
            return;
        };
        self.queue.push(index, active.missing());
        let file = &mut self.files[index];
        file.active = Some(active);
        if file.job.file.size > self.shared.options.range_bytes {
            // Long files are digested while they arrive, on a thread each.
            self.start_digest(index);
        }
        self.end_if_complete(index);
    }

    fn end_if_complete(&mut self, index: usize) {
        let Some(active) = &self.files[index].active else {
            return;
        };
        if !self.files[index].ending && active.is_complete() && !self.start_digest(index) {
            self.hand_over(index);
        }
    }

    /// Whether there is a digest to be made.
    fn start_digest(&mut self, index: usize) -> bool {
        let file = &mut self.files[index];
        let (Some(expected), Some(active)) = (file.job.file.digest, file.active.clone()) else {
            return false;
        };
        file.ending = true;
        let time = file.time;
        self.tasks.spawn_blocking(move || {
            let digest = follow(&active, expected);
            (index, time, Event::Digested(digest))
        });
        true
    }

    fn digested(&mut self, index: usize, digest: Digest) -> Result<(), WeightsError> {
        let file = &mut self.files[index];
        let Some(expected) = file.job.file.digest else {
            return Ok(());
        };
        if digest == expected {
            self.hand_over(index);
            return Ok(());
        }
        file.damaged += 1;
        if let Some(active) = &file.active {
            active.forget()?;
        }
        let path = &file.job.file.path;
        if file.changed {
            return Err(self.changed(index));
        }
        if file.damaged >= self.shared.options.fetches {
            return Err(WeightsError::Corrupt {
                place: self.shared.source.name(),
                file: path.clone(),
                times: file.damaged,
                reason: format!("its digest is {digest} instead of {expected}"),
            });
        }
        tracing::warn!(file = %path, %digest, %expected, "a file arrived damaged and is fetched anew");
        self.again(index);
        Ok(())
    }

    fn failed(&mut self, index: usize, failure: Failure) -> Result<(), WeightsError> {
        let file = &mut self.files[index];
        let path = &file.job.file.path;
        match failure {
            Failure::Closed => {}
            Failure::Told(error) => return Err(error),
            Failure::NoRanges => {
                tracing::debug!(file = %path, "the server answers no ranges: the file is fetched in one");
                file.manner.whole = true;
                self.again(index);
            }
            Failure::Changed(how) => {
                tracing::warn!(file = %path, how, "a file has changed while it was fetched");
                if file.changed {
                    return Err(self.changed(index));
                }
                file.changed = true;
                // Without a digest, nothing but the mark tells one version from another.
                file.manner.unmarked = file.job.file.digest.is_some();
                if let Some(active) = &file.active {
                    active.forget()?;
                }
                self.again(index);
            }
        }
        Ok(())
    }

    fn changed(&self, index: usize) -> WeightsError {
        WeightsError::Changed {
            place: self.shared.source.name(),
            file: self.files[index].job.file.path.clone(),
        }
    }

    /// Opens a file once more, with what the journal says is there.
    fn again(&mut self, index: usize) {
        self.queue.remove(index);
        let file = &mut self.files[index];
        for task in file.tasks.drain(..) {
            task.abort();
        }
        if let Some(active) = file.active.take() {
            active.close();
        }
        self.open -= 1;
        self.later = self.later.saturating_add(file.job.file.size);
        self.open_file(index);
    }

    /// The file is right: closes it, hands it over, and removes its journal.
    fn hand_over(&mut self, index: usize) {
        let file = &mut self.files[index];
        let Some(active) = file.active.clone() else {
            return;
        };
        file.ending = true;
        let (time, whole) = (file.time, self.whole.clone());
        self.tasks.spawn_blocking(move || {
            let done = hand_over(&active, &whole);
            (index, time, Event::Whole(done))
        });
    }

    fn measure(&mut self) {
        let (since, before) = self.window;
        let received = self.shared.received.load(Ordering::Relaxed);
        self.gauge.learn(Window {
            bytes: received - before,
            time: since.elapsed(),
            full: self.flying.load(Ordering::Relaxed) >= self.gauge.requests(),
            complaints: self.shared.complaints.swap(0, Ordering::Relaxed),
        });
        self.window = (Instant::now(), received);
    }

    fn close(&self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for file in &self.files {
            if let Some(active) = &file.active {
                active.close();
            }
        }
    }
}

impl Drop for Run {
    /// The future was dropped: from here on nothing is written, though a task or two may not know it yet.
    fn drop(&mut self) {
        self.close();
    }
}

fn hand_over(active: &Active, whole: &Whole) -> Result<(), WeightsError> {
    let job = &active.job;
    match active.check_size() {
        Ok(()) => {}
        Err(Unwritten::Disk(error)) => return Err(error),
        Err(Unwritten::Closed) => return Err(WeightsError::Stopped),
    }
    if job.file.digest.is_none() {
        // There is nothing more to be checked than what has been.
        job.progress.verify(job.file.size);
    }
    active.close();
    whole(job)?;
    // Why last: killed before, the next run finds everything there, and hands it over once more.
    let path = journal_path(&job.partial);
    journal::remove(&path).map_err(WeightsError::disk(&path))
}
