//! Threads that wait for the next kernel awake: a decode step is a hundred kernels of some 100 µs, and waking a sleeping
//! thread for each (rayon's fork and join takes 10 µs here) would be a tenth of it.
//! Apart from `parallel` because this is the part with lifetimes to be argued about.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, TryLockError};

/// How often a thread looks for the next job before it sleeps: some 60 µs, longer than the work between two kernels of a
/// step. Counted, since pipelines have no clock; a pause is about 140 cycles on processors since Skylake and 40 before.
const LOOKS: u32 = 1200;
/// In `members`: nobody may join the job any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Threads that were asked for.
static THREADS: OnceLock<usize> = OnceLock::new();

/// Sets how many threads take part, the caller's included. `false` when another number is settled already.
pub(crate) fn set_threads(threads: usize) -> bool {
    *THREADS.get_or_init(|| threads) == threads
}

/// What every member of the crew runs, once, at the same time.
type Job = *const (dyn Fn() + Sync);

/// The threads besides the caller's.
pub(super) struct Crew {
    /// Workers; the caller comes on top.
    workers: usize,
    /// Held by the one caller that the crew works for.
    caller: Mutex<()>,
    job: UnsafeCell<Option<Job>>,
    /// Goes up with every job.
    generation: AtomicUsize,
    /// Workers inside the job, and `CLOSED`.
    members: AtomicUsize,
    panicked: AtomicBool,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

// SAFETY: `job` is written only by the holder of `caller` while `members` is `CLOSED` and empty, and read only by workers
// that have joined after it was opened; the job itself is `Sync`.
unsafe impl Sync for Crew {}
// SAFETY: as above.
unsafe impl Send for Crew {}

impl Crew {
    /// The crew of this process: with the caller as many threads as were asked for, or as there are processors to run on.
    pub(super) fn get() -> &'static Self {
        static CREW: OnceLock<&'static Crew> = OnceLock::new();
        CREW.get_or_init(|| {
            let processors = || std::thread::available_parallelism().map_or(1, usize::from);
            Self::start(THREADS.get().copied().unwrap_or_else(processors).max(1) - 1)
        })
    }

    /// A crew that lives as long as the process.
    fn start(workers: usize) -> &'static Self {
        let crew: &'static mut Self = Box::leak(Box::new(Self {
            workers: 0,
            caller: Mutex::new(()),
            job: UnsafeCell::new(None),
            generation: AtomicUsize::new(0),
            members: AtomicUsize::new(CLOSED),
            panicked: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        }));
        crew.workers = workers;
        let crew: &'static Self = crew;
        for index in 0..workers {
            // A thread that cannot be had is work for the others.
            let _ = std::thread::Builder::new()
                .name(format!("kernel-{index}"))
                .spawn(|| crew.work());
        }
        crew
    }

    /// Threads, the caller's included.
    pub(super) fn threads(&self) -> usize {
        self.workers + 1
    }

    /// Runs `job` on this thread and on every worker that comes before this thread is done with it; the job divides its work
    /// among whoever runs it. When the crew works for somebody else, this thread does it alone.
    pub(super) fn run(&self, job: &(dyn Fn() + Sync)) {
        let _caller = match self.caller.try_lock() {
            Ok(guard) => guard,
            // An earlier caller's job panicked, after everyone had left it.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => {
                job();
                return;
            }
        };
        // SAFETY: the lifetime is erased, but this function does not return before the job is closed and every worker has
        // left it. Nobody reads `job` meanwhile: `members` is `CLOSED` and empty.
        unsafe {
            let job: Job = std::mem::transmute::<*const (dyn Fn() + Sync + '_), Job>(job);
            *self.job.get() = Some(job);
        }
        self.members.store(0, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        if *self.sleepers.lock().unwrap_or_else(PoisonError::into_inner) > 0 {
            self.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(job));
        self.members.fetch_or(CLOSED, Ordering::SeqCst);
        let mut looks = 0u32;
        while self.members.load(Ordering::SeqCst) != CLOSED {
            looks += 1;
            // A worker may have lost its processor in the middle of a task.
            if looks.is_multiple_of(1024) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        let others_panicked = self.panicked.swap(false, Ordering::SeqCst);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        if others_panicked {
            let panic: Box<dyn Any + Send> = Box::new("a kernel's thread panicked");
            resume_unwind(panic);
        }
    }

    fn work(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            let join = |members| (members & CLOSED == 0).then_some(members + 1);
            let joined = self
                .members
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, join);
            if joined.is_err() {
                continue;
            }
            // SAFETY: the job was written before `members` was opened, and its caller waits until we have left.
            let run = || unsafe {
                if let Some(job) = *self.job.get() {
                    (*job)();
                }
            };
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                self.panicked.store(true, Ordering::SeqCst);
            }
            self.members.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits for a generation other than `seen`: awake at first, then asleep.
    fn wait(&self, seen: usize) -> usize {
        for _ in 0..LOOKS {
            let now = self.generation.load(Ordering::SeqCst);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        *sleepers += 1;
        // The caller raises the generation before it takes this lock, so that no wake-up is missed.
        while self.generation.load(Ordering::SeqCst) == seen {
            sleepers = self
                .wake
                .wait(sleepers)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
        self.generation.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    /// Adds up 0..count among whoever comes.
    fn sum(crew: &Crew, count: u64) -> u64 {
        let (next, total) = (AtomicU64::new(0), AtomicU64::new(0));
        crew.run(&|| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                total.fetch_add(index, Ordering::Relaxed);
            }
        });
        total.into_inner()
    }

    #[test]
    fn every_task_of_every_job_runs_once_and_before_the_end() {
        let crew = Crew::start(3);
        for round in 0..20_000u64 {
            let count = round % 50;
            assert_eq!(sum(crew, count), count * count.saturating_sub(1) / 2);
            if round % 5000 == 0 {
                // Long enough that the workers sleep.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    #[test]
    fn several_callers_and_calls_within_calls_are_served() {
        let crew = Crew::start(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..2000).for_each(|_| assert_eq!(sum(crew, 30), 435)));
            }
        });
        let once = AtomicBool::new(false);
        crew.run(&|| {
            if !once.swap(true, Ordering::SeqCst) {
                assert_eq!(sum(crew, 30), 435);
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_crew_works_on() {
        let crew = Crew::start(2);
        for _ in 0..50 {
            let result = catch_unwind(AssertUnwindSafe(|| crew.run(&|| panic!("task"))));
            assert!(result.is_err());
            assert_eq!(sum(crew, 30), 435);
        }
    }
}
