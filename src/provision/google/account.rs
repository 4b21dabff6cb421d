//! Google's application default credentials as a platform's login, and as what opens the endpoint that was made.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::google::{GoogleError, Login, Scope, TokenOptions, Tokens};
use crate::provision::platform::Answer;
use crate::provision::{self, ProvisionError};
use crate::reach;

const GOOGLE: &str = "Google";
const REMEDY: &str = "log in with `gcloud auth application-default login`, name a credentials file with \
                      GOOGLE_APPLICATION_CREDENTIALS, or run on a machine of Google's; the account needs the platform's roles";

/// Whoever asks.
pub struct Account {
    tokens: Tokens,
    client: reqwest::Client,
}

impl Account {
    /// Reads the login's file, where it has one, and asks nobody yet.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(login: Login, metadata_host: Option<String>) -> Result<Arc<Self>, ProvisionError> {
        let options = TokenOptions {
            login,
            metadata_host,
            tries: 5,
            scope: Scope::CloudPlatform,
        };
        let client = reach::Client::downloads().map_err(|error| ProvisionError::Local {
            purpose: "set up a client for HTTP".to_owned(),
            reason: error.to_string(),
        })?;
        let tokens = Tokens::new(&options).map_err(failed)?;
        Ok(Arc::new(Self { tokens, client }))
    }

    /// The project that the login's file names.
    pub fn project(&self) -> Option<&str> {
        self.tokens.project()
    }

    /// The project that a user's requests are charged to.
    pub fn charged(&self) -> Option<&str> {
        self.tokens.charged()
    }

    /// What opens Google's own services.
    ///
    /// # Errors
    /// Why nobody is logged in.
    pub async fn access(&self) -> Result<SecretString, ProvisionError> {
        let token = self.tokens.access(&self.client).await.map_err(failed)?;
        token.ok_or_else(nobody)
    }

    /// What opens a private service at this address.
    ///
    /// # Errors
    /// Why nobody is logged in.
    pub async fn identity(&self, audience: &str) -> Result<SecretString, ProvisionError> {
        let token = self.tokens.identity(&self.client, audience).await;
        token.map_err(failed)?.ok_or_else(nobody)
    }
}

impl provision::Login for Account {
    fn authorization(&self) -> Answer<'_, Option<SecretString>> {
        Box::pin(async move {
            let token = self.access().await?;
            Ok(Some(format!("Bearer {}", token.expose_secret()).into()))
        })
    }

    fn remedy(&self) -> String {
        REMEDY.to_owned()
    }
}

fn nobody() -> ProvisionError {
    ProvisionError::Missing {
        platform: GOOGLE,
        what: "a login".to_owned(),
        remedy: REMEDY.to_owned(),
    }
}

fn failed(error: GoogleError) -> ProvisionError {
    let purpose = "log in".to_owned();
    match error {
        GoogleError::Login {
            place,
            what,
            wanted,
        } => ProvisionError::Missing {
            platform: GOOGLE,
            what: format!("a login that can be used: {place} {what}"),
            remedy: wanted,
        },
        GoogleError::Refused { status, said, .. } => ProvisionError::Denied {
            platform: GOOGLE,
            purpose,
            status,
            message: said,
            remedy: REMEDY.to_owned(),
        },
        other => ProvisionError::Unreachable {
            platform: GOOGLE,
            purpose,
            reason: other.to_string(),
        },
    }
}
