//! The loop itself: from a model that loads to the last job's answer. What each step means is in the files beside it; here is
//! only their order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::capacity::{Capacity, Room};
use super::client::Client;
use super::drive::{drive, turn_away};
use super::environment::Environment;
use super::fitness::Unfit;
use super::hand::{Begun, Hand, Hold};
use super::handed::Handed;
use super::heartbeat::{Heart, report_unfit};
use super::outputs::Outputs;
use super::phase::{Phase, Phases};
use super::report::Reporter;
use super::shared::{Options, Shared};
use super::supervise::{NoModel, ready};
use super::take::Taker;
use super::{EnvironmentError, Work, stop};
use crate::engine::{ColdStart, Engine, Status};

/// Everything that the loop works with.
pub struct Setup {
    /// What the platform says.
    pub environment: Environment,
    /// Whose capacity is followed, and without which no job is taken.
    pub engine: Engine,
    /// Does the jobs.
    pub work: Arc<dyn Work>,
    /// Where large outputs go.
    pub outputs: Option<Arc<dyn Outputs>>,
    /// How the loop behaves.
    pub options: Options,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As asked. Clients of so many jobs could not even be told in time.
    Drained {
        /// How many.
        lost: usize,
    },
    /// A job has asked for a new worker, and all others are answered.
    Refresh,
    /// The model did not load, or its device is gone.
    Failed(String),
    /// The machine will not do.
    Unfit(Unfit),
}

/// How long to look away when others fill the engine, whose end is not told.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Results on their way, at most: a platform that hands out jobs and takes no results would fill the memory.
const UNANSWERED: usize = 1024;
const UNSENT_BYTES: u64 = 256 << 20;
/// For jobs to be answered after the engine has failed.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Takes jobs and answers them until `stop` resolves or nothing can be done any more. Every job that was taken is answered
/// before it returns, as far as the grace goes.
///
/// # Errors
/// When the platform cannot even be asked: its key or the HTTP client is at fault.
pub async fn run(setup: Setup, stop: impl Future<Output = ()>) -> Result<End, EnvironmentError> {
    let key = setup.environment.api_key.clone();
    // Beside the loading: reading the system's certificates takes milliseconds.
    let client = tokio::task::spawn_blocking(move || Client::new(key.as_ref())).await;
    let client = client.map_err(|error| EnvironmentError::Client(error.to_string()))??;
    let phases = Phases::default();
    let shared = Arc::new(Shared {
        reporter: Reporter {
            worker_id: setup.environment.worker_id.clone(),
            hostname: setup.environment.hostname.clone(),
        },
        client,
        environment: setup.environment,
        hand: Arc::default(),
        watched: phases.watch(),
        work: setup.work,
        outputs: setup.outputs,
        options: setup.options,
        refresh: tokio::sync::Notify::new(),
    });
    describe_metrics();
    tokio::pin!(stop);
    let end = serve(&shared, &setup.engine, &phases, stop).await;
    phases.reach(Phase::Over);
    let unfit = match &end {
        End::Failed(reason) => Some(Unfit {
            check: "model",
            reason: reason.clone(),
        }),
        End::Unfit(unfit) => Some(unfit.clone()),
        End::Drained { .. } | End::Refresh => None,
    };
    if let Some(unfit) = unfit {
        report_unfit(&shared.client, shared.environment.ping.as_ref(), &unfit).await;
    }
    Ok(end)
}

/// From the checks to the drain.
async fn serve(
    shared: &Arc<Shared>,
    engine: &Engine,
    phases: &Phases,
    mut stop: impl Future<Output = ()> + Unpin,
) -> End {
    let checks = &shared.environment.checks;
    if let Err(unfit) = checks.of_the_machine() {
        return End::Unfit(unfit);
    }
    let mut heart = Pulse::Checking;
    let network = checks.of_the_network();
    tokio::pin!(network);
    let (started, limit) = (shared.options.started, shared.environment.init_timeout);
    let loading = ready(engine, started, limit);
    tokio::pin!(loading);
    let cold_start = loop {
        tokio::select! {
            () = &mut stop => return End::Drained { lost: 0 },
            fit = &mut network, if heart.is_checking() => match fit {
                Ok(()) => heart = Pulse::Fit,
                Err(unfit) => return End::Unfit(unfit),
            },
            loaded = &mut loading => match loaded {
                Ok(cold_start) => break cold_start,
                Err(NoModel::Stopped) => return End::Drained { lost: 0 },
                Err(NoModel::Failed(reason)) => return End::Failed(reason),
            },
        }
    };
    tell_of(&cold_start);
    // The first take is what tells the platform that the worker is ready: it waits for the model and for nothing else.
    let taking = tokio::spawn(take_jobs(shared.clone(), capacity(shared, engine)));
    let stopping = listen_for_stops(shared);
    tell_what_is_missing(&shared.environment);
    let mut status = engine.watch();
    let (end, grace) = loop {
        if heart.is_fit() {
            heart = Pulse::Beats {
                _heart: beat(shared),
            };
        }
        tokio::select! {
            () = &mut stop => break (None, shared.options.drain_grace),
            () = shared.refresh.notified() => break (Some(End::Refresh), shared.options.drain_grace),
            fit = &mut network, if heart.is_checking() => match fit {
                Ok(()) => heart = Pulse::Fit,
                Err(unfit) => break (Some(End::Unfit(unfit)), shared.options.drain_grace),
            },
            now = status.wait_for(|now| !matches!(now, Status::Ready | Status::Loading(_))) => {
                match now.as_deref() {
                    Ok(Status::Failed(reason)) => break (Some(End::Failed(reason.clone())), AFTERMATH),
                    _ => break (None, shared.options.drain_grace),
                }
            }
        }
    };
    let lost = drain(shared, phases, taking, grace).await;
    if let Some(stopping) = stopping {
        stopping.abort();
    }
    drop(heart);
    end.unwrap_or(End::Drained { lost })
}

fn tell_of(cold_start: &ColdStart) {
    let total_ms = cold_start.total.as_millis() as u64;
    tracing::info!(total_ms, stages = %cold_start, "cold start done; taking jobs");
}

fn listen_for_stops(shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let address = shared.environment.stop.clone()?;
    let (client, shared) = (shared.client.clone(), shared.clone());
    Some(tokio::spawn(async move {
        let watched = shared.watched.clone();
        stop::listen(client, address, &shared.hand, watched).await;
    }))
}

/// The heartbeat's state.
enum Pulse {
    /// The network has not answered yet.
    Checking,
    /// It may begin as soon as jobs are taken.
    Fit,
    Beats {
        _heart: Option<Heart>,
    },
}

impl Pulse {
    fn is_checking(&self) -> bool {
        matches!(self, Self::Checking)
    }

    fn is_fit(&self) -> bool {
        matches!(self, Self::Fit)
    }
}

fn beat(shared: &Shared) -> Option<Heart> {
    Heart::start(&shared.environment, shared.hand.clone()).unwrap_or_else(|error| {
        tracing::error!(%error, "there is no heartbeat");
        None
    })
}

fn capacity(shared: &Shared, engine: &Engine) -> Capacity {
    Capacity {
        engine: engine.clone(),
        rows: shared.options.rows,
        prefetch: shared.options.prefetch,
    }
}

fn tell_what_is_missing(environment: &Environment) {
    if environment.stop.is_none() {
        tracing::warn!(
            "RUNPOD_WEBHOOK_GET_JOB has no /job-take/ in its path: jobs cannot be stopped or taken in batches"
        );
    }
    if environment.stream.is_none() {
        tracing::warn!(
            "RUNPOD_WEBHOOK_POST_STREAM is not set: streamed answers reach their clients at the end only"
        );
    }
    if environment.ping.is_none() {
        tracing::warn!(
            "no heartbeat: it needs RUNPOD_WEBHOOK_PING, RUNPOD_AI_API_KEY and RUNPOD_POD_ID"
        );
    }
}

/// Takes jobs as there is room for them, until the drain begins.
async fn take_jobs(shared: Arc<Shared>, capacity: Capacity) {
    let mut watched = shared.watched.clone();
    let mut taker = Taker::new(&shared.client, &shared.environment, shared.watched.clone());
    let hand = &shared.hand;
    while !watched.is(Phase::Draining) {
        let (unanswered, unsent) = hand.answering();
        let room = if unanswered >= UNANSWERED || unsent >= UNSENT_BYTES {
            Room::None
        } else {
            capacity.room(hand.working(), hand.usual())
        };
        let Room::For(wanted) = room else {
            let others = room == Room::TakenByOthers;
            tokio::select! {
                () = hand.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN), if others => {}
                () = watched.reached(Phase::Draining) => {}
            }
            continue;
        };
        let Some(jobs) = taker.take(wanted, !hand.is_empty()).await else {
            return;
        };
        for job in jobs {
            begin(&shared, job);
        }
    }
}

fn begin(shared: &Arc<Shared>, handed: Handed) {
    metrics::counter!("chandler_jobs_taken_total").increment(1);
    let task = |id: &str, job: Box<dyn FnOnce(Hold) -> JoinHandle<()> + '_>| match shared
        .hand
        .begin(id, |hold| job(hold).abort_handle())
    {
        Begun::Yes => {}
        Begun::Twice => tracing::warn!(
            request_id = id,
            "a job that is in hand was handed out again; it is done once"
        ),
        Begun::Stopped => tracing::info!(request_id = id, "a job was stopped before it came"),
    };
    match handed {
        Handed::Job(job) => {
            let id = job.id.clone();
            let span = tracing::info_span!("job", request_id = id);
            task(
                &id,
                Box::new(|hold| tokio::spawn(drive(shared.clone(), job, hold).instrument(span))),
            );
        }
        Handed::Broken { id, why } => {
            let span = tracing::info_span!("job", request_id = id);
            let named = id.clone();
            task(
                &named,
                Box::new(|hold| {
                    tokio::spawn(turn_away(shared.clone(), id, why, hold).instrument(span))
                }),
            );
        }
        Handed::Nameless(why) => {
            tracing::warn!(why, "the platform handed out something that is no job");
        }
    }
}

/// Lets the jobs in hand come to their end, gives up what cannot, and tells its clients. How many could not be told.
async fn drain(shared: &Shared, phases: &Phases, taking: JoinHandle<()>, grace: Duration) -> usize {
    let end = Instant::now() + grace;
    // The end of the grace is for telling those whose jobs are given up.
    let telling = (grace / 5).min(Duration::from_secs(3));
    phases.reach(Phase::Draining);
    tracing::info!(jobs = shared.hand.ids().len(), "no more jobs are taken");
    // First the taker: it may be holding a job that has just come.
    if timeout_at(end, taking).await.is_err() {
        tracing::warn!("an answer of job-take did not come to its end");
    }
    if timeout_at(end - telling, emptied(&shared.hand))
        .await
        .is_err()
    {
        let jobs = shared.hand.ids().len();
        tracing::warn!(
            jobs,
            "the grace is nearly over; what is not done is given up and its clients are told"
        );
        phases.reach(Phase::GivingUp);
        // Why ignored: whoever is left is counted next.
        let _ = timeout_at(end, emptied(&shared.hand)).await;
    }
    phases.reach(Phase::Over);
    let lost = shared.hand.abandon();
    if lost > 0 {
        metrics::counter!("chandler_jobs_total", "outcome" => "lost").increment(lost as u64);
        tracing::error!(
            lost,
            "the platform did not take the results of the last jobs"
        );
    }
    lost
}

async fn emptied(hand: &Hand) {
    while !hand.is_empty() {
        hand.changed().await;
    }
}

fn describe_metrics() {
    metrics::describe_counter!("chandler_jobs_taken_total", "Jobs taken from the platform");
    metrics::describe_counter!(
        "chandler_jobs_total",
        "Jobs by outcome: done, failed, stopped, lost"
    );
    metrics::describe_counter!(
        "chandler_job_takes_failed_total",
        "Times that no job could be asked for"
    );
    metrics::describe_counter!(
        "chandler_job_posts_retried_total",
        "Results and chunks that were posted again"
    );
    metrics::describe_counter!(
        "chandler_heartbeats_failed_total",
        "Heartbeats that did not arrive"
    );
}
