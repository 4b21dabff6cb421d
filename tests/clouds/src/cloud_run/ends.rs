//! What an operation of Cloud Run comes to when it ends, and who is called then.

use serde_json::{Value, json};

use crate::google::login::identity;
use crate::google::operations::Effect;
use crate::google::schema::text;
use crate::google::{REGION, State};
use crate::{Reply, Request};

/// What happens when an operation ends.
pub(crate) fn end(state: &mut State, effect: &Effect) -> Result<Value, (i64, String)> {
    let gone = || (5, "it is gone".to_owned());
    let (id, generation) = match effect {
        Effect::Stop { service } => {
            let there = state.services.remove(service).ok_or_else(gone)?;
            return Ok(typed(there.body));
        }
        Effect::Start {
            service,
            generation,
        } => (service, *generation),
        _ => return Err(gone()),
    };
    let flaw = flaw(state, id);
    let service = state.services.get_mut(id).ok_or_else(gone)?;
    if service.generation != generation {
        return Ok(typed(service.body.clone()));
    }
    let body = &mut service.body;
    body["reconciling"] = false.into();
    body["observedGeneration"] = generation.to_string().into();
    match flaw {
        None => {
            body["latestReadyRevision"] = body["latestCreatedRevision"].clone();
            body["terminalCondition"] = json!({"type": "Ready", "state": "CONDITION_SUCCEEDED"});
            Ok(typed(body.clone()))
        }
        Some((code, reason, message)) => {
            body["terminalCondition"] = json!({
                "type": "Ready", "state": "CONDITION_FAILED", "message": message,
                "revisionReason": reason, "severity": "ERROR",
            });
            Err((code, message))
        }
    }
}

fn typed(mut service: Value) -> Value {
    service["@type"] = "type.googleapis.com/google.cloud.run.v2.Service".into();
    service
}

/// Why a service's newest revision does not start.
fn flaw(state: &State, id: &str) -> Option<(i64, &'static str, String)> {
    let body = &state.services.get(id)?.body;
    let container = &body["template"]["containers"][0];
    let image = text(container, "/image");
    if image.contains("missing") {
        return Some((
            5,
            "CONTAINER_MISSING",
            format!("Image '{image}' not found."),
        ));
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let secret = text(variable, "/valueSource/secretKeyRef/secret");
        if !secret.is_empty() && !state.setup.secrets.iter().any(|known| known == secret) {
            let message =
                format!("Permission denied on secret: {secret} for Revision service account");
            return Some((7, "SECRETS_ACCESS_CHECK_FAILED", message));
        }
    }
    let accelerator = text(body, "/template/nodeSelector/accelerator");
    if state.lacks(&[accelerator]) {
        let message = format!("{REGION} does not have enough resources for {accelerator}");
        return Some((8, "REVISION_FAILED", message));
    }
    let broken = state.setup.broken.as_ref()?;
    let message = format!(
        "The user-provided container failed to start and listen on the port defined provided by the PORT=8080 \
         environment variable within the allocated timeout: {broken}"
    );
    Some((9, "HEALTH_CHECK_CONTAINER_ERROR", message))
}

/// Who is called by a request for `NAME/…`, and under which path.
pub(crate) fn invoke(
    state: &State,
    request: &Request,
    path: &str,
) -> Result<(String, String), Reply> {
    let (id, below) = path.split_once('/').unwrap_or((path, ""));
    let Some(service) = state.services.get(id) else {
        return Err(Reply::bytes(
            404,
            "text/html",
            "<html>Page not found</html>",
        ));
    };
    let bindings = service.policy["bindings"].as_array();
    let public = bindings.into_iter().flatten().any(|binding| {
        let members = binding["members"].as_array();
        binding["role"] == "roles/run.invoker"
            && members.is_some_and(|members| members.contains(&"allUsers".into()))
    });
    let token = format!("Bearer {}", identity(text(&service.body, "/uri")));
    if !public && request.header("authorization") != Some(&token) {
        return Err(Reply::bytes(
            403,
            "text/html",
            "<html>Your client does not have permission</html>",
        ));
    }
    match (&state.setup.worker, service.body.get("latestReadyRevision")) {
        (Some(worker), Some(_)) => Ok((worker.clone(), format!("/{below}"))),
        _ => Err(Reply::bytes(503, "text/plain", "Service Unavailable")),
    }
}
