//! When requests are sent: so many at a time, each when the one before it has ended (a closed loop), or so many a second whatever
//! has become of those before (an open one). In the open one a request's time runs from when it was due, so that one which had to
//! wait for its turn counts as the slow one that its client would have had.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};

use super::ask::{Asker, stopped};
use super::figures::Figures;
use super::outcome::{Failure, Success};

/// Outcomes on their way to be counted.
const ROOM: usize = 1024;

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Requests under way at once, at most.
    pub concurrency: usize,
    /// Requests that are begun a second; as soon as there is room, where not given.
    pub rate: Option<f64>,
    /// How many in all; without a bound where not given.
    pub requests: Option<u64>,
    /// For how long new ones are begun; without a bound where not given.
    pub time: Option<Duration>,
}

/// How far a run is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that have ended.
    pub done: AtomicU64,
    /// Those of them that failed.
    pub failed: AtomicU64,
    peak: AtomicU64,
}

type Outcome = Result<Success, Failure>;

/// Runs to the end of the plan, or until `stop` holds true; what is under way then is given up and not counted.
pub async fn run(
    asker: &Arc<Asker>,
    plan: Plan,
    tally: &Arc<Tally>,
    stop: &watch::Receiver<bool>,
) -> Figures {
    let (outcomes, mut ended) = mpsc::channel(ROOM);
    let began = Instant::now();
    let loop_of = Loop {
        asker: asker.clone(),
        plan,
        tally: tally.clone(),
        began,
        outcomes,
    };
    match plan.rate {
        None => loop_of.closed(stop),
        Some(rate) => {
            tokio::spawn(loop_of.open(rate, stop.clone()));
        }
    }
    let mut figures = Figures::default();
    while let Some(outcome) = ended.recv().await {
        tally.done.fetch_add(1, Ordering::Relaxed);
        if Outcome::is_err(&outcome) {
            tally.failed.fetch_add(1, Ordering::Relaxed);
        }
        figures.wall = began.elapsed();
        figures.add(outcome);
    }
    figures.peak = tally.peak.load(Ordering::Relaxed);
    figures.interrupted = *stop.borrow();
    figures
}

#[derive(Clone)]
struct Loop {
    asker: Arc<Asker>,
    plan: Plan,
    tally: Arc<Tally>,
    began: Instant,
    outcomes: mpsc::Sender<Outcome>,
}

impl Loop {
    /// Whether one more may begin.
    fn goes_on(&self, number: u64, due: Instant) -> bool {
        let is_one_more = self.plan.requests.is_none_or(|most| number < most);
        let is_in_time = self
            .plan
            .time
            .is_none_or(|time| due.duration_since(self.began) < time);
        is_one_more && is_in_time
    }

    /// Sends what came of one request; `false` when it was given up, or nobody counts any more.
    async fn one(&self, number: u64, due: Instant, stop: &mut watch::Receiver<bool>) -> bool {
        match self.asker.ask(number, due, stop).await {
            Some(outcome) => self.outcomes.send(outcome).await.is_ok(),
            None => false,
        }
    }

    fn closed(self, stop: &watch::Receiver<bool>) {
        let next = Arc::new(AtomicU64::new(0));
        for _ in 0..self.plan.concurrency {
            let (client, next, mut stop) = (self.clone(), next.clone(), stop.clone());
            tokio::spawn(async move {
                loop {
                    let (number, due) = (next.fetch_add(1, Ordering::Relaxed), Instant::now());
                    let goes_on = client.goes_on(number, due) && !*stop.borrow();
                    if !goes_on || !client.one(number, due, &mut stop).await {
                        return;
                    }
                }
            });
        }
    }

    async fn open(self, rate: f64, mut stop: watch::Receiver<bool>) {
        let gate = Arc::new(Semaphore::new(self.plan.concurrency));
        for number in 0u64.. {
            let due = self.began + Duration::from_secs_f64(number as f64 / rate);
            if !self.goes_on(number, due) {
                return;
            }
            let turn = async {
                tokio::time::sleep_until(due.into()).await;
                gate.clone().acquire_owned().await
            };
            let permit = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                turn = turn => turn,
            };
            let Ok(permit) = permit else { return };
            let under_way = self
                .plan
                .concurrency
                .saturating_sub(gate.available_permits());
            self.tally
                .peak
                .fetch_max(under_way as u64, Ordering::Relaxed);
            let (client, mut stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                // Why ignored: the others go on, and whoever wants the end tells each of them.
                let _ = client.one(number, due, &mut stop).await;
                drop(permit);
            });
        }
    }
}
