//! This program itself, as a background process of this machine: no account, no container, no cost. A process is known by a
//! lock that it holds as long as it lives, so that no other process is ever taken for it.

mod folder;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::folder::{Folder, Worker};
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say, only_one};
use super::{
    Access, Deployment, Name, Patience, Phase, Price, ProvisionError, Status, Step, Workers,
};

const ID: &str = "process";
/// How many workers a deployment has here.
const ONE: &str = "one process serves a deployment on this machine; leave it at 1";
/// How long a worker may take to finish its requests before it is killed.
const GRACE: Duration = Duration::from_secs(40);
/// Between two looks at a process or a file.
const LOOK: Duration = Duration::from_millis(100);

/// What a worker on this machine is made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Where workers leave their logs and locks.
    pub folder: PathBuf,
    /// The program that is started: this one.
    pub program: PathBuf,
    /// The address that it listens at.
    pub host: String,
    /// The port; a free one when none is given.
    pub port: Option<u16>,
}

/// This machine.
pub struct Process {
    options: Options,
    patience: Patience,
    /// Variables of this process that the worker must not inherit: those that are about this run.
    own: Vec<OsString>,
    client: reqwest::Client,
}

impl Process {
    /// This machine, with these options; a worker inherits no variable of `own`.
    pub fn new(options: Options, patience: Patience, own: Vec<OsString>) -> Self {
        Self {
            options,
            patience,
            own,
            client: reqwest::Client::new(),
        }
    }

    fn folder(&self, name: &Name) -> Folder {
        Folder::of(&self.options.folder, name)
    }

    /// What stands in the way of a deployment on this machine.
    fn check(wanted: &Deployment) -> Result<(), ProvisionError> {
        only_one(ID, (wanted.scaling.min, wanted.scaling.max), ONE)
    }

    fn worker(&self, wanted: &Deployment, port: u16) -> Worker {
        Worker {
            name: wanted.name.clone(),
            owner: wanted.owner.clone(),
            host: self.options.host.clone(),
            port,
            environment: wanted.environment(),
            secrets: wanted.secrets.names().map(str::to_owned).collect(),
        }
    }

    /// What differs between the worker that runs and the one that is wanted.
    fn changes(&self, wanted: &Deployment, there: &Worker) -> Vec<Change> {
        let port = self.options.port.unwrap_or(there.port);
        let should = self.worker(wanted, port);
        let mut changes = Vec::new();
        let mut differ = |field: String, from: &str, to: &str| {
            if from != to {
                changes.push(Change {
                    field,
                    from: from.to_owned(),
                    to: to.to_owned(),
                });
            }
        };
        differ("host".to_owned(), &there.host, &should.host);
        differ(
            "port".to_owned(),
            &there.port.to_string(),
            &should.port.to_string(),
        );
        differ(
            "secrets".to_owned(),
            &there.secrets.join(" "),
            &should.secrets.join(" "),
        );
        for key in there.environment.keys().chain(should.environment.keys()) {
            let of = |worker: &Worker| worker.environment.get(key).cloned().unwrap_or_default();
            differ(format!("env.{key}"), &of(there), &of(&should));
        }
        changes.dedup();
        changes
    }

    async fn make(&self, wanted: &Deployment, say: Say<'_>) -> Result<Applied, ProvisionError> {
        Self::check(wanted)?;
        let folder = self.folder(&wanted.name);
        let there = folder.worker()?;
        let changed = there
            .as_ref()
            .map(|there| self.changes(wanted, there))
            .unwrap_or_default();
        let runs = folder.runs()?;
        if runs && changed.is_empty() {
            return Ok(Applied {
                created: false,
                changed,
            });
        }
        if runs {
            say("stopping the worker, to start it with other settings");
            self.stop(&folder).await?;
        }
        let port = match (self.options.port, &there) {
            (Some(port), _) => port,
            (None, Some(there)) => there.port,
            (None, None) => run::free_port(&self.options.host)?,
        };
        let worker = self.worker(wanted, port);
        // Written first: a run that is killed here leaves a folder that the next one finds.
        folder.write(&worker)?;
        let mut command = run::command(&self.options.program, &folder);
        for name in &self.own {
            command.env_remove(name);
        }
        run::start(command, &folder, &worker, &wanted.secrets)?;
        say(&format!("started a worker on {}:{port}", worker.host));
        Ok(Applied {
            created: there.is_none(),
            changed,
        })
    }

    async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        let folder = self.folder(name);
        let Some(worker) = folder.worker()? else {
            return Ok(Status::of(Phase::Absent));
        };
        if !folder.runs()? {
            let last = folder.last_lines(3)?;
            let reason = format!("the worker ended; its last words: {}", last.join(" | "));
            let mut status = Status::of(Phase::Failed).because(reason);
            status.workers.failed = 1;
            return Ok(status);
        }
        let asked = self
            .client
            .get(format!("{}/isalive", worker.address()))
            .timeout(Duration::from_secs(5));
        let (phase, workers, reason) = match asked.send().await {
            Ok(answer) if answer.status().is_success() => (Phase::Serving, (1, 0), None),
            Ok(answer) => (Phase::Starting, (0, 1), answer.text().await.ok()),
            Err(_) => (Phase::Starting, (0, 1), None),
        };
        let mut status = Status::of(phase);
        status.reason = reason.map(|text| text.chars().take(200).collect());
        status.workers = Workers {
            ready: workers.0,
            starting: workers.1,
            ..Workers::default()
        };
        status.hardware = Some("this machine".to_owned());
        status.scale = Some((1, 1));
        status.price = Some(Price::of_this_machine());
        Ok(status)
    }

    /// Lets a worker finish, and kills it when it does not.
    async fn stop(&self, folder: &Folder) -> Result<(), ProvisionError> {
        let mut left = GRACE;
        let mut killed = false;
        run::signal(folder, rustix::process::Signal::TERM).await?;
        while folder.runs()? {
            if left.is_zero() && !killed {
                run::signal(folder, rustix::process::Signal::KILL).await?;
                killed = true;
                left = Duration::from_secs(5);
            } else if left.is_zero() {
                return Err(ProvisionError::Local {
                    purpose: "stop the worker".to_owned(),
                    reason: "it lives on after it was killed".to_owned(),
                });
            }
            tokio::time::sleep(LOOK).await;
            left = left.saturating_sub(LOOK);
        }
        Ok(())
    }

    async fn take_down(&self, name: &Name, say: Say<'_>) -> Result<bool, ProvisionError> {
        let folder = self.folder(name);
        if folder.runs()? {
            self.stop(&folder).await?;
            say("stopped the worker");
        }
        folder.remove()
    }

    async fn tail(
        &self,
        name: &Name,
        follow: bool,
        sink: LogSink<'_>,
    ) -> Result<(), ProvisionError> {
        let folder = self.folder(name);
        let mut log = folder.log()?;
        loop {
            for line in log.lines()? {
                if !sink(&line) {
                    return Ok(());
                }
            }
            if !follow || !folder.runs()? {
                return Ok(());
            }
            tokio::time::sleep(LOOK.mul_f64(self.patience.pace)).await;
        }
    }
}

impl Platform for Process {
    fn id(&self) -> &'static str {
        ID
    }

    fn is_here(&self) -> bool {
        true
    }

    fn options(&self) -> Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        Self::check(wanted)?;
        let worker = self.worker(wanted, self.options.port.unwrap_or(0));
        let port = self
            .options
            .port
            .map_or_else(|| "{a free port}".to_owned(), |port| port.to_string());
        Ok(vec![Step::Command(run::shown(
            &self.options.program,
            &worker,
            &port,
        ))])
    }

    fn diff<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Vec<Change>>> {
        Box::pin(async move {
            let there = self.folder(&wanted.name).worker()?;
            Ok(there.map(|there| self.changes(wanted, &there)))
        })
    }

    fn apply<'a>(&'a self, wanted: &'a Deployment, say: Say<'a>) -> Answer<'a, Applied> {
        Box::pin(self.make(wanted, say))
    }

    fn status<'a>(&'a self, name: &'a Name) -> Answer<'a, Status> {
        Box::pin(self.look(name))
    }

    fn url<'a>(&'a self, name: &'a Name) -> Answer<'a, Access> {
        Box::pin(async move {
            let worker = self.folder(name).worker()?;
            let worker = worker.ok_or_else(|| ProvisionError::Unknown {
                name: name.to_string(),
                hint: " on this machine".to_owned(),
            })?;
            Ok(Access::open(worker.address()))
        })
    }

    fn logs<'a>(&'a self, name: &'a Name, follow: bool, sink: LogSink<'a>) -> Answer<'a, ()> {
        Box::pin(self.tail(name, follow, sink))
    }

    fn scale<'a>(&'a self, _: &'a Name, scale: (u32, u32)) -> Answer<'a, ()> {
        Box::pin(async move { only_one(ID, scale, ONE) })
    }

    fn delete<'a>(&'a self, name: &'a Name, say: Say<'a>) -> Answer<'a, bool> {
        Box::pin(self.take_down(name, say))
    }

    fn ours(&self) -> Answer<'_, Vec<Piece>> {
        Box::pin(async move { folder::all(&self.options.folder) })
    }

    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()> {
        Box::pin(async move {
            let name = Name::parse(&piece.id)?;
            self.take_down(&name, &|_| {}).await.map(|_| ())
        })
    }
}
