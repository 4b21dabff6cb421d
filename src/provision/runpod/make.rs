//! Makes an endpoint and changes it: looks at what exists first, so that a run that was killed anywhere is finished by the next.

use super::cached;
use super::calls;
use super::differ::Differences;
use super::endpoint::Endpoint;
use super::gpus::processors;
use super::shape::{Compute, Shape, endpoint_name};
use super::{ID, RunPod, refusal};
use crate::provision::{
    Applied, Call, Change, Deployment, Name, ProvisionError, Say, Secrets, ensure,
};

impl RunPod {
    pub(super) async fn shape(&self, wanted: &Deployment) -> Result<Shape, ProvisionError> {
        let compute = match wanted.hardware.is_empty() {
            true => {
                let processors = processors(&self.options.cpu, &wanted.needs);
                if wanted.needs.host_bytes > 0 {
                    let catalog = self.processor_catalog().await?;
                    catalog.check(&processors, &wanted.needs)?;
                }
                Compute::Cpu(processors)
            }
            false => {
                let catalog = self.catalog().await?;
                Compute::Gpu(catalog.select(&wanted.hardware, &wanted.needs)?)
            }
        };
        Shape::of(wanted, &self.options, compute)
    }

    pub(super) async fn compare(
        &self,
        wanted: &Deployment,
    ) -> Result<Option<Vec<Change>>, ProvisionError> {
        let Some(there) = self.observe(&wanted.name).await?.into_iter().next() else {
            return Ok(None);
        };
        let shape = self.shape(wanted).await?;
        Ok(Some(
            Differences::of(&shape, &there, &wanted.secrets).changes,
        ))
    }

    /// The deployment's endpoints. One that has our name and not our mark belongs to somebody else.
    async fn observe(&self, name: &Name) -> Result<Vec<Endpoint>, ProvisionError> {
        let called = endpoint_name(name);
        let all = self.endpoints().await?;
        let foreign = all
            .iter()
            .any(|endpoint| endpoint.name == called && endpoint.deployment().is_none());
        let ours = calls::marked(all, name);
        match ours.is_empty() && foreign {
            true => Err(ProvisionError::Foreign {
                platform: ID,
                what: "serverless endpoint",
                name: called,
            }),
            false => Ok(ours),
        }
    }

    /// The one that stays: the oldest. Two runs at the same time may have made more.
    async fn only(&self, name: &Name, say: Say<'_>) -> Result<Option<Endpoint>, ProvisionError> {
        let mut found = self.observe(name).await?.into_iter();
        let first = found.next();
        for other in found {
            say(&format!("removing a second endpoint ({})", other.id));
            self.drop_endpoint(&other).await?;
        }
        Ok(first)
    }

    pub(super) async fn make(
        &self,
        wanted: &Deployment,
        say: Say<'_>,
    ) -> Result<Applied, ProvisionError> {
        let there = self.only(&wanted.name, say).await?;
        let shape = self.shape(wanted).await?;
        let hidden = self.hidden(&wanted.secrets);
        if let Some(there) = there {
            let changed = self.mend(&shape, &there, (&hidden, wanted), say).await?;
            return Ok(Applied {
                created: false,
                changed,
            });
        }
        let pace = self.api.patience().pace;
        let look = async || self.only(&wanted.name, say).await;
        let make = async || self.create(&shape, (&hidden, wanted), say).await;
        let (made, created) = ensure(pace, look, make).await?;
        // Somebody else may have been at it too; lists may lag behind.
        let made = self.only(&wanted.name, say).await?.unwrap_or(made);
        if shape.cached.is_some() {
            self.mend(&shape, &made, (&hidden, wanted), say).await?;
        }
        Ok(Applied {
            created,
            changed: Vec::new(),
        })
    }

    async fn create(
        &self,
        shape: &Shape,
        (hidden, wanted): (&Secrets, &Deployment),
        say: Say<'_>,
    ) -> Result<Endpoint, ProvisionError> {
        let mut shape = shape.clone();
        loop {
            let sent = match shape.cached {
                Some(_) => self.create_cached(&shape, hidden).await,
                None => {
                    let call = calls::create(&self.options.api, &shape);
                    match self.api.send(&call, hidden).await {
                        Ok(answer) => self.parse(&call, answer),
                        Err(error) => Err(error),
                    }
                }
            };
            let error = match sent {
                Ok(made) => {
                    say(&format!("created the endpoint {} ({})", made.name, made.id));
                    return Ok(made);
                }
                Err(error) => error,
            };
            match refusal::most_workers(&error).filter(|most| *most < shape.max) {
                Some(most) => {
                    say(&quota(most));
                    shape = shape.with_at_most(most);
                }
                None => return Err(refusal::read(error, &wanted.hardware_names())),
            }
        }
    }

    async fn create_cached(
        &self,
        shape: &Shape,
        hidden: &Secrets,
    ) -> Result<Endpoint, ProvisionError> {
        let call = cached::create(&self.options.api, shape, &cached::suffix());
        let answer = self.api.send(&call, hidden).await?;
        if let Some(message) = cached::errors(&answer) {
            return Err(ProvisionError::Refused {
                platform: ID,
                purpose: call.purpose,
                status: 200,
                message: hidden.scrub(&message),
            });
        }
        let id = answer
            .pointer("/data/saveEndpoint/id")
            .and_then(|id| id.as_str());
        let id = id.ok_or_else(|| self.api.malformed(&call, "it has no id"))?;
        let find = calls::find(&self.options.api, id);
        let made = self.api.send(&find, hidden).await?;
        self.parse(&find, made)
    }

    /// Changes what differs, and nothing else.
    async fn mend(
        &self,
        shape: &Shape,
        there: &Endpoint,
        (hidden, wanted): (&Secrets, &Deployment),
        say: Say<'_>,
    ) -> Result<Vec<Change>, ProvisionError> {
        let mut shape = shape.clone();
        loop {
            let differences = Differences::of(&shape, there, &wanted.secrets);
            differences.check()?;
            if differences.patch.is_empty() {
                return Ok(differences.changes);
            }
            let call: Call = calls::change(&self.options.api, &there.id, differences.patch);
            let Err(error) = self.api.send(&call, hidden).await else {
                for change in &differences.changes {
                    say(&format!(
                        "changed {}: {} -> {}",
                        change.field, change.from, change.to
                    ));
                }
                return Ok(differences.changes);
            };
            match refusal::most_workers(&error).filter(|most| *most < shape.max) {
                Some(most) => {
                    say(&quota(most));
                    shape = shape.with_at_most(most);
                }
                None => return Err(refusal::read(error, &wanted.hardware_names())),
            }
        }
    }

    pub(super) async fn set_workers(
        &self,
        name: &Name,
        scale: (u32, u32),
    ) -> Result<(), ProvisionError> {
        let there = self.existing(name).await?;
        let call = calls::scale(&self.options.api, &there.id, scale);
        let hidden = self.hidden(&Secrets::default());
        self.api.send(&call, &hidden).await.map(|_| ())
    }
}

fn quota(most: u32) -> String {
    format!("this account may have {most} workers at most: going on with that as the most")
}
