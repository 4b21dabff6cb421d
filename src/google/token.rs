//! Tokens: from whoever is to be asked, and kept until a minute before they run out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::ask::Asked;
use super::key::{Key, Wanted};
use super::{GoogleError, Login, METADATA, Scope, TokenOptions, secret};

/// A token is not used so shortly before its end.
const BEFORE_END: Duration = Duration::from_secs(60);
/// How long the metadata server may take to say that it is there: it is on the same machine, or nowhere.
const IS_THERE: Duration = Duration::from_secs(3);
const LONGEST: usize = 64 << 10;

/// Where tokens come from.
enum From {
    Nowhere,
    Given(SecretString),
    Key(Box<Key>),
    /// The metadata server, unless it turns out that there is none.
    Machine {
        url: Url,
        there: Mutex<Option<bool>>,
    },
}

/// Whoever asks, with the token that they have at the moment.
pub struct Tokens {
    from: From,
    tries: u32,
    scope: Scope,
    kept: Mutex<Option<(SecretString, Instant)>>,
}

#[derive(Deserialize)]
struct Access {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    #[serde(default)]
    expires_in: u64,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(deserialize_with = "secret")]
    id_token: SecretString,
}

impl Tokens {
    /// Reads the login's file, where it has one, and asks nobody yet.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(options: &TokenOptions) -> Result<Self, GoogleError> {
        let from = match &options.login {
            Login::Anonymous => From::Nowhere,
            Login::Token(token) => From::Given(token.clone()),
            Login::File(path) => From::Key(Box::new(Key::read(path)?)),
            Login::Auto => {
                let host = options.metadata_host.as_deref().unwrap_or(METADATA);
                let path = "computeMetadata/v1/instance/service-accounts/default/token";
                let url = Url::parse(&format!("http://{host}/{path}"));
                let url = url.map_err(|error| GoogleError::Unreachable {
                    place: "the metadata server".to_owned(),
                    reason: format!("`{host}` is no host: {error}"),
                })?;
                let there = Mutex::new(None);
                From::Machine { url, there }
            }
        };
        Ok(Self {
            from,
            tries: options.tries,
            scope: options.scope,
            kept: Mutex::new(None),
        })
    }

    /// The project that the login's file names.
    pub fn project(&self) -> Option<&str> {
        match &self.from {
            From::Key(key) => key.project(),
            _ => None,
        }
    }

    /// The project that a user's requests are charged to (`x-goog-user-project`), where the login's file names one.
    pub fn charged(&self) -> Option<&str> {
        match &self.from {
            From::Key(key) => key.charged(),
            _ => None,
        }
    }

    /// An access token; none for nobody.
    ///
    /// # Errors
    /// Why there is none to be had.
    pub async fn access(
        &self,
        client: &reqwest::Client,
    ) -> Result<Option<SecretString>, GoogleError> {
        match &self.from {
            From::Nowhere => return Ok(None),
            From::Given(token) => return Ok(Some(token.clone())),
            From::Machine { url, there } if !is_there(client, url, there).await => return Ok(None),
            From::Machine { .. } | From::Key(_) => {}
        }
        if let Some(token) = self.kept() {
            return Ok(Some(token));
        }
        let began = Instant::now();
        let body = self.fetch(client, Wanted::Access(self.scope)).await?;
        // Why not the error: it may quote the token.
        let answer: Access =
            serde_json::from_slice(&body).map_err(|_| self.malformed("access_token"))?;
        let lasts = Duration::from_secs(answer.expires_in.min(86_400)).saturating_sub(BEFORE_END);
        let token = answer.access_token;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((token.clone(), began + lasts));
        Ok(Some(token))
    }

    /// The header that says who asks; none for nobody.
    ///
    /// # Errors
    /// As [`Tokens::access`].
    pub async fn header(
        &self,
        client: &reqwest::Client,
    ) -> Result<Option<HeaderValue>, GoogleError> {
        let Some(token) = self.access(client).await? else {
            return Ok(None);
        };
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let mut value = value.map_err(|_| GoogleError::Login {
            place: "Google's login".to_owned(),
            what: "the access token has characters that no token has".to_owned(),
            wanted: "give it without quotes and blanks".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// An ID token for a service at this address; none for nobody. A user's is Google's own client's, as
    /// `gcloud auth print-identity-token` gives it.
    ///
    /// # Errors
    /// As [`Tokens::access`], and for an access token that was given as one.
    pub async fn identity(
        &self,
        client: &reqwest::Client,
        audience: &str,
    ) -> Result<Option<SecretString>, GoogleError> {
        match &self.from {
            From::Nowhere => return Ok(None),
            From::Given(_) => {
                return Err(GoogleError::Login {
                    place: "the access token".to_owned(),
                    what: format!("it opens Google's services, and not {audience}"),
                    wanted: "log in with a credentials file or on a machine of Google's, or make the service public"
                        .to_owned(),
                });
            }
            From::Machine { url, there } if !is_there(client, url, there).await => return Ok(None),
            From::Machine { .. } | From::Key(_) => {}
        }
        let body = self.fetch(client, Wanted::Identity(audience)).await?;
        if matches!(self.from, From::Machine { .. }) {
            let text = std::str::from_utf8(&body).map_err(|_| self.malformed("ID token"))?;
            return Ok(Some(text.trim().to_owned().into()));
        }
        let answer: Identity =
            serde_json::from_slice(&body).map_err(|_| self.malformed("id_token"))?;
        Ok(Some(answer.id_token))
    }

    fn kept(&self) -> Option<SecretString> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, until) = kept.as_ref()?;
        (Instant::now() < *until).then(|| token.clone())
    }

    fn place(&self) -> &'static str {
        match &self.from {
            From::Machine { .. } => "Google's metadata server",
            _ => "Google's login",
        }
    }

    fn malformed(&self, what: &str) -> GoogleError {
        GoogleError::Malformed {
            place: self.place().to_owned(),
            reason: format!("the answer holds no {what}"),
        }
    }

    async fn fetch(
        &self,
        client: &reqwest::Client,
        wanted: Wanted<'_>,
    ) -> Result<Bytes, GoogleError> {
        let unreachable = |reason: String| GoogleError::Unreachable {
            place: self.place().to_owned(),
            reason,
        };
        let request = match &self.from {
            From::Key(key) => {
                let exchange = key.exchange(wanted, SystemTime::now());
                let exchange = exchange.map_err(unreachable)?;
                let mut request = Request::new(Method::POST, exchange.url);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, form);
                *request.body_mut() = Some(exchange.form.expose_secret().to_owned().into());
                request
            }
            From::Machine { url, .. } => match wanted {
                Wanted::Access(_) => metadata(url),
                Wanted::Identity(audience) => metadata(&identity(url, audience)),
            },
            From::Nowhere | From::Given(_) => {
                return Err(unreachable("nobody to log in".to_owned()));
            }
        };
        let asked = Asked {
            client,
            place: self.place(),
            tries: self.tries,
            most: LONGEST,
        };
        asked.ask(&request).await
    }
}

/// The metadata server's address of ID tokens, which is beside that of access tokens.
fn identity(token: &Url, audience: &str) -> Url {
    let mut url = token.clone();
    url.set_path(&token.path().replace("/token", "/identity"));
    url.query_pairs_mut()
        .append_pair("audience", audience)
        .append_pair("format", "full");
    url
}

fn metadata(url: &Url) -> Request {
    let mut request = Request::new(Method::GET, url.clone());
    let google = HeaderValue::from_static("Google");
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", google);
    *request.headers_mut() = headers;
    request
}

/// Whether there is a metadata server: asked once, since off Google's machines there is never one.
async fn is_there(client: &reqwest::Client, url: &Url, known: &Mutex<Option<bool>>) -> bool {
    let told = *known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = told {
        return there;
    }
    let answer = tokio::time::timeout(IS_THERE, client.execute(metadata(url))).await;
    // Others may listen at that address of a private network; the real one says what it is.
    let there = matches!(&answer, Ok(Ok(response))
        if response.headers().get("metadata-flavor").is_some_and(|value| value == "Google"));
    if !there {
        tracing::debug!("no metadata server of Google's: nobody is logged in");
    }
    *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(there);
    there
}
