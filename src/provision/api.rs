//! Sends calls to a platform: with its login, with patience, and with the difference between "no" and "nobody knows". Apart
//! from [`Call`], which is what is sent.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::platform::Answer;
use super::wire::{Lost, Wire, why, within};
use super::{Call, ProvisionError, Secrets};

/// Longest answer that is read.
const LONGEST: usize = 32 << 20;
/// Longest text of a platform's error that is repeated.
const LONGEST_MESSAGE: usize = 600;

/// Who asks: gives the `Authorization` header, anew when the last has run out.
pub trait Login: Send + Sync {
    /// The header's whole value; `None` for nobody.
    fn authorization(&self) -> Answer<'_, Option<SecretString>>;
    /// What a person would do about a refusal: `check RUNPOD_API_KEY`.
    fn remedy(&self) -> String;
}

/// Nobody in particular, for what needs no login.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Login for Nobody {
    fn authorization(&self) -> Answer<'_, Option<SecretString>> {
        Box::pin(async { Ok(None) })
    }

    fn remedy(&self) -> String {
        "it takes no login from here".to_owned()
    }
}

/// How long and how often.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// Attempts in all.
    pub tries: u32,
    /// Before the second attempt; doubles with each, up to `longest_pause`.
    pub pause: Duration,
    /// The longest of these, and the longest `Retry-After` that is waited for.
    pub longest_pause: Duration,
    /// Each attempt's time.
    pub time: Duration,
    /// All pauses are multiplied by this: 1, and less in tests.
    pub pace: f64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 6,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(120),
            time: Duration::from_secs(60),
            pace: 1.0,
        }
    }
}

/// An answer of any status that was not worth another attempt.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body; a text where it is no JSON, null where it is empty.
    pub body: Value,
}

impl Reply {
    /// A field of the body, by its JSON pointer.
    pub fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }
}

/// A platform's API.
#[derive(Clone)]
pub struct Api {
    platform: &'static str,
    client: reqwest::Client,
    wire: Arc<dyn Wire>,
    login: Arc<dyn Login>,
    patience: Patience,
}

/// What became of one attempt.
enum Attempt {
    /// An answer that stands.
    Answered(Reply),
    /// Not done, and worth another attempt after this time at the earliest.
    NotNow(Option<Duration>, String),
    /// Never left this machine.
    Unsent(String),
    /// Sent, and the answer was lost or says nothing about whether it was done.
    Unknown(String),
}

impl Api {
    /// An API of a platform.
    ///
    /// # Errors
    /// When no client can be built on this machine.
    pub fn new(
        platform: &'static str,
        login: Arc<dyn Login>,
        patience: Patience,
    ) -> Result<Self, ProvisionError> {
        Self::over(platform, login, patience, |builder| builder)
    }

    /// An API that is reached in a way of its own, such as a socket.
    ///
    /// # Errors
    /// As [`Api::new`].
    pub fn over(
        platform: &'static str,
        login: Arc<dyn Login>,
        patience: Patience,
        way: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, ProvisionError> {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none()) // a login goes nowhere else
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("chandler/", env!("CARGO_PKG_VERSION")));
        let client = way(builder)
            .build()
            .map_err(|error| ProvisionError::Local {
                purpose: "set up a client for HTTP".to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Self {
            platform,
            wire: Arc::new(client.clone()),
            client,
            login,
            patience,
        })
    }

    /// The same, over another wire.
    pub fn on_wire(self, wire: Arc<dyn Wire>) -> Self {
        Self { wire, ..self }
    }

    /// The same, with other patience.
    pub fn patient(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// How long and how often.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// The client, for streams, which [`Api::send`] does not read.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The login's header.
    ///
    /// # Errors
    /// When there is no login to be had.
    pub async fn authorization(&self) -> Result<Option<HeaderValue>, ProvisionError> {
        let Some(text) = self.login.authorization().await? else {
            return Ok(None);
        };
        let value = HeaderValue::from_str(text.expose_secret());
        let mut value = value.map_err(|_| ProvisionError::Missing {
            platform: self.platform,
            what: "a key that can be sent".to_owned(),
            remedy: format!("{}: it has characters that no key has", self.login.remedy()),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Sends a call that has to succeed, and gives its answer's body.
    ///
    /// # Errors
    /// [`ProvisionError`]; `Ambiguous` when the call may have been carried out and must not be repeated blindly.
    pub async fn send(&self, call: &Call, secrets: &Secrets) -> Result<Value, ProvisionError> {
        let reply = self.ask(call, secrets).await?;
        match reply.status.is_success() {
            true => Ok(reply.body),
            false => Err(self.refusal(call, secrets, &reply)),
        }
    }

    /// Sends a call that may find nothing: `None` for a 404 or 410.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn find(
        &self,
        call: &Call,
        secrets: &Secrets,
    ) -> Result<Option<Value>, ProvisionError> {
        let reply = self.ask(call, secrets).await?;
        match reply.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(Some(reply.body)),
            _ => Err(self.refusal(call, secrets, &reply)),
        }
    }

    /// Sends a call and gives whatever answer stands, a refusal too.
    ///
    /// # Errors
    /// No answer: not reached, asked too often, or nobody knows.
    pub async fn ask(&self, call: &Call, secrets: &Secrets) -> Result<Reply, ProvisionError> {
        let mut pause = self.patience.pause;
        let mut tries = 1;
        let purpose = || call.purpose.clone();
        loop {
            let last = tries >= self.patience.tries;
            let wait = match self.attempt(call, secrets).await? {
                Attempt::Answered(reply) => return Ok(reply),
                Attempt::NotNow(after, message) => {
                    let wait = after.unwrap_or(pause);
                    if last || wait > self.patience.longest_pause {
                        return Err(ProvisionError::Busy {
                            platform: self.platform,
                            purpose: purpose(),
                            tries,
                            message,
                        });
                    }
                    wait
                }
                Attempt::Unsent(reason) if last => {
                    return Err(ProvisionError::Unreachable {
                        platform: self.platform,
                        purpose: purpose(),
                        reason,
                    });
                }
                Attempt::Unknown(reason) if last || !call.repeatable => {
                    return Err(ProvisionError::Ambiguous {
                        platform: self.platform,
                        purpose: purpose(),
                        reason,
                    });
                }
                Attempt::Unsent(_) | Attempt::Unknown(_) => pause,
            };
            tracing::debug!(platform = self.platform, purpose = call.purpose, tries, wait = ?wait, "asked again");
            tokio::time::sleep(wait.mul_f64(self.patience.pace)).await;
            pause = (pause * 2).min(self.patience.longest_pause);
            tries += 1;
        }
    }

    /// Opens a stream, such as a log that is followed: once, without a limit of time. The answer's status is a success.
    ///
    /// # Errors
    /// As [`Api::send`].
    pub async fn open(
        &self,
        call: &Call,
        secrets: &Secrets,
    ) -> Result<reqwest::Response, ProvisionError> {
        let request = self.request(call, secrets).await?;
        let response = self.wire.carry(request).await.map_err(|lost| {
            let (Lost::Unsent(reason) | Lost::Unknown(reason)) = lost;
            ProvisionError::Unreachable {
                platform: self.platform,
                purpose: call.purpose.clone(),
                reason: secrets.scrub(&reason),
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = body(response)
            .await
            .map_err(|reason| self.malformed(call, secrets.scrub(&reason)))?;
        Err(self.refusal(call, secrets, &Reply { status, body }))
    }

    /// The request, with its login and its secrets.
    async fn request(
        &self,
        call: &Call,
        secrets: &Secrets,
    ) -> Result<reqwest::Request, ProvisionError> {
        let mut headers = HeaderMap::new();
        if let Some(value) = self.authorization().await? {
            headers.insert(AUTHORIZATION, value);
        }
        let url = secrets.fill_text(&call.url);
        let mut request = self.client.request(call.method.clone(), url);
        request = request.headers(headers);
        for (name, value) in &call.headers {
            request = request.header(*name, secrets.fill_text(value));
        }
        if let Some(body) = &call.body {
            let text = secrets.fill(body).to_string();
            let typed = call
                .headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            if !typed {
                request = request.header("content-type", "application/json");
            }
            request = request.body(text);
        }
        request.build().map_err(|error| ProvisionError::Local {
            purpose: format!("write the request to {}", call.purpose),
            reason: secrets.scrub(&why(&error)),
        })
    }

    async fn attempt(&self, call: &Call, secrets: &Secrets) -> Result<Attempt, ProvisionError> {
        let mut request = self.request(call, secrets).await?;
        *request.timeout_mut() = Some(self.patience.time);
        let response = match self.wire.carry(request).await {
            Ok(response) => response,
            Err(Lost::Unsent(reason)) => return Ok(Attempt::Unsent(secrets.scrub(&reason))),
            Err(Lost::Unknown(reason)) => return Ok(Attempt::Unknown(secrets.scrub(&reason))),
        };
        let status = response.status();
        let after = retry_after(response.headers());
        let body = match within(Some(self.patience.time), body(response)).await {
            Some(Ok(body)) => body,
            Some(Err(reason)) => return Ok(Attempt::Unknown(secrets.scrub(&reason))),
            None => return Ok(Attempt::Unknown("no answer in time".to_owned())),
        };
        let told = || format!("{} (HTTP {})", said(&body, secrets), status.as_u16());
        Ok(match status.as_u16() {
            429 => Attempt::NotNow(after, told()),
            // Said to come back later: it was not done.
            503 if after.is_some() => Attempt::NotNow(after, told()),
            408 | 500 | 502 | 503 | 504 => Attempt::Unknown(told()),
            _ => Attempt::Answered(Reply { status, body }),
        })
    }

    /// A refusal as an error.
    pub fn refusal(&self, call: &Call, secrets: &Secrets, reply: &Reply) -> ProvisionError {
        let (platform, purpose) = (self.platform, call.purpose.clone());
        let status = reply.status.as_u16();
        let message = said(&reply.body, secrets);
        match status {
            401 | 403 => ProvisionError::Denied {
                platform,
                purpose,
                status,
                message,
                remedy: self.login.remedy(),
            },
            _ => ProvisionError::Refused {
                platform,
                purpose,
                status,
                message,
            },
        }
    }

    /// An answer that is not what was promised.
    pub fn malformed(&self, call: &Call, reason: impl Into<String>) -> ProvisionError {
        ProvisionError::Malformed {
            platform: self.platform,
            purpose: call.purpose.clone(),
            reason: reason.into(),
        }
    }
}

async fn body(mut response: reqwest::Response) -> Result<Value, String> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= LONGEST => {
                bytes.extend_from_slice(&chunk)
            }
            Ok(Some(_)) => return Err(format!("the answer has more than {LONGEST} bytes")),
            Ok(None) => break,
            Err(error) => return Err(why(&error)),
        }
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

/// What a platform says is wrong, wherever it says it.
fn said(body: &Value, secrets: &Secrets) -> String {
    let text = |pointer: &str| {
        let text = body.pointer(pointer)?.as_str()?;
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    let list = |pointer: &str| {
        let list = body.pointer(pointer)?.as_array()?;
        let one = |entry: &Value| {
            entry
                .as_str()
                .or_else(|| entry.get("message")?.as_str())
                .map(str::to_owned)
        };
        let texts: Vec<String> = list.iter().filter_map(one).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    // google.rpc.Status, problem+json, Kubernetes' Status, and what the rest do.
    let first = [
        "/error/message",
        "/detail",
        "/message",
        "/error",
        "/msg",
        "/title",
    ]
    .into_iter()
    .find_map(text);
    let more = list("/errors");
    let message = match (first, more) {
        (Some(first), Some(more)) => format!("{first}: {more}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => match body {
            Value::Null => "no reason given".to_owned(),
            Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            other => other.to_string(),
        },
    };
    // In this order: half a secret would not be found.
    let message = secrets.scrub(&message);
    message.chars().take(LONGEST_MESSAGE).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_reason_is_found_wherever_a_platform_puts_it() {
        let secrets: Secrets = [("A".to_owned(), "hush".into())].into_iter().collect();
        for (body, message) in [
            (
                json!({"error": {"code": 404, "message": "no such model"}}),
                "no such model",
            ),
            (
                json!({"title": "Unprocessable", "detail": "bad body", "errors": ["$: additional properties 'x' not allowed"]}),
                "bad body: $: additional properties 'x' not allowed",
            ),
            (
                json!({"errors": [{"message": "Something went wrong"}]}),
                "Something went wrong",
            ),
            (
                json!({"success": false, "error": "no_such_ask", "msg": "gone"}),
                "no_such_ask",
            ),
            (json!("bad gateway\n for hush"), "bad gateway for ********"),
            (Value::Null, "no reason given"),
        ] {
            assert_eq!(said(&body, &secrets), message);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| {
            let headers =
                HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(of("12"), Some(Duration::from_secs(12)));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }
}
