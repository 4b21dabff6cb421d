//! Vertex AI: a model (the image and how it is asked), an endpoint with an address of its own, and the model deployed on it.
//! What it is asked in is in `request`, what there is in `seen`, how one becomes the other in `work`.

mod machine;
mod request;
mod seen;
#[cfg(test)]
mod tests;
mod work;

use std::sync::Arc;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::request::{Placement, Requests};
use super::google::{Account, Entries, Rest, encoded, id, piece, tail, text};
use super::platform::{Answer, Applied, Change, LogSink, Piece, Platform, Say};
use super::{
    Access, Call, Deployment, Door, MANAGED_BY, Name, Patience, ProvisionError, Status, Step,
};

const ID: &str = "vertex";

/// What endpoints on Vertex AI are made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The API's address; Google's own for the region when empty.
    pub api: String,
    /// Cloud Logging's address.
    pub logging: String,
    /// The project.
    pub project: String,
    /// The region: the image has to be in an Artifact Registry there.
    pub region: String,
    /// Another machine type than the smallest that would do.
    pub machine: Option<String>,
    /// The account that the worker runs as; without one it has no access to the project.
    pub service_account: Option<String>,
    /// Every route of the worker below `/invoke`, in place of `:predict`.
    pub invoke: bool,
}

impl Options {
    fn host(&self) -> String {
        match self.api.as_str() {
            "" => format!("https://{}-aiplatform.googleapis.com", self.region),
            api => api.trim_end_matches('/').to_owned(),
        }
    }

    fn parent(&self) -> String {
        format!("projects/{}/locations/{}", self.project, self.region)
    }

    /// Where everything is below.
    fn base(&self) -> String {
        format!("{}/v1/{}", self.host(), self.parent())
    }

    fn model(&self, name: &Name) -> String {
        format!("{}/models/{name}", self.parent())
    }

    fn endpoint(&self, name: &Name) -> String {
        format!("{}/endpoints/{name}", self.parent())
    }
}

/// Vertex AI, in one project and region.
pub struct Vertex {
    options: Options,
    rest: Rest,
}

impl Vertex {
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

    async fn model(&self, name: &Name) -> Result<Option<Value>, ProvisionError> {
        let url = format!("{}/models/{name}", self.options.base());
        self.rest.get("look at the model", url).await
    }

    async fn endpoint(&self, name: &Name) -> Result<Option<Value>, ProvisionError> {
        let url = format!("{}/endpoints/{name}", self.options.base());
        self.rest.get("look at the endpoint", url).await
    }

    /// Operations on a model or an endpoint, those that are over among them.
    async fn operations(&self, kind: &str, name: &str) -> Result<Vec<Value>, ProvisionError> {
        let url = format!("{}/{kind}s/{name}/operations", self.options.base());
        self.rest
            .list("look at what is under way", &url, "operations")
            .await
    }

    async fn access(&self, name: &Name) -> Result<Access, ProvisionError> {
        let endpoint = self.endpoint(name).await?;
        let endpoint = endpoint.ok_or_else(|| self.unknown(name))?;
        let dns = text(&endpoint, "/dedicatedEndpointDns");
        if dns.is_empty() {
            let call = Call::new("give the endpoint's address", Method::GET, "");
            return Err(self
                .rest
                .api
                .malformed(&call, "it has no dedicatedEndpointDns"));
        }
        // A double has no certificate.
        let scheme = match self.options.host().starts_with("http://") {
            true => "http",
            false => "https",
        };
        let resource = self.options.endpoint(name);
        let (door, below) = match self.options.invoke {
            true => (Door::Http, "/invoke"),
            false => (Door::Vertex, ""),
        };
        Ok(Access {
            door,
            bearer: Some(self.rest.account.access().await?),
            bearer_in_shell: Some("$(gcloud auth print-access-token)"),
            ..Access::open(format!("{scheme}://{dns}/v1/{resource}{below}"))
        })
    }

    fn unknown(&self, name: &Name) -> ProvisionError {
        ProvisionError::Unknown {
            name: name.to_string(),
            hint: format!(" in {} of Vertex AI", self.options.parent()),
        }
    }

    async fn pieces(&self) -> Result<Vec<Piece>, ProvisionError> {
        let filter = encoded(&format!("labels.managed-by={MANAGED_BY}"));
        let ours = async |kind: &'static str| {
            let url = format!("{}/{kind}s?filter={filter}", self.options.base());
            let purpose = format!("list the {kind}s");
            let all = self.rest.list(&purpose, &url, &format!("{kind}s")).await?;
            let marked = |thing: &Value| text(thing, "/labels/managed-by") == MANAGED_BY;
            Ok::<_, ProvisionError>(all.into_iter().filter(marked).collect::<Vec<_>>())
        };
        let (endpoints, models) = (ours("endpoint").await?, ours("model").await?);
        let mut pieces: Vec<Piece> = endpoints
            .iter()
            .map(|thing| piece("endpoint", thing, false))
            .collect();
        let has_endpoint = |model: &Value| endpoints.iter().any(|thing| id(thing) == id(model));
        pieces.extend(
            models
                .iter()
                .map(|thing| piece("model", thing, !has_endpoint(thing))),
        );
        Ok(pieces)
    }
}

impl Platform for Vertex {
    fn id(&self) -> &'static str {
        ID
    }

    fn options(&self) -> Value {
        serde_json::to_value(&self.options).unwrap_or_default()
    }

    fn plan(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        request::check(wanted)?;
        let placement = Placement::of(wanted, &self.options)?;
        let requests = self.requests();
        Ok(vec![
            requests.upload(wanted, false)?.into(),
            requests.create(wanted).into(),
            requests
                .deploy(&wanted.name, "{version}", &placement)
                .into(),
        ])
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
                "resource.type=\"aiplatform.googleapis.com/Endpoint\" AND resource.labels.endpoint_id=\"{name}\""
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
            match piece.kind {
                "model" => self.remove_model(&name, &|_| {}).await.map(|_| ()),
                _ => self.remove_endpoint(&name, &|_| {}).await.map(|_| ()),
            }
        })
    }
}
