//! Tokens: from whoever is to be asked, and kept until a minute before they run out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::ask::Asked;
use super::key::Key;
use super::{GsOptions, Login, METADATA, secret};
use crate::weights::WeightsError;

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
pub(super) struct Tokens {
    from: From,
    tries: u32,
    kept: Mutex<Option<(SecretString, Instant)>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    #[serde(default)]
    expires_in: u64,
}

impl Tokens {
    pub(super) fn new(options: &GsOptions) -> Result<Self, WeightsError> {
        let from = match &options.login {
            Login::Anonymous => From::Nowhere,
            Login::Token(token) => From::Given(token.clone()),
            Login::File(path) => From::Key(Box::new(Key::read(path)?)),
            Login::Auto => {
                let host = options.metadata_host.as_deref().unwrap_or(METADATA);
                let path = "computeMetadata/v1/instance/service-accounts/default/token";
                let url = Url::parse(&format!("http://{host}/{path}"));
                let url = url.map_err(|error| WeightsError::Unreachable {
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
            kept: Mutex::new(None),
        })
    }

    /// The header that says who asks; none for nobody.
    pub(super) async fn header(
        &self,
        client: &reqwest::Client,
    ) -> Result<Option<HeaderValue>, WeightsError> {
        let token = match &self.from {
            From::Nowhere => return Ok(None),
            From::Given(token) => token.clone(),
            From::Machine { url, there } if !is_there(client, url, there).await => return Ok(None),
            _ => match self.kept() {
                Some(token) => token,
                None => self.fetch(client).await?,
            },
        };
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        let mut value = value.map_err(|_| WeightsError::Denied {
            place: "Google Cloud Storage".to_owned(),
            what: "the access token has characters that no token has".to_owned(),
            wanted: "give it without quotes and blanks".to_owned(),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn kept(&self) -> Option<SecretString> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (token, until) = kept.as_ref()?;
        (Instant::now() < *until).then(|| token.clone())
    }

    async fn fetch(&self, client: &reqwest::Client) -> Result<SecretString, WeightsError> {
        let (place, request) = match &self.from {
            From::Key(key) => {
                let exchange = key.exchange(SystemTime::now());
                let exchange = exchange.map_err(|reason| WeightsError::Unreachable {
                    place: "Google's login".to_owned(),
                    reason,
                })?;
                let mut request = Request::new(Method::POST, exchange.url);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                request.headers_mut().insert(CONTENT_TYPE, form);
                *request.body_mut() = Some(exchange.form.expose_secret().to_owned().into());
                ("Google's login", request)
            }
            From::Machine { url, .. } => ("Google's metadata server", metadata(url)),
            From::Nowhere | From::Given(_) => {
                return Err(WeightsError::Unreachable {
                    place: "Google's login".to_owned(),
                    reason: "nobody to log in".to_owned(),
                });
            }
        };
        let asked = Asked {
            client,
            place,
            tries: self.tries,
            known: true,
            most: LONGEST,
        };
        let began = Instant::now();
        let body = asked.ask(&request).await?;
        // Why not the error: it may quote the token.
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| WeightsError::Malformed {
                place: place.to_owned(),
                reason: "the answer holds no access_token".to_owned(),
            })?;
        let lasts = Duration::from_secs(answer.expires_in.min(86_400)).saturating_sub(BEFORE_END);
        let token = answer.access_token;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((token.clone(), began + lasts));
        Ok(token)
    }
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
        tracing::debug!("no metadata server of Google's: buckets are read without a login");
    }
    *known.lock().unwrap_or_else(PoisonError::into_inner) = Some(there);
    there
}
