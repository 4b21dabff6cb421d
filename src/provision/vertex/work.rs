//! From what there is to what is wanted, and to nothing. Every run begins with what is there and with what an earlier one left
//! under way, so that it may be killed between any two calls.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::request::{self, Placement};
use super::seen::{self, deployed, has_all_traffic, own};
use super::{ID, Vertex};
use crate::provision::google::{Operation, changes, taken, text};
use crate::provision::platform::{Applied, Change, Say};
use crate::provision::{Call, Deployment, Name, ProvisionError, Secrets, ensure};

/// How long Vertex AI may take besides the container's own start: it copies the image, and finds and boots a machine. Google
/// names no limit; deployments of ten minutes and more are usual.
const BESIDES: Duration = Duration::from_secs(45 * 60);
/// How often something is undeployed whose answer was lost.
const TRIES: u32 = 4;

impl Vertex {
    pub(super) async fn make(
        &self,
        wanted: &Deployment,
        say: Say<'_>,
    ) -> Result<Applied, ProvisionError> {
        request::check(wanted)?;
        let placement = Placement::of(wanted, &self.options)?;
        let name = &wanted.name;
        self.wait_for_earlier("model", name).await?;
        let mut changed = Vec::new();
        let version = self.make_model(wanted, say, &mut changed).await?;
        let created = self.make_endpoint(wanted, say, &mut changed).await?;
        self.make_deployed(wanted, (&version, &placement), say, &mut changed)
            .await?;
        Ok(Applied { created, changed })
    }

    /// Lets end what an earlier run began: how it ended shows in what there is then.
    async fn wait_for_earlier(&self, kind: &str, name: &Name) -> Result<(), ProvisionError> {
        for operation in self.operations(kind, name.as_str()).await? {
            let purpose = "finish what an earlier run began";
            self.rest
                .settle(&self.base(), &operation, (purpose, BESIDES))
                .await?;
        }
        Ok(())
    }

    /// Where operations are below.
    fn base(&self) -> String {
        format!("{}/v1", self.options.host())
    }

    /// Sends a call that begins an operation, and waits until that has succeeded.
    async fn carry_out(
        &self,
        call: &Call,
        (secrets, hardware): (&Secrets, &str),
        limit: Duration,
    ) -> Result<Value, ProvisionError> {
        let begun = self.rest.api.send(call, secrets).await;
        let begun = begun.map_err(|error| taken(self.rest.capacity(error, hardware)))?;
        self.rest
            .finish(
                &self.base(),
                &begun,
                (call.purpose.as_str(), limit),
                (secrets, hardware),
            )
            .await
            .map_err(taken)
    }

    /// The version that should be deployed.
    async fn make_model(
        &self,
        wanted: &Deployment,
        say: Say<'_>,
        changed: &mut Vec<Change>,
    ) -> Result<String, ProvisionError> {
        let name = &wanted.name;
        let there = self.model(name).await?;
        if let Some(there) = own(there.as_ref(), "model", name)? {
            let differs = seen::model_changes(there, wanted, &self.options)?;
            if differs.is_empty() {
                return Ok(text(there, "/versionId").to_owned());
            }
            changed.extend(differs);
        }
        if !wanted.secrets.is_empty() {
            let names: Vec<&str> = wanted.secrets.names().collect();
            say(&format!(
                "warning: {} will be in the model's environment, where everybody who may look at the model reads it",
                names.join(", ")
            ));
        }
        let upload = self.requests().upload(wanted, there.is_some())?;
        let look = async || {
            self.wait_for_earlier("model", name).await?;
            let there = self.model(name).await?;
            let Some(there) = own(there.as_ref(), "model", name)? else {
                return Ok(None);
            };
            let same = seen::model_changes(there, wanted, &self.options)?.is_empty();
            Ok(same.then(|| text(there, "/versionId").to_owned()))
        };
        let make = async || {
            let limit = wanted.start_timeout + BESIDES;
            let done = self
                .carry_out(&upload, (&wanted.secrets, ""), limit)
                .await?;
            match text(&done, "/modelVersionId") {
                "" => look().await?.ok_or_else(|| {
                    self.rest
                        .api
                        .malformed(&upload, "it is uploaded and has no version")
                }),
                version => Ok(version.to_owned()),
            }
        };
        let (version, _) = ensure(self.rest.api.patience().pace, &look, make).await?;
        say(&format!("uploaded the model {name}, version {version}"));
        Ok(version)
    }

    /// Whether this run made it.
    async fn make_endpoint(
        &self,
        wanted: &Deployment,
        say: Say<'_>,
        changed: &mut Vec<Change>,
    ) -> Result<bool, ProvisionError> {
        let name = &wanted.name;
        let create = self.requests().create(wanted);
        let look = async || {
            self.wait_for_earlier("endpoint", name).await?;
            let there = self.endpoint(name).await?;
            Ok(own(there.as_ref(), "endpoint", name)?.cloned())
        };
        let make = async || {
            let carried = self
                .carry_out(&create, (&wanted.secrets, ""), BESIDES)
                .await?;
            Ok(carried)
        };
        let (there, created) = ensure(self.rest.api.patience().pace, &look, make).await?;
        if created {
            say(&format!("created the endpoint {name}"));
            return Ok(true);
        }
        let should = seen::of_endpoint(&request::endpoint(wanted));
        let differs = changes(&seen::of_endpoint(&there), &should);
        if differs
            .iter()
            .any(|change| change.field.starts_with("labels."))
        {
            let call = self.requests().label(wanted);
            self.rest.api.send(&call, &wanted.secrets).await?;
        }
        if differs
            .iter()
            .any(|change| change.field == "request_timeout")
        {
            let call = self.requests().connect(wanted);
            self.carry_out(&call, (&wanted.secrets, ""), BESIDES)
                .await?;
        }
        changed.extend(differs);
        Ok(false)
    }

    /// Deploys the version where it is not, sends it all requests, and undeploys every other one.
    async fn make_deployed(
        &self,
        wanted: &Deployment,
        (version, placement): (&str, &Placement),
        say: Say<'_>,
        changed: &mut Vec<Change>,
    ) -> Result<(), ProvisionError> {
        let name = &wanted.name;
        let hardware = placement.machine.to_string();
        let fits = |deployed: &Value| {
            text(deployed, "/modelVersionId") == version
                && seen::of_placements(deployed, placement).0.is_empty()
        };
        let before = self.there(name).await?;
        if let Some(old) = deployed(&before).last().filter(|old| !fits(old)) {
            changed.extend(seen::of_placements(old, placement).0);
        }
        let deploy = self.requests().deploy(name, version, placement);
        let look = async || {
            self.wait_for_earlier("endpoint", name).await?;
            let there = self.there(name).await?;
            let found = deployed(&there)
                .into_iter()
                .rfind(|deployed| fits(deployed));
            Ok(found.cloned())
        };
        let make = async || {
            say(&format!("deploying it on {hardware}; this takes minutes"));
            let limit = wanted.start_timeout + BESIDES;
            let secrets = (&wanted.secrets, hardware.as_str());
            self.carry_out(&deploy, secrets, limit).await?;
            look().await?.ok_or_else(|| {
                self.rest
                    .api
                    .malformed(&deploy, "it is deployed and not on the endpoint")
            })
        };
        let (kept, new) = ensure(self.rest.api.patience().pace, &look, make).await?;
        let id = text(&kept, "/id").to_owned();
        if new {
            say(&format!("deployed version {version} on {hardware}"));
        }
        let (_, scale) = seen::of_placements(&kept, placement);
        if !scale.is_empty() {
            let call = self.requests().scale(name, &id, placement.scale);
            self.carry_out(&call, (&wanted.secrets, hardware.as_str()), BESIDES)
                .await?;
            changed.extend(scale);
        }
        if !has_all_traffic(&self.there(name).await?, &id) {
            let call = self.requests().route(name, &id);
            self.rest.api.send(&call, &wanted.secrets).await?;
        }
        self.undeploy(name, Some(&id), say).await
    }

    async fn there(&self, name: &Name) -> Result<Value, ProvisionError> {
        let there = self.endpoint(name).await?;
        there.ok_or_else(|| self.unknown(name))
    }

    /// Undeploys everything but one.
    async fn undeploy(
        &self,
        name: &Name,
        but: Option<&str>,
        say: Say<'_>,
    ) -> Result<(), ProvisionError> {
        let mut lost = 0;
        while let Some(there) = self.endpoint(name).await? {
            let mut ids = deployed(&there).into_iter().map(|one| text(one, "/id"));
            let Some(id) = ids.find(|id| Some(*id) != but) else {
                return Ok(());
            };
            let call = self.requests().undeploy(name, id);
            match self
                .carry_out(&call, (&Secrets::default(), ""), BESIDES)
                .await
            {
                Ok(_) => say(&format!("undeployed {id}")),
                Err(error) if error.is_ambiguous() && lost < TRIES => {
                    lost += 1;
                    self.wait_for_earlier("endpoint", name).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) async fn rescale(
        &self,
        name: &Name,
        scale: (u32, u32),
    ) -> Result<(), ProvisionError> {
        if scale.0 == 0 {
            return Err(ProvisionError::Unsupported {
                platform: ID,
                what: "sleep: 0 workers".to_owned(),
                instead: "give 1 at least, or delete the endpoint".to_owned(),
            });
        }
        let there = self.there(name).await?;
        let there = own(Some(&there), "endpoint", name)?;
        let ids = there.map(deployed).unwrap_or_default();
        let id = ids.last().map(|one| text(one, "/id").to_owned());
        let id = id.ok_or_else(|| self.unknown(name))?;
        let call = self.requests().scale(name, &id, scale);
        self.carry_out(&call, (&Secrets::default(), ""), BESIDES)
            .await?;
        Ok(())
    }

    pub(super) async fn take_down(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<bool, ProvisionError> {
        let endpoint = self.remove_endpoint(name, say).await?;
        let model = self.remove_model(name, say).await?;
        Ok(endpoint || model)
    }

    /// Ends what is under way, undeploys, deletes.
    pub(super) async fn remove_endpoint(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<bool, ProvisionError> {
        self.cancel("endpoint", name).await?;
        let there = self.endpoint(name).await?;
        if own(there.as_ref(), "endpoint", name)?.is_none() {
            return Ok(false);
        }
        self.undeploy(name, None, say).await?;
        self.remove_whole("endpoint", name).await?;
        say(&format!("deleted the endpoint {name}"));
        Ok(true)
    }

    /// Deletes a model with all its versions.
    pub(super) async fn remove_model(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<bool, ProvisionError> {
        self.cancel("model", name).await?;
        let there = self.model(name).await?;
        if own(there.as_ref(), "model", name)?.is_none() {
            return Ok(false);
        }
        self.remove_whole("model", name).await?;
        say(&format!("deleted the model {name}"));
        Ok(true)
    }

    async fn remove_whole(&self, kind: &str, name: &Name) -> Result<(), ProvisionError> {
        let call = self.requests().delete(kind, name.as_str());
        self.rest.gone(&self.base(), &call, BESIDES).await
    }

    /// Ends what is under way; what cannot be ended is waited for.
    async fn cancel(&self, kind: &str, name: &Name) -> Result<(), ProvisionError> {
        let under_way = self.operations(kind, name.as_str()).await?;
        for operation in &under_way {
            if Operation::read(operation) != Operation::Pending {
                continue;
            }
            if makes(operation) {
                self.end(operation).await?;
            }
            let purpose = "wait for what is under way";
            self.rest
                .settle(&self.base(), operation, (purpose, BESIDES))
                .await?;
        }
        Ok(())
    }

    async fn end(&self, operation: &Value) -> Result<(), ProvisionError> {
        let url = format!("{}/{}:cancel", self.base(), text(operation, "/name"));
        let call = self
            .rest
            .call("end what is under way", Method::POST, url)
            .with(Value::Object(serde_json::Map::new()))
            .repeatable();
        // A refusal says that it cannot be ended.
        let reply = self.rest.api.ask(&call, &Secrets::default()).await?;
        tracing::debug!(status = reply.status.as_u16(), "asked an operation to end");
        Ok(())
    }
}

/// Whether an operation makes what is to be taken down; one that takes down is left to do so.
fn makes(operation: &Value) -> bool {
    let kind = text(operation, "/metadata/@type");
    [
        ".DeployModelOperationMetadata",
        ".UploadModelOperationMetadata",
    ]
    .iter()
    .any(|makes| kind.ends_with(makes))
}
