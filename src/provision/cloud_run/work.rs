//! From what there is to what is wanted, and to nothing. The service's id is the deployment's name, so that there cannot be two;
//! every run begins with what is there, and so may be killed between any two calls.

use std::time::Duration;

use serde_json::Value;

use super::request;
use super::seen::{self, Condition, access_change, own};
use super::{CloudRun, ID};
use crate::provision::google::taken;
use crate::provision::platform::{Applied, Change, Say};
use crate::provision::{Call, Deployment, Name, ProvisionError, Secrets, ensure};

/// How long Cloud Run may take besides the container's own start: it copies the image and finds a machine.
const BESIDES: Duration = Duration::from_secs(15 * 60);
/// How often a policy is read again that somebody else has changed meanwhile.
const TRIES: u32 = 4;

impl CloudRun {
    pub(super) async fn make(
        &self,
        wanted: &Deployment,
        say: Say<'_>,
    ) -> Result<Applied, ProvisionError> {
        let name = &wanted.name;
        // What cannot be is refused before anything is asked.
        let create = self.requests().create(wanted)?;
        self.remove_dead(name, say).await?;
        let look = async || {
            let there = self.service(name).await?;
            Ok(own(there.as_ref(), name)?.cloned())
        };
        let make = async || {
            self.warn(wanted, say);
            self.carry_out(&create, wanted).await
        };
        let (there, created) = ensure(self.rest.api.patience().pace, look, make).await?;
        let mut changed = Vec::new();
        match created {
            true => say(&format!("created the service {name}")),
            false => changed = self.update(wanted, &there, say).await?,
        }
        if self.settle_policy(name, say).await? && !created {
            changed.push(access_change(self.options.public));
        }
        Ok(Applied { created, changed })
    }

    fn warn(&self, wanted: &Deployment, say: Say<'_>) {
        if !wanted.secrets.is_empty() {
            let names: Vec<&str> = wanted.secrets.names().collect();
            say(&format!(
                "warning: {} will be in the service's environment, where everybody who may look at it reads it; \
                 --gcp-secret NAME=SECRET keeps a value in Secret Manager",
                names.join(", ")
            ));
        }
    }

    /// One that never served, and would not by being left alone: the same template makes no other revision.
    async fn remove_dead(&self, name: &Name, say: Say<'_>) -> Result<(), ProvisionError> {
        let there = self.service(name).await?;
        let Some(there) = own(there.as_ref(), name)? else {
            return Ok(());
        };
        let served = there.get("latestReadyRevision").is_some();
        match seen::condition(there) {
            Condition::Failed(reason) if !served => {
                say(&format!("taking down what an earlier run left: {reason}"));
                self.take_down(name, say).await.map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Sends a call that begins an operation, and waits until that has succeeded.
    async fn carry_out(&self, call: &Call, wanted: &Deployment) -> Result<Value, ProvisionError> {
        let hardware = wanted.hardware_names();
        let begun = self.rest.api.send(call, &wanted.secrets).await;
        let begun = begun.map_err(|error| taken(self.rest.capacity(error, &hardware)))?;
        let limit = wanted.start_timeout + BESIDES;
        let root = self.options.root();
        let finished = self.rest.finish(
            &root,
            &begun,
            (call.purpose.as_str(), limit),
            (&wanted.secrets, &hardware),
        );
        match finished.await {
            Err(error @ ProvisionError::Refused { .. }) => Err(self.why(wanted, error).await?),
            finished => finished,
        }
    }

    /// The service says more of a failure than the operation: the reason's name.
    async fn why(
        &self,
        wanted: &Deployment,
        error: ProvisionError,
    ) -> Result<ProvisionError, ProvisionError> {
        let there = self.service(&wanted.name).await?;
        Ok(match there.as_ref().map(seen::condition) {
            Some(Condition::Failed(reason)) => ProvisionError::Failed {
                name: wanted.name.to_string(),
                reason: wanted.secrets.scrub(&reason),
            },
            _ => error,
        })
    }

    async fn update(
        &self,
        wanted: &Deployment,
        there: &Value,
        say: Say<'_>,
    ) -> Result<Vec<Change>, ProvisionError> {
        let differs = seen::differs(there, wanted, &self.options)?;
        if differs.is_empty() {
            return Ok(differs);
        }
        self.warn(wanted, say);
        let call = self.requests().update(wanted, &seen::fields(&differs))?;
        self.carry_out(&call, wanted).await?;
        say(&format!("updated the service {}", wanted.name));
        Ok(differs)
    }

    /// The policy that should be there, when another one is.
    pub(super) async fn wrong_policy(&self, name: &Name) -> Result<Option<Value>, ProvisionError> {
        let call = self.requests().policy(name);
        let there = self.rest.api.send(&call, &Secrets::default()).await?;
        Ok(request::policy(&there, self.options.public))
    }

    /// Lets everybody in, or nobody without the role. What is written has the mark of what was read, so that nobody else's
    /// change is lost, and so that a repeated answer changes nothing.
    async fn settle_policy(&self, name: &Name, say: Say<'_>) -> Result<bool, ProvisionError> {
        let mut tries = 0;
        while let Some(policy) = self.wrong_policy(name).await? {
            tries += 1;
            let call = self.requests().allow(name, &policy);
            let sent = self.rest.api.send(&call, &Secrets::default()).await;
            match sent.map_err(taken) {
                Ok(_) => {
                    say(match self.options.public {
                        true => "everybody may call it",
                        false => "only who has the role run.invoker may call it",
                    });
                    return Ok(true);
                }
                Err(error) if error.is_ambiguous() && tries < TRIES => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tries > 0)
    }

    pub(super) async fn rescale(
        &self,
        name: &Name,
        scale: (u32, u32),
    ) -> Result<(), ProvisionError> {
        let there = self.there(name).await?;
        let template = there.get("template").cloned().unwrap_or_default();
        let call = self.requests().scale(name, &template, scale);
        let secrets = Secrets::default();
        let begun = self.rest.api.send(&call, &secrets).await?;
        self.rest
            .finish(
                &self.options.root(),
                &begun,
                (call.purpose.as_str(), BESIDES),
                (&secrets, ID),
            )
            .await
            .map(|_| ())
    }

    pub(super) async fn take_down(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<bool, ProvisionError> {
        let there = self.service(name).await?;
        if own(there.as_ref(), name)?.is_none() {
            return Ok(false);
        }
        let call = self.requests().delete(name);
        self.rest.gone(&self.options.root(), &call, BESIDES).await?;
        say(&format!("deleted the service {name}"));
        Ok(true)
    }
}
