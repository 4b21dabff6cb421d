//! The simplest login: one key that does not run out.

use secrecy::{ExposeSecret, SecretString};

use super::api::Login;
use super::platform::Answer;

/// `Authorization: Bearer KEY`, or nothing.
pub(super) struct Bearer {
    /// The key.
    pub key: Option<SecretString>,
    /// What a person would do about a refusal.
    pub remedy: &'static str,
}

impl Login for Bearer {
    fn authorization(&self) -> Answer<'_, Option<SecretString>> {
        let key = self.key.as_ref();
        let header = key.map(|key| format!("Bearer {}", key.expose_secret()).into());
        Box::pin(async move { Ok(header) })
    }

    fn remedy(&self) -> String {
        self.remedy.to_owned()
    }
}
