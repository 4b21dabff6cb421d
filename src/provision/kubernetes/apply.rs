//! Makes and changes objects by server-side apply: the API merges what we say with what others say, and tells who owns which
//! field. What would change is asked by the same request as a dry run, so that what `--diff` shows is what happens.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::compare::changes;
use super::kind::{Kind, is_ours};
use super::manifests::{Object, Wanted};
use super::{ID, Kubernetes, MANAGER};
use crate::provision::api::Reply;
use crate::provision::platform::{Applied, Change, Say};
use crate::provision::{Call, Deployment, Name, ProvisionError, Secrets};

/// A request that applies a document.
pub(super) fn call(url: &str, namespace: &str, object: &Object, how: How) -> Call {
    let name = object.manifest.pointer("/metadata/name");
    let name = name.and_then(Value::as_str).unwrap_or_default();
    let path = object.kind.path(namespace);
    let mut url = format!("{url}{path}/{name}?fieldManager={MANAGER}&fieldValidation=Strict");
    if how.force {
        url.push_str("&force=true");
    }
    if how.dry {
        url.push_str("&dryRun=All");
    }
    let verb = match how.dry {
        true => "compare",
        false => "apply",
    };
    Call::new(
        format!("{verb} the {}", object.kind.noun()),
        Method::PATCH,
        url,
    )
    .header("content-type", "application/apply-patch+yaml")
    .with(object.manifest.clone())
    .repeatable()
}

/// How a document is applied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// Only said what would come of it.
    pub dry: bool,
    /// Fields that someone else owns are taken.
    pub force: bool,
}

impl Kubernetes {
    /// An object as it is; `None` where there is none. One of our name that is not ours is an error.
    pub(super) async fn find(
        &self,
        kind: Kind,
        name: &Name,
    ) -> Result<Option<Value>, ProvisionError> {
        let cluster = self.cluster()?;
        let called = kind.called(name);
        let url = format!(
            "{}{}/{called}",
            cluster.url,
            kind.path(&self.options.namespace)
        );
        let call = Call::new(format!("look at the {}", kind.noun()), Method::GET, url);
        let found = cluster.api.find(&call, &Secrets::default()).await?;
        match found {
            Some(object) if !is_ours(&object, name) => Err(ProvisionError::Foreign {
                platform: ID,
                what: kind.noun(),
                name: called,
            }),
            found => Ok(found),
        }
    }

    /// What is there of a deployment, of every kind that it may be made of.
    pub(super) async fn observe(&self, name: &Name) -> Result<Vec<(Kind, Value)>, ProvisionError> {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            if let Some(object) = self.find(kind, name).await? {
                found.push((kind, object));
            }
        }
        Ok(found)
    }

    /// Applies a document and gives it as it then is. Fields that another of our own requests has set are ours to take.
    async fn patch(
        &self,
        object: &Object,
        secrets: &Secrets,
        dry: bool,
    ) -> Result<Value, ProvisionError> {
        let cluster = self.cluster()?;
        let how = How {
            dry,
            force: self.options.force_conflicts,
        };
        let first = call(&cluster.url, &self.options.namespace, object, how);
        let reply = cluster.api.ask(&first, secrets).await?;
        if reply.status.is_success() {
            return Ok(reply.body);
        }
        if reply.status == StatusCode::CONFLICT && is_between_us(&reply) {
            let how = How { force: true, ..how };
            let second = call(&cluster.url, &self.options.namespace, object, how);
            return cluster.api.send(&second, secrets).await;
        }
        Err(match (reply.status, object.kind.belongs_to()) {
            (StatusCode::NOT_FOUND, Some(what)) if reply.at("/details/name").is_null() => {
                ProvisionError::Missing {
                    platform: ID,
                    what: format!("{what} in the cluster for a {}", object.kind.noun()),
                    remedy: format!("install {what}, or do without it"),
                }
            }
            (StatusCode::CONFLICT, _) => {
                let ProvisionError::Refused {
                    platform,
                    purpose,
                    status,
                    message,
                } = cluster.api.refusal(&first, secrets, &reply)
                else {
                    return Err(cluster.api.refusal(&first, secrets, &reply));
                };
                ProvisionError::Refused {
                    platform,
                    purpose,
                    status,
                    message: format!("{message}; --force-conflicts takes the fields back"),
                }
            }
            _ => cluster.api.refusal(&first, secrets, &reply),
        })
    }

    /// What exists and differs; `None` where nothing exists.
    pub(super) async fn differences(
        &self,
        deployment: &Deployment,
    ) -> Result<Option<Vec<Change>>, ProvisionError> {
        let mut wanted = Wanted::new(deployment, &self.options)?;
        let there = self.observe(&deployment.name).await?;
        if there.is_empty() {
            return Ok(None);
        }
        wanted.secret_version = version(&there);
        let objects = wanted.objects()?;
        let mut all = Vec::new();
        for object in &objects {
            all.extend(self.difference(object, &there, &deployment.secrets).await?);
        }
        all.extend(superfluous(&there, &objects).map(|(kind, _)| gone(kind)));
        Ok(Some(all))
    }

    async fn difference(
        &self,
        object: &Object,
        there: &[(Kind, Value)],
        secrets: &Secrets,
    ) -> Result<Vec<Change>, ProvisionError> {
        let live = there.iter().find(|(kind, _)| *kind == object.kind);
        let Some((_, live)) = live else {
            return Ok(vec![Change {
                field: object.kind.name().to_lowercase(),
                from: String::new(),
                to: object.kind.called(&named(object)?),
            }]);
        };
        let after = self.patch(object, secrets, true).await?;
        Ok(changes(object.kind, live, &after))
    }

    /// Makes what is missing and changes what differs, in order; takes away what is no longer wanted.
    pub(super) async fn make(
        &self,
        deployment: &Deployment,
        say: Say<'_>,
    ) -> Result<Applied, ProvisionError> {
        let mut wanted = Wanted::new(deployment, &self.options)?;
        // What cannot be written is said before anything is asked.
        wanted.objects()?;
        wanted.remarks().iter().for_each(|remark| say(remark));
        let name = &deployment.name;
        let there = self.settled(name, say).await?;
        let main = |kind: Kind| matches!(kind, Kind::Deployment | Kind::InferenceService);
        let created = !there.iter().any(|(kind, _)| main(*kind));
        wanted.secret_version = version(&there);
        let mut changed = Vec::new();
        for position in 0..wanted.objects()?.len() {
            // The secret comes first, and what pods are started with depends on its version.
            let objects = wanted.objects()?;
            let Some(object) = objects.get(position) else {
                break;
            };
            let differs = self.difference(object, &there, &deployment.secrets).await?;
            if differs.is_empty() {
                continue;
            }
            let made = self.patch(object, &deployment.secrets, false).await?;
            say(&format!(
                "applied the {} ({})",
                object.kind.noun(),
                object.kind.called(name)
            ));
            changed.extend(differs);
            if object.kind == Kind::Secret {
                wanted.secret_version = version(&[(Kind::Secret, made)]);
            }
        }
        let objects = wanted.objects()?;
        for (kind, _) in superfluous(&there, &objects) {
            self.let_go(kind, name).await?;
            say(&format!(
                "removed the {} ({})",
                kind.noun(),
                kind.called(name)
            ));
            changed.push(gone(kind));
        }
        Ok(Applied {
            created,
            changed: if created { Vec::new() } else { changed },
        })
    }

    /// What is there, after what was being deleted is gone.
    async fn settled(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<Vec<(Kind, Value)>, ProvisionError> {
        let there = self.observe(name).await?;
        let leaving: Vec<Kind> = there
            .iter()
            .filter(|(_, object)| object.pointer("/metadata/deletionTimestamp").is_some())
            .map(|(kind, _)| *kind)
            .collect();
        if leaving.is_empty() {
            return Ok(there);
        }
        say("waiting until what is being deleted is gone");
        for kind in leaving {
            self.wait_until_gone(kind, name).await?;
        }
        self.observe(name).await
    }
}

/// Whether every field in dispute is held by another kind of request of ours.
fn is_between_us(reply: &Reply) -> bool {
    let causes = reply.at("/details/causes").as_array();
    let ours = |cause: &Value| {
        let message = cause
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        message.starts_with(&format!("conflict with \"{MANAGER}\""))
    };
    causes.is_some_and(|causes| !causes.is_empty() && causes.iter().all(ours))
}

/// What is there and no longer wanted. A cache with weights in it is left until the endpoint goes.
fn superfluous<'a>(
    there: &'a [(Kind, Value)],
    objects: &'a [Object],
) -> impl Iterator<Item = (Kind, &'a Value)> {
    there
        .iter()
        .filter(|(kind, _)| *kind != Kind::Claim)
        .filter(|(kind, _)| objects.iter().all(|object| object.kind != *kind))
        .map(|(kind, object)| (*kind, object))
}

fn gone(kind: Kind) -> Change {
    Change {
        field: kind.name().to_lowercase(),
        from: "there".to_owned(),
        to: String::new(),
    }
}

fn named(object: &Object) -> Result<Name, ProvisionError> {
    let name = super::kind::label(&object.manifest, super::kind::INSTANCE);
    Name::parse(name.unwrap_or_default())
}

/// The version of the secret among what is there.
fn version(there: &[(Kind, Value)]) -> String {
    let secret = there.iter().find(|(kind, _)| *kind == Kind::Secret);
    let version = secret.and_then(|(_, secret)| secret.pointer("/metadata/resourceVersion"));
    version
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
