//! A credentials file of Google's: a service account's key, which signs a claim that is exchanged for a token, or a user's
//! refresh token. Signed with aws-lc-rs, which is in the program as rustls' provider: another RSA would be a second one.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{GoogleError, Scope, secret};

const EXCHANGE: &str = "https://oauth2.googleapis.com/token";
/// How long a claim holds; Google takes no more.
const HOLDS: u64 = 3600;

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written {
    ServiceAccount {
        client_email: String,
        #[serde(deserialize_with = "secret")]
        private_key: SecretString,
        #[serde(default)]
        private_key_id: Option<String>,
        #[serde(default)]
        project_id: Option<String>,
        #[serde(default)]
        token_uri: Option<String>,
    },
    AuthorizedUser {
        client_id: String,
        #[serde(deserialize_with = "secret")]
        client_secret: SecretString,
        #[serde(deserialize_with = "secret")]
        refresh_token: SecretString,
        #[serde(default)]
        quota_project_id: Option<String>,
        #[serde(default)]
        token_uri: Option<String>,
    },
    #[serde(other)]
    Other,
}

/// Only its kind, to name one that is not read.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

/// What a login is exchanged for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// An access token, for Google's own services.
    Access(Scope),
    /// An ID token, for a service of somebody's that is at this address.
    Identity(&'a str),
}

/// A login that can be exchanged for a token.
pub(super) struct Key {
    written: Written,
    exchange: Url,
}

/// What is sent for a token: where to, and a form.
pub(super) struct Exchange {
    pub url: Url,
    pub form: SecretString,
}

impl Key {
    pub(super) fn read(path: &Path) -> Result<Self, GoogleError> {
        let bad = |what: String| {
            GoogleError::Login {
            place: path.display().to_string(),
            what,
            wanted: "give the JSON file of a service account's key, or the one that `gcloud auth application-default login` makes"
                .to_owned(),
        }
        };
        let bytes = fs::read(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        // Why no more of the error: it may quote what is in the file.
        let written: Written = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("is no credentials file (line {})", error.line())))?;
        let exchange = match &written {
            Written::ServiceAccount { token_uri, .. }
            | Written::AuthorizedUser { token_uri, .. } => token_uri.as_deref().unwrap_or(EXCHANGE),
            Written::Other => {
                let kind = serde_json::from_slice(&bytes).map(|Kind { kind }| kind);
                let kind: String = kind.unwrap_or_default().chars().take(60).collect();
                return Err(bad(format!("is of the type `{kind}`, which is not read")));
            }
        };
        let exchange =
            Url::parse(exchange).map_err(|_| bad("its token_uri is no address".to_owned()))?;
        let key = Self { written, exchange };
        // A key that cannot sign is told of now, by the file's name.
        key.exchange(Wanted::Access(Scope::ReadStorage), SystemTime::now())
            .map_err(bad)?;
        Ok(key)
    }

    /// The project that the file names: the account's own, or the one that a user's requests are charged to.
    pub(super) fn project(&self) -> Option<&str> {
        match &self.written {
            Written::ServiceAccount { project_id, .. } => project_id.as_deref(),
            Written::AuthorizedUser {
                quota_project_id, ..
            } => quota_project_id.as_deref(),
            Written::Other => None,
        }
    }

    /// The project that requests are charged to, where it is not the one that they are about: a user's.
    pub(super) fn charged(&self) -> Option<&str> {
        match &self.written {
            Written::AuthorizedUser {
                quota_project_id, ..
            } => quota_project_id.as_deref(),
            Written::ServiceAccount { .. } | Written::Other => None,
        }
    }

    /// The request for a token. A user's is the same for both kinds: its answer holds both.
    pub(super) fn exchange(&self, wanted: Wanted<'_>, now: SystemTime) -> Result<Exchange, String> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let form = match &self.written {
            Written::AuthorizedUser {
                client_id,
                client_secret,
                refresh_token,
                ..
            } => format!(
                "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
                encoded(client_id),
                encoded(client_secret.expose_secret()),
                encoded(refresh_token.expose_secret())
            ),
            Written::ServiceAccount {
                client_email,
                private_key,
                private_key_id,
                ..
            } => {
                let header = json!({"alg": "RS256", "typ": "JWT", "kid": private_key_id});
                let from = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let mut claims = json!({
                    "iss": client_email, "aud": self.exchange.as_str(), "iat": from, "exp": from + HOLDS,
                });
                match wanted {
                    Wanted::Access(scope) => claims["scope"] = scope.as_str().into(),
                    Wanted::Identity(audience) => claims["target_audience"] = audience.into(),
                }
                let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let claim = format!("{}.{}", part(&header), part(&claims));
                let signature = URL_SAFE_NO_PAD.encode(sign(private_key, claim.as_bytes())?);
                format!(
                    "grant_type={}&assertion={claim}.{signature}",
                    encoded("urn:ietf:params:oauth:grant-type:jwt-bearer")
                )
            }
            Written::Other => return Err("is of a kind that is not read".to_owned()),
        };
        Ok(Exchange {
            url: self.exchange.clone(),
            form: form.into(),
        })
    }
}

fn sign(pem: &SecretString, message: &[u8]) -> Result<Vec<u8>, String> {
    let bad = || "its private_key is no RSA key in PEM (BEGIN PRIVATE KEY)".to_owned();
    let body = pem.expose_secret();
    let body = body
        .split_once("-----BEGIN PRIVATE KEY-----")
        .ok_or_else(bad)?
        .1;
    let body = body
        .split_once("-----END PRIVATE KEY-----")
        .ok_or_else(bad)?
        .0;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    let der = STANDARD.decode(body).map_err(|_| bad())?;
    let key = RsaKeyPair::from_pkcs8(&der).map_err(|_| bad())?;
    let mut signature = vec![0; key.public_modulus_len()];
    let signed = key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        message,
        &mut signature,
    );
    signed.map_err(|_| bad())?;
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};

    use super::*;

    fn key(file: &serde_json::Value) -> Result<Key, GoogleError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login.json");
        fs::write(&path, file.to_string()).unwrap();
        Key::read(&path)
    }

    #[test]
    fn a_service_account_claims_a_scope_or_an_audience_and_never_both() {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(der.as_ref())
        );
        let key = key(&json!({
            "type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key": pem, "project_id": "p",
        }))
        .unwrap();
        assert_eq!((key.project(), key.charged()), (Some("p"), None));
        let claims = |wanted| {
            let form = key.exchange(wanted, SystemTime::now()).unwrap().form;
            let claim = form.expose_secret().rsplit('=').next().unwrap().to_owned();
            let part = claim.split('.').nth(1).unwrap();
            let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
        };
        let access = claims(Wanted::Access(Scope::CloudPlatform));
        assert_eq!(
            access["scope"],
            "https://www.googleapis.com/auth/cloud-platform"
        );
        assert_eq!(access["aud"], EXCHANGE);
        assert!(access.get("target_audience").is_none());
        let identity = claims(Wanted::Identity("https://one.run.app"));
        assert_eq!(identity["target_audience"], "https://one.run.app");
        assert!(identity.get("scope").is_none());
    }

    #[test]
    fn a_kind_that_is_not_read_is_named() {
        for kind in ["external_account", "impersonated_service_account"] {
            let Err(error) = key(&json!({"type": kind, "audience": "x"})) else {
                panic!("{kind}");
            };
            assert!(error.to_string().contains(kind), "{error}");
        }
    }
}
