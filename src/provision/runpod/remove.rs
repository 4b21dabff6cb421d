//! Takes endpoints down, and finds what bears our mark.

use super::cached;
use super::calls;
use super::endpoint::Endpoint;
use super::{ID, RunPod};
use crate::provision::{Name, Piece, ProvisionError, Say, Secrets};

const ENDPOINT: &str = "endpoint";
const TEMPLATE: &str = "template";

impl RunPod {
    pub(super) async fn take_down(
        &self,
        name: &Name,
        say: Say<'_>,
    ) -> Result<bool, ProvisionError> {
        let ours = self.of_deployment(name).await?;
        let mut found = !ours.is_empty();
        for endpoint in &ours {
            self.drop_endpoint(endpoint).await?;
            say(&format!(
                "deleted the endpoint {} ({})",
                endpoint.name, endpoint.id
            ));
        }
        // RunPod deletes an endpoint's template with it; one is left when an endpoint with a cached model was never finished.
        for template in self.templates().await? {
            if template.deployment().as_ref() != Some(name) {
                continue;
            }
            found = true;
            match self.drop_template(&template.id).await {
                Ok(()) => say(&format!("deleted the template {}", template.id)),
                // Still held by the endpoint that is being deleted, and goes with it.
                Err(ProvisionError::Refused {
                    status: 400,
                    message,
                    ..
                }) => say(&format!(
                    "left the template {} to RunPod: {message}",
                    template.id
                )),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Deletes an endpoint; one that is gone already is no error.
    pub(super) async fn drop_endpoint(&self, endpoint: &Endpoint) -> Result<(), ProvisionError> {
        let api = &self.options.api;
        let hidden = self.hidden(&Secrets::default());
        // GraphQL's rule for what it made: no workers first. API v2 documents none, and loses nothing by it.
        let idle = endpoint.workers.min == 0 && endpoint.workers.max == 0;
        if endpoint.variable(cached::VARIABLE).is_some() && !idle {
            let stop = calls::scale(api, &endpoint.id, (0, 0));
            self.api.find(&stop, &hidden).await?;
        }
        let delete = calls::delete(api, &endpoint.id);
        self.api.find(&delete, &hidden).await.map(|_| ())
    }

    async fn drop_template(&self, id: &str) -> Result<(), ProvisionError> {
        let delete = calls::delete_template(&self.options.api, id);
        let hidden = self.hidden(&Secrets::default());
        self.api.find(&delete, &hidden).await.map(|_| ())
    }

    pub(super) async fn pieces(&self) -> Result<Vec<Piece>, ProvisionError> {
        let endpoints = self.endpoints().await?;
        let marked: Vec<(Name, &Endpoint)> = endpoints
            .iter()
            .filter_map(|endpoint| Some((endpoint.deployment()?, endpoint)))
            .collect();
        let mut pieces: Vec<Piece> = marked
            .iter()
            .map(|(deployment, endpoint)| Piece {
                kind: ENDPOINT,
                id: endpoint.id.clone(),
                deployment: Some(deployment.clone()),
                owner: endpoint.owner(),
                orphan: false,
            })
            .collect();
        let bound = |name: &Name| marked.iter().any(|(deployment, _)| deployment == name);
        for template in self.templates().await? {
            let Some(deployment) = template.deployment().filter(|name| !bound(name)) else {
                continue;
            };
            pieces.push(Piece {
                kind: TEMPLATE,
                id: template.id.clone(),
                deployment: Some(deployment),
                owner: template.owner(),
                orphan: true,
            });
        }
        Ok(pieces)
    }

    pub(super) async fn remove_piece(&self, piece: &Piece) -> Result<(), ProvisionError> {
        if piece.kind == TEMPLATE {
            return self.drop_template(&piece.id).await;
        }
        let find = calls::find(&self.options.api, &piece.id);
        let hidden = self.hidden(&Secrets::default());
        let Some(there) = self.api.find(&find, &hidden).await? else {
            return Ok(());
        };
        let there: Endpoint = self.parse(&find, there)?;
        match there.deployment() {
            Some(_) => self.drop_endpoint(&there).await,
            None => Err(ProvisionError::Foreign {
                platform: ID,
                what: "serverless endpoint",
                name: there.name,
            }),
        }
    }
}
