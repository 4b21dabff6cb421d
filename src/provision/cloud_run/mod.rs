//! Cloud Run: one service with its first revision, and who may call it. How it is asked for is in `request`, what there is in
//! `seen`, how one becomes the other in `work`.

mod limits;
mod request;
mod seen;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::request::Requests;
use super::google::{Account, Entries, Rest, piece, tail, text};
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say};
use super::{Access, Deployment, MANAGED_BY, Name, Patience, ProvisionError, Status, Step};

const ID: &str = "cloudrun";

/// What services on Cloud Run are made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The API's address.
    pub api: String,
    /// Cloud Logging's address.
    pub logging: String,
    /// The project.
    pub project: String,
    /// The region.
    pub region: String,
    /// Whether everybody may call the service.
    pub public: bool,
    /// The account that the worker runs as; the project's default one without.
    pub service_account: Option<String>,
    /// Variables whose values Secret Manager keeps.
    pub secrets: Vec<KeptSecret>,
    /// A bucket that holds models.
    pub volume: Option<Volume>,
}

/// A variable whose value Secret Manager keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSecret {
    /// The worker's variable.
    pub variable: String,
    /// The secret's name.
    pub secret: String,
    /// Its version, or `latest`.
    pub version: String,
}

/// A bucket, mounted read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The bucket.
    pub bucket: String,
    /// Only this folder of it.
    pub path: Option<String>,
}

impl Options {
    fn parent(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.region)
    }

    /// Where operations are below.
    fn root(&self) -> String {
        format!("{}/v2", self.api.trim_end_matches('/'))
    }

    fn base(&self) -> String {
        format!("{}/{}/services", self.root(), self.parent())
    }
}

/// Cloud Run, in one project and region.
pub struct CloudRun {
    options: Options,
    rest: Rest,
}

impl CloudRun {
    /// With these options, asked by this account.
    ///
    /// # Errors
    /// When no client can be built on this machine.
    pub fn new(
        options: Options,
        account: Arc<Account>,
        patience: Patience,
    ) -> Result<Self, ProvisionError> {
        let rest = Rest::new(ID, account, patience)?;
        Ok(Self { options, rest })
    }

    fn requests(&self) -> Requests<'_> {
        Requests {
            options: &self.options,
            charged: self.rest.account.charged(),
        }
    }

    async fn service(&self, name: &Name) -> Result<Option<Value>, ProvisionError> {
        let url = format!("{}/{name}", self.options.base());
        self.rest.get("look at the service", url).await
    }

    /// The service of this name, which has to be there and ours.
    async fn there(&self, name: &Name) -> Result<Value, ProvisionError> {
        let there = self.service(name).await?;
        let there = there.ok_or_else(|| ProvisionError::Unknown {
            name: name.to_string(),
            hint: format!(" in {} of Cloud Run", self.options.parent()),
        })?;
        seen::own(Some(&there), name)?;
        Ok(there)
    }

    async fn access(&self, name: &Name) -> Result<Access, ProvisionError> {
        let there = self.there(name).await?;
        let url = text(&there, "/uri").trim_end_matches('/').to_owned();
        if url.is_empty() {
            let call = self.requests().policy(name);
            return Err(self.rest.api.malformed(&call, "the service has no uri yet"));
        }
        if self.options.public {
            return Ok(Access::open(url));
        }
        Ok(Access {
            bearer: Some(self.rest.account.identity(&url).await?),
            bearer_in_shell: Some("$(gcloud auth print-identity-token)"),
            ..Access::open(url)
        })
    }

    async fn pieces(&self) -> Result<Vec<Piece>, ProvisionError> {
        let url = format!("{}?pageSize=100", self.options.base());
        let all = self
            .rest
            .list("list the services", &url, "services")
            .await?;
        let marked = |thing: &&Value| text(thing, "/labels/managed-by") == MANAGED_BY;
        let piece = |thing| piece("endpoint", thing, false);
        Ok(all.iter().filter(marked).map(piece).collect())
    }
}

impl Platform for CloudRun {
    fn id(&self) -> &'static str {
        ID
    }

    fn options(&self) -> Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        let requests = self.requests();
        let mut steps = vec![requests.create(wanted)?.into()];
        if self.options.public {
            steps.push(requests.policy(&wanted.name).into());
            if let Some(policy) = request::policy(&Value::Null, true) {
                steps.push(requests.allow(&wanted.name, &policy).into());
            }
        }
        Ok(steps)
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
        Box::pin(self.access(name))
    }

    fn logs<'a>(&'a self, name: &'a Name, follow: bool, sink: LogSink<'a>) -> Answer<'a, ()> {
        let entries = Entries {
            api: self.options.logging.clone(),
            project: self.options.project.clone(),
            filter: format!(
                "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"{name}\" AND \
                 resource.labels.location=\"{}\"",
                self.options.region
            ),
        };
        Box::pin(async move { tail(&self.rest, &entries, follow, sink).await })
    }

    fn scale<'a>(&'a self, name: &'a Name, scale: (u32, u32)) -> Answer<'a, ()> {
        Box::pin(self.rescale(name, scale))
    }

    fn delete<'a>(&'a self, name: &'a Name, say: Say<'a>) -> Answer<'a, bool> {
        Box::pin(self.take_down(name, say))
    }

    fn ours(&self) -> Answer<'_, Vec<Piece>> {
        Box::pin(self.pieces())
    }

    fn remove<'a>(&'a self, piece: &'a Piece) -> Answer<'a, ()> {
        Box::pin(async move {
            let name = Name::parse(&piece.id)?;
            self.take_down(&name, &|_| {}).await.map(|_| ())
        })
    }
}
