//! Takes a deployment down, in an order in which nothing makes anything anew, and waits until it is gone; and finds what is
//! ours in a namespace.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::kind::{INSTANCE, Kind, MANAGED, OWNER, label};
use super::{ID, Kubernetes};
use crate::provision::platform::{Piece, Say};
use crate::provision::{Call, MANAGED_BY, Name, ProvisionError, Secrets};

/// Between two looks whether something is gone.
const LOOK: Duration = Duration::from_secs(1);
/// How often: a worker may take its whole grace, and finalizers theirs.
const LOOKS: u32 = 900;

impl Kubernetes {
    /// Takes down everything of a name. The cache goes too, unless it is to be kept.
    pub(super) async fn take_down(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<bool, ProvisionError> {
        let mut any = false;
        for kind in Kind::GOING {
            if kind == Kind::Claim && self.options.keep_cache {
                continue;
            }
            if self.let_go(kind, name).await? {
                any = true;
                say(&format!(
                    "deleted the {} ({})",
                    kind.noun(),
                    kind.called(name)
                ));
            }
        }
        Ok(any)
    }

    /// Deletes one object and waits until it is gone; says `false` when there was none.
    pub(super) async fn let_go(&self, kind: Kind, name: &Name) -> Result<bool, ProvisionError> {
        let Some(object) = self.find(kind, name).await? else {
            return Ok(false);
        };
        if object.pointer("/metadata/deletionTimestamp").is_none() {
            let cluster = self.cluster()?;
            let url = format!(
                "{}{}/{}",
                cluster.url,
                kind.path(&self.options.namespace),
                kind.called(name)
            );
            let uid = object.pointer("/metadata/uid");
            let call = Call::new(format!("delete the {}", kind.noun()), Method::DELETE, url)
                // Gone when its workers are gone too; and never another one of the same name.
                .with(json!({
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "propagationPolicy": "Foreground",
                    "preconditions": {"uid": uid},
                }));
            cluster.api.find(&call, &Secrets::default()).await?;
        }
        self.wait_until_gone(kind, name).await?;
        Ok(true)
    }

    pub(super) async fn wait_until_gone(
        &self,
        kind: Kind,
        name: &Name,
    ) -> Result<(), ProvisionError> {
        let mut holds = String::new();
        for _ in 0..LOOKS {
            let Some(object) = self.find(kind, name).await? else {
                return Ok(());
            };
            holds = object
                .pointer("/metadata/finalizers")
                .map(Value::to_string)
                .unwrap_or_default();
            tokio::time::sleep(LOOK.mul_f64(self.pace())).await;
        }
        Err(ProvisionError::Local {
            purpose: format!(
                "wait until the {} `{}` is gone",
                kind.noun(),
                kind.called(name)
            ),
            reason: format!("it is still there after {LOOKS} looks; finalizers: {holds}"),
        })
    }

    /// Everything in the namespace that bears our mark.
    pub(super) async fn all_ours(&self) -> Result<Vec<Piece>, ProvisionError> {
        let cluster = self.cluster()?;
        let mut found: Vec<(Kind, Value)> = Vec::new();
        for kind in Kind::ALL {
            let url = format!(
                "{}{}?labelSelector={}%3D{MANAGED_BY}",
                cluster.url,
                kind.path(&self.options.namespace),
                MANAGED.replace('/', "%2F"),
            );
            let call = Call::new(format!("list every {}", kind.noun()), Method::GET, url);
            let answer = cluster.api.find(&call, &Secrets::default()).await?;
            let items = answer.as_ref().and_then(|answer| answer.get("items"));
            let items = items.and_then(Value::as_array);
            found.extend(items.into_iter().flatten().map(|item| (kind, item.clone())));
        }
        let serves = |name: &Name| {
            found.iter().any(|(kind, object)| {
                matches!(kind, Kind::Deployment | Kind::InferenceService)
                    && label(object, INSTANCE) == Some(name.as_str())
            })
        };
        let piece = |(kind, object): &(Kind, Value)| {
            let name = Name::parse(label(object, INSTANCE)?).ok()?;
            Some(Piece {
                kind: kind.noun(),
                id: kind.called(&name),
                owner: label(object, OWNER).map(str::to_owned),
                orphan: !serves(&name),
                deployment: Some(name),
            })
        };
        Ok(found.iter().filter_map(piece).collect())
    }

    /// Takes one such thing down.
    pub(super) async fn drop_piece(&self, piece: &Piece) -> Result<(), ProvisionError> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.noun() == piece.kind);
        match (kind, &piece.deployment) {
            (Some(kind), Some(name)) => self.let_go(kind, name).await.map(|_| ()),
            _ => Err(ProvisionError::Unsupported {
                platform: ID,
                what: format!("kind of thing called {}", piece.kind),
                instead: "take it down with kubectl".to_owned(),
            }),
        }
    }
}
