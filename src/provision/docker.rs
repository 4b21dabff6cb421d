//! Containers of the docker (or podman) that this machine has or DOCKER_HOST names, through the Engine API (v1.41, as
//! docker's reference documents it): one container for a deployment, with a volume for the model's files.

mod inspect;
mod log;
mod request;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::inspect::Container;
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say, only_one};
use super::{
    Access, Api, Deployment, Name, Nobody, Patience, Phase, Price, ProvisionError, Secrets, Status,
    Step, ensure,
};

const ID: &str = "docker";
/// How many workers a deployment has here.
const ONE: &str = "one container serves a deployment; leave it at 1, or use kubernetes";
/// A container that was started so often and ended each time will not come up.
const RESTARTS: u64 = 3;
/// Pulling an image takes as long as it takes.
const PULL: Duration = Duration::from_secs(3600);

/// What a container is made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Where the engine listens: `unix:///var/run/docker.sock`, `tcp://host:2375`.
    pub engine: String,
    /// The address of this machine that the port is opened at.
    pub host: String,
    /// The port; one that docker chooses when none is given.
    pub port: Option<u16>,
    /// The volume for the model's files.
    pub cache: String,
}

/// A docker engine.
pub struct Docker {
    options: Options,
    api: Api,
    /// The same with the time that pulling an image takes.
    puller: Api,
    base: String,
    client: reqwest::Client,
}

impl Docker {
    /// An engine, with these options.
    ///
    /// # Errors
    /// An address that is neither a socket nor plain TCP.
    pub fn new(options: Options, patience: Patience) -> Result<Self, ProvisionError> {
        let socket = options.engine.strip_prefix("unix://").map(str::to_owned);
        let base = match (&socket, options.engine.strip_prefix("tcp://")) {
            (Some(_), _) => "http://docker".to_owned(),
            (None, Some(place)) => format!("http://{}", place.trim_end_matches('/')),
            (None, None) => {
                return Err(ProvisionError::invalid(
                    "DOCKER_HOST",
                    &options.engine,
                    "use unix://PATH or tcp://HOST:PORT (an engine behind ssh or TLS can be reached through a forwarded socket)",
                ));
            }
        };
        let over = |patience| {
            let socket = socket.clone();
            Api::over(ID, Arc::new(Nobody), patience, |builder| match socket {
                Some(path) => builder.unix_socket(path),
                None => builder,
            })
        };
        Ok(Self {
            api: over(patience)?,
            puller: over(Patience {
                time: PULL,
                ..patience
            })?,
            base,
            client: reqwest::Client::new(),
            options,
        })
    }

    fn check(wanted: &Deployment) -> Result<(), ProvisionError> {
        wanted.image(ID)?;
        only_one(ID, (wanted.scaling.min, wanted.scaling.max), ONE)
    }

    /// The container of this name, ours or not.
    async fn container(&self, name: &Name) -> Result<Option<Container>, ProvisionError> {
        let call = request::inspect(&self.base, name.as_str());
        let found = self.api.find(&call, &Secrets::default()).await?;
        found
            .map(|body| Container::read(&body).map_err(|reason| self.api.malformed(&call, reason)))
            .transpose()
    }

    /// The container of this name, which must be ours.
    async fn own(&self, name: &Name) -> Result<Option<Container>, ProvisionError> {
        match self.container(name).await? {
            Some(container) if container.deployment.as_deref() != Some(name.as_str()) => {
                Err(ProvisionError::Foreign {
                    platform: ID,
                    what: "container",
                    name: name.to_string(),
                })
            }
            found => Ok(found),
        }
    }

    async fn make(&self, wanted: &Deployment, say: Say<'_>) -> Result<Applied, ProvisionError> {
        Self::check(wanted)?;
        let there = self.own(&wanted.name).await?;
        let changed = there
            .as_ref()
            .map(|there| there.changes(wanted, &self.options))
            .unwrap_or_default();
        if let Some(there) = &there
            && !changed.is_empty()
        {
            say("removing the container, to make it with other settings");
            self.remove_container(&there.id).await?;
        }
        let existed = there.is_some();
        let keep = there.filter(|_| changed.is_empty());
        if keep.is_none() {
            self.fetch_image(wanted, say).await?;
            let volume = request::volume(&self.base, wanted, &self.options);
            self.api.send(&volume, &Secrets::default()).await?;
        }
        let create = request::create(&self.base, wanted, &self.options)?;
        let pace = self.api.patience().pace;
        let look = async || self.own(&wanted.name).await;
        let made = async || {
            self.api.send(&create, &wanted.secrets).await?;
            say("made the container");
            let found = self.own(&wanted.name).await?;
            found.ok_or_else(|| self.api.malformed(&create, "the container is gone again"))
        };
        let (container, _) = ensure(pace, look, made).await?;
        if !container.runs {
            let start = request::start(&self.base, &container.id);
            let reply = self.api.ask(&start, &wanted.secrets).await?;
            // 304: it runs already.
            if !reply.status.is_success() && reply.status.as_u16() != 304 {
                return Err(self.api.refusal(&start, &wanted.secrets, &reply));
            }
            say("started the container");
        }
        Ok(Applied {
            created: !existed,
            changed,
        })
    }

    /// Pulls the image unless it is there.
    async fn fetch_image(&self, wanted: &Deployment, say: Say<'_>) -> Result<(), ProvisionError> {
        let image = wanted.image(ID)?;
        let look = request::image(&self.base, image);
        if self.api.find(&look, &Secrets::default()).await?.is_some() {
            return Ok(());
        }
        say(&format!("pulling {image}"));
        let pull = request::pull(&self.base, image);
        let told = self.puller.send(&pull, &Secrets::default()).await?;
        match request::pull_error(&told) {
            Some(message) => Err(ProvisionError::Refused {
                platform: ID,
                purpose: format!("pull {image}"),
                status: 200,
                message,
            }),
            None => Ok(()),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), ProvisionError> {
        // The worker may finish its requests; docker kills it after that time.
        for call in [
            request::stop(&self.base, id),
            request::remove(&self.base, id),
        ] {
            let reply = self.puller.ask(&call, &Secrets::default()).await?;
            let done = reply.status.is_success() || matches!(reply.status.as_u16(), 304 | 404);
            if !done {
                return Err(self.api.refusal(&call, &Secrets::default(), &reply));
            }
        }
        Ok(())
    }

    /// Where a worker is asked from here: the engine's own machine when it is another.
    fn address(&self, container: &Container) -> Option<String> {
        let engine = self
            .options
            .engine
            .strip_prefix("tcp://")
            .and_then(|place| place.split(':').next());
        let host = match (engine, self.options.host.as_str()) {
            (Some(host), _) => host,
            (None, "0.0.0.0" | "::") => "127.0.0.1",
            (None, host) => host,
        };
        container.port.map(|port| format!("http://{host}:{port}"))
    }

    async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        let Some(container) = self.own(name).await? else {
            return Ok(Status::of(Phase::Absent));
        };
        let mut status = Status::of(Phase::Starting);
        status.scale = Some((1, 1));
        status.price = Some(Price::of_this_machine());
        status.hardware = Some(match container.gpus {
            true => "this machine's GPUs".to_owned(),
            false => "this machine's CPU".to_owned(),
        });
        if !container.runs || container.restarts >= RESTARTS {
            let last = self.last_words(&container.id).await?;
            let reason = format!("{}; its last words: {last}", container.ending());
            status.phase = if container.was_started {
                Phase::Failed
            } else {
                Phase::Creating
            };
            status.workers.failed = u32::from(container.was_started);
            return Ok(status.because(reason));
        }
        status.workers.starting = 1;
        if let Some(address) = self.address(&container) {
            let asked = self
                .client
                .get(format!("{address}/isalive"))
                .timeout(Duration::from_secs(5));
            match asked.send().await {
                Ok(answer) if answer.status().is_success() => {
                    status.phase = Phase::Serving;
                    (status.workers.ready, status.workers.starting) = (1, 0);
                }
                Ok(answer) => {
                    status.reason = answer
                        .text()
                        .await
                        .ok()
                        .map(|text| text.chars().take(200).collect())
                }
                // Not listening yet.
                Err(_) => {}
            }
        }
        Ok(status)
    }

    async fn last_words(&self, id: &str) -> Result<String, ProvisionError> {
        let lines = std::sync::Mutex::new(Vec::new());
        let take = |line: &str| {
            lines
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(line.to_owned());
            true
        };
        log::read(&self.api, &request::logs(&self.base, id, false, "3"), &take).await?;
        let lines = lines
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(lines.join(" | "))
    }

    async fn known(&self, name: &Name) -> Result<Container, ProvisionError> {
        self.own(name)
            .await?
            .ok_or_else(|| ProvisionError::Unknown {
                name: name.to_string(),
                hint: " on this docker".to_owned(),
            })
    }
}

impl Platform for Docker {
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
        Ok(vec![
            request::pull(&self.base, wanted.image(ID)?).into(),
            request::volume(&self.base, wanted, &self.options).into(),
            request::create(&self.base, wanted, &self.options)?.into(),
            request::start(&self.base, "{id}").into(),
        ])
    }

    fn groups(&self, hardware: &[crate::catalog::Hardware]) -> Vec<Vec<crate::catalog::Hardware>> {
        // This machine has the GPU that it has.
        vec![hardware.iter().take(1).cloned().collect()]
    }

    fn diff<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Vec<Change>>> {
        Box::pin(async move {
            let there = self.own(&wanted.name).await?;
            Ok(there.map(|there| there.changes(wanted, &self.options)))
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
            let container = self.known(name).await?;
            let address = self.address(&container);
            let address = address.ok_or_else(|| ProvisionError::Failed {
                name: name.to_string(),
                reason: "docker has opened no port for it; it does not run".to_owned(),
            })?;
            Ok(Access::open(address))
        })
    }

    fn logs<'a>(&'a self, name: &'a Name, follow: bool, sink: LogSink<'a>) -> Answer<'a, ()> {
        Box::pin(async move {
            let container = self.known(name).await?;
            let call = request::logs(&self.base, &container.id, follow, "all");
            log::read(&self.api, &call, sink).await
        })
    }

    fn scale<'a>(&'a self, _: &'a Name, scale: (u32, u32)) -> Answer<'a, ()> {
        Box::pin(async move { only_one(ID, scale, ONE) })
    }

    fn delete<'a>(&'a self, name: &'a Name, say: Say<'a>) -> Answer<'a, bool> {
        Box::pin(async move {
            let Some(container) = self.own(name).await? else {
                return Ok(false);
            };
            self.remove_container(&container.id).await?;
            say("removed the container; its volume of model files stays (docker volume rm)");
            Ok(true)
        })
    }

    fn ours(&self) -> Answer<'_, Vec<Piece>> {
        Box::pin(async move {
            let call = request::list(&self.base);
            let list = self.api.send(&call, &Secrets::default()).await?;
            inspect::pieces(&list).map_err(|reason| self.api.malformed(&call, reason))
        })
    }

    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()> {
        Box::pin(self.remove_container(&piece.id))
    }
}
