//! Vast.ai: one machine of somebody's, lent by the hour. **Experimental**: built from the platform's published documents and
//! proved against a double made from them, never against the platform itself.

mod instance;
mod logs;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::instance::Instance;
use super::bearer::Bearer;
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say, only_one};
use super::{
    Access, Api, Call, Deployment, Door, Name, Patience, Phase, Price, ProvisionError, Secrets,
    Status, Step, Workers, ensure,
};

const ID: &str = "vast";
/// How many workers a deployment has here.
const ONE: &str = "a deployment is one machine here; leave it at 1";
/// Offers of a search that are tried, the cheapest first: each may be gone by the time it is asked for.
const OFFERS: usize = 8;
/// Looks until a destroyed machine is off the list.
const LOOKS: u32 = 120;
/// Between two of them.
const LOOK: Duration = Duration::from_secs(2);
/// How long a worker may take to say how it is.
const ASK: Duration = Duration::from_secs(5);
/// The variable with the worker's keys, without which anybody could use it.
const KEYS: &str = "CHANDLER_API_KEYS";

/// What a machine is chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The API's address. Never one that redirects: a login does not follow.
    pub api: String,
    /// The highest price, in US dollars an hour.
    pub max_price: Option<f64>,
    /// The lowest share of time that a machine was there, from 0 to 1.
    pub reliability: f64,
    /// Countries by two letters; any when empty.
    pub countries: Vec<String>,
    /// Disk in GB, in place of the plan's.
    pub disk_gb: Option<u32>,
}

/// An account.
pub struct Vast {
    options: Options,
    api: Api,
    client: reqwest::Client,
    worker_key: Option<SecretString>,
}

impl Vast {
    /// An account, by its key; the worker's own key proves that it serves.
    ///
    /// # Errors
    /// When no client can be built on this machine.
    pub fn new(
        options: Options,
        (key, worker_key): (Option<SecretString>, Option<SecretString>),
        patience: Patience,
    ) -> Result<Self, ProvisionError> {
        let login = Bearer {
            key,
            remedy: "check VAST_API_KEY (cloud.vast.ai/manage-keys)",
        };
        let api = Api::new(ID, Arc::new(login), patience)?;
        Ok(Self {
            // Without the login: for addresses that are not the platform's.
            client: api.client().clone(),
            options,
            api,
            worker_key,
        })
    }

    /// What stands in the way of a deployment here.
    fn check(wanted: &Deployment) -> Result<(), ProvisionError> {
        only_one(ID, (wanted.scaling.min, wanted.scaling.max), ONE)?;
        if wanted.secrets.get(KEYS).is_none() {
            return Err(ProvisionError::Missing {
                platform: ID,
                what: "a key of the worker's own, since its address is public".to_owned(),
                remedy: format!("export {KEYS}=$(openssl rand -hex 32) and give --secret {KEYS}"),
            });
        }
        wanted.port().map(|_| ())
    }

    /// Every instance of the account that bears a deployment's mark.
    async fn instances(&self) -> Result<Vec<Instance>, ProvisionError> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let call = requests::list(&self.options, token.as_deref());
            let page = self.api.send(&call, &Secrets::default()).await?;
            let listed = page.get("instances").and_then(Value::as_array);
            let listed =
                listed.ok_or_else(|| self.api.malformed(&call, "it has no `instances`"))?;
            all.extend(listed.iter().filter_map(Instance::read));
            let next = page.get("next_token").and_then(Value::as_str);
            match next.filter(|next| !next.is_empty()) {
                Some(next) if token.as_deref() != Some(next) => token = Some(next.to_owned()),
                _ => return Ok(all),
            }
        }
    }

    /// Those of one deployment. One that has its label and not its mark is somebody else's.
    async fn of(&self, name: &Name) -> Result<Vec<Instance>, ProvisionError> {
        let all = self.instances().await?;
        let named = all
            .into_iter()
            .filter(|one| one.label.as_deref() == Some(name.as_str()));
        let (mut ours, foreign): (Vec<_>, Vec<_>) =
            named.partition(|one| one.deployment.as_ref() == Some(name));
        if ours.is_empty() && !foreign.is_empty() {
            return Err(ProvisionError::Foreign {
                platform: ID,
                what: "instance",
                name: name.to_string(),
            });
        }
        ours.sort_by_key(|one| one.id);
        Ok(ours)
    }

    async fn differences(
        &self,
        wanted: &Deployment,
    ) -> Result<Option<Vec<Change>>, ProvisionError> {
        Self::check(wanted)?;
        let there = self.of(&wanted.name).await?;
        let change = |one: &Instance| instance::changes(one, wanted, &self.options);
        let all: Vec<Vec<Change>> = there.iter().map(change).collect::<Result<_, _>>()?;
        Ok(all.into_iter().min_by_key(Vec::len))
    }

    /// Whether an instance is what is wanted, and may still come to serve.
    fn fits(&self, one: &Instance, wanted: &Deployment) -> Result<bool, ProvisionError> {
        Ok(!one.is_lost() && instance::changes(one, wanted, &self.options)?.is_empty())
    }

    async fn make(&self, wanted: &Deployment, say: Say<'_>) -> Result<Applied, ProvisionError> {
        Self::check(wanted)?;
        say("Vast.ai is experimental: it was built from its documents and never proved against it");
        let there = self.of(&wanted.name).await?;
        let changed = self.differences(wanted).await?.unwrap_or_default();
        let mut keep = None;
        for one in &there {
            if keep.is_none() && self.fits(one, wanted)? {
                keep = Some(one.id);
            }
        }
        let made = match keep {
            Some(_) => false,
            None => {
                // A machine cannot be given other settings: another one takes its place.
                let id = self.rent(wanted, say).await?;
                keep = Some(id);
                true
            }
        };
        for one in self.of(&wanted.name).await? {
            if Some(one.id) != keep {
                self.destroy(one.id).await?;
                say(&format!(
                    "destroyed instance {}, which is not needed any more",
                    one.id
                ));
            }
        }
        let created = made && there.is_empty();
        Ok(Applied {
            created,
            changed: if created { Vec::new() } else { changed },
        })
    }

    /// Rents the cheapest machine that is still there.
    async fn rent(&self, wanted: &Deployment, say: Say<'_>) -> Result<u64, ProvisionError> {
        let search = requests::search(&self.options, wanted);
        let found = self.api.send(&search, &Secrets::default()).await?;
        let offers = found.get("offers").and_then(Value::as_array);
        let offers = offers.ok_or_else(|| self.api.malformed(&search, "it has no `offers`"))?;
        let nothing = |message: String| ProvisionError::Capacity {
            platform: ID,
            hardware: wanted.hardware_names(),
            message,
        };
        let mut last = nothing("no offer fits".to_owned());
        for offer in offers.iter().take(OFFERS) {
            let Some(id) = offer.get("id").and_then(Value::as_u64) else {
                return Err(self.api.malformed(&search, "an offer has no `id`"));
            };
            let look = async || {
                for one in self.of(&wanted.name).await? {
                    if self.fits(&one, wanted)? {
                        return Ok(Some(Ok(one.id)));
                    }
                }
                Ok(None)
            };
            let take = async || self.take(wanted, id).await;
            match ensure(self.api.patience().pace, look, take).await?.0 {
                Ok(made) => {
                    let price = offer.get("dph_total").and_then(Value::as_f64);
                    let price = price.map(|price| format!(", ${price:.3} an hour"));
                    say(&format!(
                        "rented instance {made}{}",
                        price.unwrap_or_default()
                    ));
                    return Ok(made);
                }
                Err(gone) => {
                    say(&format!("offer {id} is gone: {gone}"));
                    last = nothing(gone);
                }
            }
        }
        Err(last)
    }

    /// Takes one offer: the instance's id, or why it is no longer to be had.
    async fn take(
        &self,
        wanted: &Deployment,
        offer: u64,
    ) -> Result<Result<u64, String>, ProvisionError> {
        let call = requests::create(&self.options, wanted, &offer.to_string())?;
        let reply = self.api.ask(&call, &wanted.secrets).await?;
        let refused = || self.api.refusal(&call, &wanted.secrets, &reply);
        match reply.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Err(refused().to_string())),
            status if !status.is_success() => Err(refused()),
            _ => match reply.at("/new_contract").as_u64() {
                Some(id) => Ok(Ok(id)),
                None => Err(self.api.malformed(&call, "it has no `new_contract`")),
            },
        }
    }

    async fn destroy(&self, id: u64) -> Result<(), ProvisionError> {
        let call = requests::destroy(&self.options, id);
        self.api.find(&call, &Secrets::default()).await.map(|_| ())
    }

    async fn take_down(&self, name: &Name, say: Say<'_>) -> Result<bool, ProvisionError> {
        let there = self.of(name).await?;
        for one in &there {
            self.destroy(one.id).await?;
            say(&format!("destroyed instance {}", one.id));
        }
        if there.is_empty() {
            return Ok(false);
        }
        for _ in 0..LOOKS {
            if self.of(name).await?.is_empty() {
                return Ok(true);
            }
            tokio::time::sleep(LOOK.mul_f64(self.api.patience().pace)).await;
        }
        Err(ProvisionError::Local {
            purpose: "wait until the instance is gone".to_owned(),
            reason: "it is still on the list, and costs money".to_owned(),
        })
    }

    async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        let all = self.of(name).await?;
        let Some(one) = all.iter().find(|one| !one.is_lost()).or(all.first()) else {
            return Ok(Status::of(Phase::Absent));
        };
        let (phase, reason) = self.phase(one).await;
        let mut status = Status::of(phase);
        status.reason = reason;
        status.workers = Workers {
            ready: u32::from(phase == Phase::Serving),
            starting: u32::from(matches!(phase, Phase::Starting | Phase::Creating)),
            failed: u32::from(phase == Phase::Failed),
            ..Workers::default()
        };
        status.hardware.clone_from(&one.gpu);
        status.scale = Some((1, 1));
        status.price = one.price.map(|usd_per_hour| Price {
            usd_per_hour,
            source: "Vast.ai's dph_total of this machine".to_owned(),
        });
        Ok(status)
    }

    /// How far a machine is; a running one is asked itself whether it would serve.
    async fn phase(&self, one: &Instance) -> (Phase, Option<String>) {
        let said = one.message.clone();
        match one.status.as_deref() {
            _ if one.is_lost() => {
                let word = one.status.as_deref().unwrap_or("stopped");
                let reason = said.map(|said| format!("{word}: {said}"));
                (Phase::Failed, reason.or_else(|| Some(word.to_owned())))
            }
            Some("running") => match one.address() {
                None => (
                    Phase::Starting,
                    Some("it has no public address yet".to_owned()),
                ),
                Some(address) => {
                    let asked = self.client.get(format!("{address}/isalive")).timeout(ASK);
                    match asked.send().await {
                        Ok(answer) if answer.status().is_success() => (Phase::Serving, None),
                        Ok(answer) => (
                            Phase::Starting,
                            Some(format!("the worker says HTTP {}", answer.status().as_u16())),
                        ),
                        Err(_) => (
                            Phase::Starting,
                            Some("the worker does not answer yet".to_owned()),
                        ),
                    }
                }
            },
            _ => (Phase::Creating, said),
        }
    }

    async fn reach(&self, name: &Name) -> Result<Access, ProvisionError> {
        let all = self.of(name).await?;
        let one = all.iter().find(|one| !one.is_lost());
        let one = one.ok_or_else(|| self.unknown(name))?;
        let url = one.address().ok_or_else(|| ProvisionError::NotReady {
            name: name.to_string(),
            seconds: 0,
            phase: Phase::Starting,
            reason: Some("it has no public address yet".to_owned()),
        })?;
        Ok(Access {
            door: Door::Http,
            bearer: self.worker_key.clone(),
            bearer_in_shell: Some("$CHANDLER_API_KEYS"),
            ..Access::open(url)
        })
    }

    fn unknown(&self, name: &Name) -> ProvisionError {
        ProvisionError::Unknown {
            name: name.to_string(),
            hint: " on Vast.ai".to_owned(),
        }
    }
}

impl Platform for Vast {
    fn id(&self) -> &'static str {
        ID
    }

    fn options(&self) -> Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        Self::check(wanted)?;
        let calls: [Call; 2] = [
            requests::search(&self.options, wanted),
            requests::create(&self.options, wanted, "{offer}")?,
        ];
        Ok(calls.into_iter().map(Step::from).collect())
    }

    fn diff<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Vec<Change>>> {
        Box::pin(self.differences(wanted))
    }

    fn apply<'a>(&'a self, wanted: &'a Deployment, say: Say<'a>) -> Answer<'a, Applied> {
        Box::pin(self.make(wanted, say))
    }

    fn status<'a>(&'a self, name: &'a Name) -> Answer<'a, Status> {
        Box::pin(self.look(name))
    }

    fn url<'a>(&'a self, name: &'a Name) -> Answer<'a, Access> {
        Box::pin(self.reach(name))
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
        Box::pin(async move {
            let all = self.instances().await?;
            let ours = all.into_iter().filter(|one| one.deployment.is_some());
            let piece = |one: Instance| Piece {
                kind: "instance",
                id: one.id.to_string(),
                orphan: one.is_lost(),
                deployment: one.deployment,
                owner: one.owner,
            };
            Ok(ours.map(piece).collect())
        })
    }

    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()> {
        Box::pin(async move {
            let id = piece.id.parse().map_err(|_| {
                ProvisionError::invalid("instance", &piece.id, "an instance's id is a number")
            })?;
            self.destroy(id).await
        })
    }
}
