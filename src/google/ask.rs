//! One request to Google with its patience: what is worth another try, and how long to wait for it. What a refusal means is
//! for those to say who know what was asked.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::RETRY_AFTER;
use reqwest::{Request, Response, StatusCode};
use serde_json::Value;

use super::GoogleError;
use crate::reach;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// A wait that a server asks for is kept up to this.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// From a request's first byte to its answer's last.
const TIME: Duration = Duration::from_secs(60);

/// Where requests go, for errors to tell of, and how often.
pub struct Asked<'a> {
    /// Who sends it.
    pub client: &'a reqwest::Client,
    /// Who is asked.
    pub place: &'a str,
    /// How often at most.
    pub tries: u32,
    /// The longest answer, in bytes.
    pub most: usize,
}

/// What came, when it was not what was wanted.
enum Trouble {
    /// Worth another try, after a wait where one was asked for.
    Passing(GoogleError, Option<Duration>),
    Final(GoogleError),
}

impl Asked<'_> {
    /// Asks, again where it may help.
    ///
    /// # Errors
    /// [`GoogleError`]
    pub async fn ask(&self, request: &Request) -> Result<Bytes, GoogleError> {
        let mut pause = FIRST_PAUSE;
        let mut left = self.tries.max(1);
        loop {
            left -= 1;
            match self.once(request).await {
                Ok(body) => return Ok(body),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error, _)) if left == 0 => return Err(error),
                Err(Trouble::Passing(_, asked)) => {
                    let own = pause.mul_f64(0.5 + 0.5 * fraction());
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let asked = asked.map_or(own, |asked| asked.min(LONGEST_ASKED) + own / 4);
                    tokio::time::sleep(asked).await;
                }
            }
        }
    }

    async fn once(&self, request: &Request) -> Result<Bytes, Trouble> {
        let passing = |reason: String| {
            let place = self.place.to_owned();
            Trouble::Passing(GoogleError::Unreachable { place, reason }, None)
        };
        let url = request.url().clone();
        let again = request.try_clone();
        let again = again.ok_or_else(|| passing("a request that cannot be repeated".to_owned()))?;
        let failed = |error: reqwest::Error| passing(reach::explain(&url, &error).to_string());
        let work = async {
            let response = self.client.execute(again).await.map_err(failed)?;
            let status = response.status();
            let wait = retry_after(&response);
            let body = self.body(response).await?.map_err(failed)?;
            match status.is_success() {
                true => Ok(body),
                false => Err(self.refused(status, wait, &body)),
            }
        };
        let done = tokio::time::timeout(TIME, work).await;
        done.unwrap_or_else(|_| Err(passing(format!("no answer within {} s", TIME.as_secs()))))
    }

    async fn body(&self, mut response: Response) -> Result<Result<Bytes, reqwest::Error>, Trouble> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Err(error) => return Ok(Err(error)),
                Ok(None) => return Ok(Ok(body.into())),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            }
            if body.len() > self.most {
                return Err(Trouble::Final(GoogleError::Malformed {
                    place: self.place.to_owned(),
                    reason: format!("an answer of more than {} bytes", self.most),
                }));
            }
        }
    }

    fn refused(&self, status: StatusCode, wait: Option<Duration>, body: &[u8]) -> Trouble {
        let place = self.place.to_owned();
        let said = said(status, body);
        match status.as_u16() {
            429 => Trouble::Passing(GoogleError::RateLimited { place, wait }, wait),
            408 | 500.. => Trouble::Passing(
                GoogleError::Unreachable {
                    place,
                    reason: said,
                },
                wait,
            ),
            status => Trouble::Final(GoogleError::Refused {
                place,
                status,
                said,
            }),
        }
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    header.trim().parse().ok().map(Duration::from_secs)
}

/// The status, and Google's own words where there are some. Its answers repeat no token.
fn said(status: StatusCode, body: &[u8]) -> String {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    // The storage's form, and that of the login servers.
    let words = told.pointer("/error/message").and_then(Value::as_str);
    let words = words.or_else(|| told.get("error_description").and_then(Value::as_str));
    let words = words.or_else(|| told.get("error").and_then(Value::as_str));
    let words: String = words.unwrap_or_default().chars().take(300).collect();
    match words.as_str() {
        "" => format!("HTTP status {}", status.as_u16()),
        words => format!("HTTP status {}: {words}", status.as_u16()),
    }
}

/// Anything from 0 to 1. The standard library's hash keys are random per instance, which is all that jitter wants.
fn fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
