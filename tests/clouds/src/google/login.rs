//! Google's login server and a machine's metadata server: who asks for a token and gets one. Signatures of claims are not looked
//! at here; the tests of `gs://` verify them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{Reply, Request};

/// The access token that opens everything.
pub const TOKEN: &str = "ya29.token-of-the-double";
const JWT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The ID token for a service.
pub fn identity(audience: &str) -> String {
    format!("identity-for-{audience}")
}

/// An answer, when a login is asked for.
pub fn answer(request: &Request) -> Option<Reply> {
    match request.path.as_str() {
        "/token" => Some(exchange(request)),
        path if path.starts_with("/computeMetadata/v1/") => Some(machine(request, path)),
        _ => None,
    }
}

fn machine(request: &Request, path: &str) -> Reply {
    let reply = if request.header("metadata-flavor") != Some("Google") {
        return Reply::empty(403);
    } else if path.ends_with("/service-accounts/default/token") {
        Reply::json(200, &access())
    } else if path.ends_with("/service-accounts/default/identity") {
        match request.parameter("audience") {
            Some(audience) => Reply::bytes(200, "text/html", identity(audience)),
            None => Reply::bytes(400, "text/plain", "non-empty audience parameter required"),
        }
    } else {
        Reply::empty(404)
    };
    reply.with("metadata-flavor", "Google")
}

fn access() -> Value {
    json!({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})
}

fn refused(why: &str) -> Reply {
    let body = json!({"error": "invalid_grant", "error_description": why});
    Reply::json(400, &body)
}

fn exchange(request: &Request) -> Reply {
    let form = String::from_utf8_lossy(&request.bytes).into_owned();
    let field = |wanted: &str| {
        let found = form.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = found.filter(|(key, _)| *key == wanted);
        let (_, value) = values.next()?;
        Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
    };
    match field("grant_type").as_deref() {
        Some("refresh_token") => {
            let whole = ["client_id", "client_secret", "refresh_token"]
                .iter()
                .all(|name| field(name).is_some_and(|value| !value.is_empty()));
            match whole {
                true => {
                    let mut body = access();
                    body["id_token"] = identity("the-users-client").into();
                    Reply::json(200, &body)
                }
                false => refused("Bad Request"),
            }
        }
        Some(JWT) => claim(&field("assertion").unwrap_or_default()),
        _ => refused("Unsupported grant type"),
    }
}

fn claim(assertion: &str) -> Reply {
    let part = assertion.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let time = |name: &str| claims[name].as_u64().unwrap_or(0);
    let holds = time("exp").saturating_sub(time("iat"));
    if !(1..=3600).contains(&holds)
        || !claims["aud"]
            .as_str()
            .is_some_and(|aud| aud.ends_with("/token"))
    {
        return refused("Invalid JWT: Token must be a short-lived token (60 minutes)");
    }
    match (claims["scope"].as_str(), claims["target_audience"].as_str()) {
        (Some(CLOUD_PLATFORM), None) => Reply::json(200, &access()),
        (None, Some(audience)) => Reply::json(200, &json!({"id_token": identity(audience)})),
        _ => refused("Invalid OAuth scope or ID token audience provided."),
    }
}
