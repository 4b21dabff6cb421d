//! RunPod's serverless endpoints, through its management API v2. One endpoint is one thing: v2 puts image and environment into
//! the endpoint itself (and makes, changes and deletes the template behind it), so no template of ours is left over. GraphQL is
//! spoken for cached models only, which v2 cannot ask for.

mod cached;
mod calls;
mod differ;
mod endpoint;
mod gpus;
mod logs;
mod look;
mod make;
mod options;
mod refusal;
mod remove;
mod shape;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::OnceCell;

use self::gpus::GpuTypes;
pub use self::options::{API, Cpu, Flashboot, INVOKE_API, Options};
use super::api::{Api, Login, Patience};
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say};
use super::{Access, Deployment, Name, Price, ProvisionError, Secrets, Status, Step};
use crate::catalog::Hardware;

const ID: &str = "runpod";
/// The variable that holds the key.
pub const KEY_VARIABLE: &str = "RUNPOD_API_KEY";
/// Pools that one endpoint asks for before the rest is tried.
const POOLS: usize = 3;

/// RunPod.
pub struct RunPod {
    options: Options,
    key: Option<SecretString>,
    api: Api,
    /// Read once: what its types are and cost does not change while a command runs.
    catalog: OnceCell<GpuTypes>,
}

/// The account's key.
struct Key(Option<SecretString>);

impl Login for Key {
    fn authorization(&self) -> Answer<'_, Option<SecretString>> {
        Box::pin(async move {
            match &self.0 {
                Some(key) => Ok(Some(format!("Bearer {}", key.expose_secret()).into())),
                None => Err(ProvisionError::Missing {
                    platform: ID,
                    what: format!("an API key in {KEY_VARIABLE}"),
                    remedy: "make one in its console under Settings, API Keys".to_owned(),
                }),
            }
        })
    }

    fn remedy(&self) -> String {
        format!("check {KEY_VARIABLE}: it must be an API key of this account that may write")
    }
}

impl RunPod {
    /// RunPod with these options and the account's key; without one nothing can be asked, and a plan be made.
    ///
    /// # Errors
    /// When this machine cannot ask anything.
    pub fn new(
        options: Options,
        key: Option<SecretString>,
        patience: Patience,
    ) -> Result<Self, ProvisionError> {
        let api = Api::new(ID, Arc::new(Key(key.clone())), patience)?;
        Ok(Self {
            options,
            key,
            api,
            catalog: OnceCell::new(),
        })
    }

    /// What must not be seen in what RunPod says: the deployment's secrets, and the key.
    fn hidden(&self, secrets: &Secrets) -> Secrets {
        let mut hidden = secrets.clone();
        if let Some(key) = &self.key {
            hidden.insert("the login", key.clone());
        }
        hidden
    }
}

impl Platform for RunPod {
    fn id(&self) -> &'static str {
        ID
    }

    fn options(&self) -> Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        self.steps(wanted)
    }

    /// The types of the first three pools together, since RunPod takes whichever of them it has; then those of all others.
    fn groups(&self, hardware: &[Hardware]) -> Vec<Vec<Hardware>> {
        if hardware.is_empty() {
            return vec![Vec::new()];
        }
        let pool = |card: &Hardware| card.runpod_pool.clone();
        let lent: Vec<&Hardware> = hardware
            .iter()
            .filter(|card| card.runpod.is_some())
            .collect();
        let mut pools = Vec::new();
        for card in &lent {
            if !pools.contains(&pool(card)) {
                pools.push(pool(card));
            }
        }
        pools.truncate(POOLS);
        let (first, rest): (Vec<&Hardware>, Vec<&Hardware>) = lent
            .into_iter()
            .partition(|card| pools.contains(&pool(card)));
        [first, rest]
            .into_iter()
            .filter(|group| !group.is_empty())
            .map(|group| group.into_iter().cloned().collect())
            .collect()
    }

    fn price<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Price>> {
        Box::pin(self.foretold(wanted))
    }

    fn diff<'a>(&'a self, wanted: &'a Deployment) -> Answer<'a, Option<Vec<Change>>> {
        Box::pin(self.compare(wanted))
    }

    fn apply<'a>(&'a self, wanted: &'a Deployment, say: Say<'a>) -> Answer<'a, Applied> {
        Box::pin(self.make(wanted, say))
    }

    fn status<'a>(&'a self, name: &'a Name) -> Answer<'a, Status> {
        Box::pin(self.look(name))
    }

    fn url<'a>(&'a self, name: &'a Name) -> Answer<'a, Access> {
        Box::pin(async move { Ok(self.access(&self.existing(name).await?)) })
    }

    fn logs<'a>(&'a self, name: &'a Name, follow: bool, sink: LogSink<'a>) -> Answer<'a, ()> {
        Box::pin(self.read_logs(name, follow, sink))
    }

    fn scale<'a>(&'a self, name: &'a Name, scale: (u32, u32)) -> Answer<'a, ()> {
        Box::pin(self.set_workers(name, scale))
    }

    fn delete<'a>(&'a self, name: &'a Name, say: Say<'a>) -> Answer<'a, bool> {
        Box::pin(self.take_down(name, say))
    }

    fn ours(&self) -> Answer<'_, Vec<Piece>> {
        Box::pin(self.pieces())
    }

    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()> {
        Box::pin(self.remove_piece(piece))
    }
}
