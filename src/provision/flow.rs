//! From a deployment to an endpoint that made a real prediction, the same way on every platform; and back, when it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::records::{Record, Records, State};
use super::{
    Access, Applied, Deployment, Event, Notice, Patience, Phase, Platform, Probed, ProvisionError,
    Say, Status, attempts, probe,
};
use crate::webhook::Courier;

/// An answer may be no prediction this often in a row before that is believed: gateways say strange things while they start.
const WRONGS: u32 = 3;
/// The first pause between two looks is this part of the longest; each is twice the one before.
const FIRST_POLL: u32 = 100;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Between two looks, once it has gone on for a while; the first follow each other faster, since a worker on this machine
    /// serves within milliseconds.
    pub poll: Duration,
    /// Without any machine, before the next hardware is tried.
    pub capacity: Duration,
    /// All pauses are multiplied by this: 1, and less in tests.
    pub pace: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(5),
            capacity: Duration::from_secs(180),
            pace: 1.0,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What applying came to.
    pub applied: Applied,
    /// How it is reached, when that is known.
    pub access: Option<Access>,
    /// How it is.
    pub status: Status,
    /// What it was given in the end.
    pub deployment: Deployment,
    /// From the first call to here.
    pub took: Duration,
    /// How long the prediction that proved it took.
    pub prediction: Option<Duration>,
}

/// One run.
pub struct Flow<'a> {
    /// Where.
    pub platform: &'a dyn Platform,
    /// Where it is written down.
    pub records: &'a Records,
    /// Where it is told, line by line.
    pub say: Say<'a>,
    /// How long things may take.
    pub times: Times,
    /// Whether to wait for a real prediction.
    pub wait: bool,
    /// Whether a failure leaves what was made.
    pub keep: bool,
    /// Who is told of the end.
    pub courier: Option<&'a Courier>,
}

impl Flow<'_> {
    /// Makes or changes an endpoint, waits until it serves, and takes it down again when it does not; `stop` ends it early.
    ///
    /// # Errors
    /// Why there is no endpoint. What could not be taken down again is in the records, and the error says so.
    pub async fn run(
        &self,
        wanted: &Deployment,
        stop: impl Future<Output = ()>,
    ) -> Result<Outcome, ProvisionError> {
        let began = Instant::now();
        let _lock = self.records.lock(&wanted.name)?;
        let before = self.before(wanted)?;
        let served = before.is_some_and(State::has_served);
        let begun = if served {
            State::Updating
        } else {
            State::Creating
        };
        self.records.begin(&self.record(wanted, begun)?)?;
        let made = tokio::select! {
            made = self.make(wanted) => made,
            () = stop => Err(ProvisionError::Interrupted),
        };
        match made {
            Ok(mut outcome) => {
                outcome.took = began.elapsed();
                self.succeeded(&outcome, begun)?;
                Ok(outcome)
            }
            Err(error) => Err(self.failed(wanted, before, error, began.elapsed()).await),
        }
    }

    /// How far it was before this run.
    fn before(&self, wanted: &Deployment) -> Result<Option<State>, ProvisionError> {
        match self.records.find(&wanted.name)? {
            Some(record) if record.platform != self.platform.id() => Err(ProvisionError::invalid(
                "name",
                wanted.name.as_str(),
                format!(
                    "an endpoint on {} has it; choose another --name, or `chandler endpoints delete {}` first",
                    record.platform, wanted.name
                ),
            )),
            record => Ok(record.map(|record| record.state)),
        }
    }

    fn record(&self, wanted: &Deployment, state: State) -> Result<Record, ProvisionError> {
        let deployment = serde_json::to_value(wanted).map_err(|error| ProvisionError::Local {
            purpose: "write the deployment down".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Record {
            name: wanted.name.clone(),
            platform: self.platform.id().to_owned(),
            options: self.platform.options(),
            deployment,
            state,
            url: None,
            error: None,
            created: 0,
            updated: 0,
        })
    }

    /// Tries one group of hardware after the other.
    async fn make(&self, wanted: &Deployment) -> Result<Outcome, ProvisionError> {
        let mut last = None;
        let mut created = false;
        for attempt in attempts(self.platform, wanted).await? {
            match self.attempt(&attempt, &mut created).await {
                Err(error) if error.is_capacity() => {
                    (self.say)(&format!("no capacity: {error}"));
                    last = Some(error);
                }
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| ProvisionError::Missing {
            platform: self.platform.id(),
            what: "hardware that the model fits".to_owned(),
            remedy: "`chandler plan` says what it takes".to_owned(),
        }))
    }

    async fn attempt(
        &self,
        wanted: &Deployment,
        created: &mut bool,
    ) -> Result<Outcome, ProvisionError> {
        let mut applied = self.platform.apply(wanted, self.say).await?;
        *created |= applied.created;
        applied.created = *created;
        let mut outcome = Outcome {
            applied,
            access: None,
            status: Status::of(Phase::Creating),
            deployment: wanted.clone(),
            took: Duration::ZERO,
            prediction: None,
        };
        if self.wait {
            let (access, prediction) = self.watch(wanted).await?;
            outcome.access = Some(access);
            outcome.prediction = Some(prediction);
        } else {
            // Not there yet on platforms that give an address late; `endpoints status` finds it.
            outcome.access = self.platform.url(&wanted.name).await.ok();
        }
        outcome.status = self.platform.status(&wanted.name).await?;
        Ok(outcome)
    }

    /// Until a real prediction succeeds.
    async fn watch(&self, wanted: &Deployment) -> Result<(Access, Duration), ProvisionError> {
        let end = Instant::now() + wanted.start_timeout;
        let mut watch = Watch::new(self, wanted);
        let mut wrongs = 0;
        let longest = self.times.poll.mul_f64(self.times.pace);
        let mut pause = longest / FIRST_POLL;
        loop {
            let status = watch.look().await?;
            if matches!(status.phase, Phase::Serving | Phase::Asleep) {
                let access = self.platform.url(&wanted.name).await?;
                let left = end.saturating_duration_since(Instant::now());
                match watch
                    .prove(&access, left.max(Duration::from_secs(1)))
                    .await?
                {
                    Probed::Good(took) => return Ok((access, took)),
                    Probed::NotYet(reason) => {
                        wrongs = 0;
                        tracing::debug!(reason, "no prediction yet");
                    }
                    Probed::Wrong(reason) => {
                        wrongs += 1;
                        // A strange answer is given time to pass.
                        pause = longest;
                        if wrongs >= WRONGS {
                            return Err(ProvisionError::WrongPrediction {
                                name: wanted.name.to_string(),
                                reason,
                            });
                        }
                    }
                }
            }
            if Instant::now() >= end {
                return Err(ProvisionError::NotReady {
                    name: wanted.name.to_string(),
                    seconds: wanted.start_timeout.as_secs(),
                    phase: status.phase,
                    reason: status.reason,
                });
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    fn succeeded(&self, outcome: &Outcome, begun: State) -> Result<(), ProvisionError> {
        let wanted = &outcome.deployment;
        let url = outcome.access.as_ref().map(|access| access.url.as_str());
        let state = match outcome.prediction {
            Some(_) => State::Ready,
            None => begun,
        };
        self.records.set(&wanted.name, state, url, None)?;
        if outcome.prediction.is_some() {
            let seconds = outcome.took.as_secs_f64();
            self.notify(Notice {
                url: url.map(str::to_owned),
                hardware: outcome.status.hardware.clone(),
                ..Notice::of(Event::Ready, self.platform.id(), wanted, seconds)
            });
        }
        Ok(())
    }

    /// Takes down what this run made, unless it is to be kept or served before.
    async fn failed(
        &self,
        wanted: &Deployment,
        before: Option<State>,
        error: ProvisionError,
        took: Duration,
    ) -> ProvisionError {
        let nothing_made = error.is_usage() || matches!(error, ProvisionError::Foreign { .. });
        let served = before.filter(|state| state.has_served());
        let removed = match (nothing_made, served, self.keep) {
            (true, ..) => Ok(before.is_none()),
            // It served before this run, and may still; what is wrong with the change is for its owner to mend.
            (_, Some(_), _) | (_, _, true) => Ok(false),
            _ => {
                // Now, and not at the end: taking down may take minutes.
                (self.say)(&format!("{error}; taking down what was made"));
                let removed = self.platform.delete(&wanted.name, self.say).await;
                removed.map(|_| true)
            }
        };
        let left = served.map_or(State::Failed, |_| State::Updating);
        self.note_failure(wanted, left, &error, &removed);
        if !nothing_made {
            self.notify(Notice {
                error: Some(error.to_string()),
                removed: Some(matches!(removed, Ok(true))),
                ..Notice::of(
                    Event::Failed,
                    self.platform.id(),
                    wanted,
                    took.as_secs_f64(),
                )
            });
        }
        match removed {
            Ok(_) => error,
            Err(left) => ProvisionError::Local {
                purpose: format!(
                    "take down what is left of `{0}`, which may cost money (run `chandler endpoints delete {0}`)",
                    wanted.name
                ),
                reason: left.to_string(),
            },
        }
    }

    /// Writes down how a run failed, and in which state it left what is there; nothing, where nothing is.
    fn note_failure(
        &self,
        wanted: &Deployment,
        state: State,
        error: &ProvisionError,
        removed: &Result<bool, ProvisionError>,
    ) {
        let (state, text) = match removed {
            Ok(true) => (None, String::new()),
            Ok(false) => (Some(state), error.to_string()),
            Err(left) => {
                let text = format!("{error}; it could not be taken down: {left}");
                (Some(State::Failed), text)
            }
        };
        let noted = match state {
            None => self.records.forget(&wanted.name),
            Some(state) => self.records.set(&wanted.name, state, None, Some(&text)),
        };
        if let Err(records) = noted {
            (self.say)(&format!("{records}"));
        }
    }

    fn notify(&self, notice: Notice) {
        if let Some(courier) = self.courier {
            courier.send_as(&notice.id, &notice);
        }
    }
}

/// Looks at one deployment again and again, and counts how long it has had no machine.
struct Watch<'a> {
    flow: &'a Flow<'a>,
    wanted: &'a Deployment,
    without: Option<Instant>,
    said: Option<Phase>,
}

impl<'a> Watch<'a> {
    fn new(flow: &'a Flow<'a>, wanted: &'a Deployment) -> Self {
        Self {
            flow,
            wanted,
            without: None,
            said: None,
        }
    }

    /// How it is; an error when it will not come to anything.
    async fn look(&mut self) -> Result<Status, ProvisionError> {
        let status = self.flow.platform.status(&self.wanted.name).await?;
        if self.said != Some(status.phase) {
            self.said = Some(status.phase);
            let reason = status.reason.as_ref();
            let reason = reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            (self.flow.say)(&format!("{}{reason}", status.phase));
        }
        match status.phase {
            Phase::Failed => Err(ProvisionError::Failed {
                name: self.wanted.name.to_string(),
                reason: status
                    .reason
                    .unwrap_or_else(|| "the platform does not say why".to_owned()),
            }),
            Phase::NoCapacity => {
                let since = *self.without.get_or_insert_with(Instant::now);
                let longest = self.flow.times.capacity.mul_f64(self.flow.times.pace);
                match since.elapsed() >= longest {
                    true => Err(ProvisionError::Capacity {
                        platform: self.flow.platform.id(),
                        hardware: self.wanted.hardware_names(),
                        message: status.reason.unwrap_or_else(|| {
                            format!("no machine came in {} s", longest.as_secs())
                        }),
                    }),
                    false => Ok(status),
                }
            }
            _ => {
                self.without = None;
                Ok(status)
            }
        }
    }

    /// One real prediction, while the platform is watched: a worker that is woken may find no machine.
    async fn prove(&mut self, access: &Access, time: Duration) -> Result<Probed, ProvisionError> {
        let patience = Patience {
            pace: self.flow.times.pace,
            ..Patience::default()
        };
        let stop = AtomicBool::new(false);
        let probing = probe(access, self.wanted.served.task, (patience, time), &stop);
        tokio::pin!(probing);
        loop {
            tokio::select! {
                probed = &mut probing => return probed,
                () = tokio::time::sleep(self.flow.times.poll.mul_f64(self.flow.times.pace)) => {}
            }
            if let Err(error) = self.look().await {
                stop.store(true, Ordering::Relaxed);
                // What it says no longer matters; that it takes back its job does.
                if let Err(left) = probing.await {
                    tracing::warn!(%left, "the queued prediction was not taken back");
                }
                return Err(error);
            }
        }
    }
}
