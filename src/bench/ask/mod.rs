//! One request, from its sending to what became of it: the time, the key, the patience and the end of a job that nobody waits for
//! any more. What an answer has in it is read by one file for each kind of endpoint.

mod http;
mod openai;
mod predict;
mod runpod;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use super::BenchError;
use super::address::Kind;
use super::finding::Endpoint;
use super::outcome::{Failure, FailureKind, Success};
use super::prompts::Prompts;
use super::requests::{Does, Maker, Options, Ready};
use crate::reach::{self, AllowedHosts, Limits};

pub(super) use http::json;

/// Before a request that was turned away is sent again, whatever `Retry-After` says.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// What opens the endpoint: sent as `Authorization: Bearer`, and nowhere else.
#[derive(Debug, Clone)]
pub struct Key(SecretString);

impl Key {
    /// Takes a key.
    pub fn new(secret: SecretString) -> Self {
        Self(secret)
    }

    pub(super) fn headers(&self) -> Result<HeaderMap, BenchError> {
        let text = format!("Bearer {}", self.0.expose_secret());
        let mut value = HeaderValue::try_from(text).map_err(|_| {
            let message =
                "the key holds characters that no header may have; give it as it was issued";
            BenchError::Client(message.to_owned())
        })?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
    }

    /// A text of the endpoint's, which may say the key back.
    fn masked(&self, text: &str) -> String {
        text.replace(self.0.expose_secret(), "********")
    }
}

/// Sends requests to one endpoint.
#[derive(Debug)]
pub struct Asker {
    pub(super) endpoint: Endpoint,
    does: Does,
    client: reqwest::Client,
    ready: Vec<Ready>,
    options: Options,
    key: Option<Key>,
    headers: HeaderMap,
}

impl Asker {
    /// Makes the requests.
    ///
    /// # Errors
    /// [`BenchError::Prompt`], [`BenchError::Task`], [`BenchError::Client`].
    pub fn new(
        endpoint: Endpoint,
        prompts: &Prompts,
        options: Options,
        key: Option<Key>,
    ) -> Result<Self, BenchError> {
        let does = Does::of(endpoint.task)?;
        let maker = Maker {
            endpoint: &endpoint,
            does,
            options: &options,
        };
        let numbered = prompts.0.iter().enumerate();
        let ready = numbered.map(|(index, prompt)| maker.ready(index + 1, prompt));
        let ready = ready.collect::<Result<Vec<_>, _>>()?;
        let headers = key
            .as_ref()
            .map_or_else(|| Ok(HeaderMap::new()), Key::headers)?;
        Ok(Self {
            does,
            client: client(&endpoint.base)?,
            ready,
            options,
            key,
            headers,
            endpoint,
        })
    }

    /// What requests go to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends the request whose turn it is; `due` is when it was to be sent. `None` when it was given up because `stop` says so.
    pub(super) async fn ask(
        &self,
        number: u64,
        due: Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<Result<Success, Failure>> {
        let length = self.ready.len().max(1) as u64;
        let ready = self.ready.get((number % length) as usize)?;
        let job = runpod::Job::default();
        let work = tokio::time::timeout(self.options.timeout, self.patiently(ready, due, &job));
        let done = tokio::select! {
            biased;
            () = stopped(stop) => None,
            done = work => Some(done),
        };
        let done = match done {
            Some(Ok(done)) => done,
            Some(Err(_)) => {
                let message = format!("no whole answer within {:?}", self.options.timeout);
                Err(Failure::new(FailureKind::Timeout, message))
            }
            None => {
                self.abandon(&job).await;
                return None;
            }
        };
        Some(match done {
            Ok(success) => Ok(Success {
                latency: due.elapsed(),
                ..success
            }),
            Err(mut failure) => {
                // One that can be asked for no more may be running all the same.
                self.abandon(&job).await;
                if let Some(key) = &self.key {
                    failure.message = key.masked(&failure.message);
                }
                Err(failure)
            }
        })
    }

    /// Again after the time that a server which is busy asks for, where that was wanted.
    async fn patiently(
        &self,
        ready: &Ready,
        due: Instant,
        job: &runpod::Job,
    ) -> Result<Success, Failure> {
        let mut retries = 0;
        loop {
            match self.once(ready, due, job).await {
                Ok(success) => return Ok(Success { retries, ..success }),
                Err(failure) => {
                    let is_busy = matches!(failure.kind, FailureKind::Status(429 | 503));
                    let pause = failure
                        .retry_after
                        .filter(|_| self.options.patient && is_busy);
                    let Some(pause) = pause else {
                        return Err(failure);
                    };
                    retries += 1;
                    tokio::time::sleep(pause.max(LEAST_PAUSE)).await;
                }
            }
        }
    }

    async fn once(
        &self,
        ready: &Ready,
        due: Instant,
        job: &runpod::Job,
    ) -> Result<Success, Failure> {
        let response = self.post(ready).await?;
        let success = match (self.endpoint.kind, self.does) {
            (Kind::OpenAi, Does::Writes) => openai::streamed(response, due).await,
            (Kind::OpenAi, Does::Hears) => openai::heard(&json(response).await?),
            (Kind::OpenAi, Does::Draws) => openai::drawn(&json(response).await?),
            (Kind::Predict, _) => predict::predicted(&json(response).await?, self.does),
            (Kind::RunPod, _) => self.job_of(response, job).await,
        }?;
        Ok(Success {
            steps: success
                .steps
                .or(ready.steps)
                .filter(|_| self.does == Does::Draws),
            audio_s: success.audio_s.or(ready.audio_s),
            ..success
        })
    }

    /// An answer whose status is a success.
    async fn post(&self, ready: &Ready) -> Result<reqwest::Response, Failure> {
        let request = self
            .client
            .post(ready.url.clone())
            .headers(self.headers.clone());
        let request = request.header(CONTENT_TYPE, ready.content_type.as_str());
        http::sent(request.body(ready.body.clone()), &ready.url).await
    }
}

/// Resolves when somebody wants the end; never when nobody can any more.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The client for an address: through the proxy that the environment names, unless it is this machine.
pub(super) fn client(url: &Url) -> Result<reqwest::Client, BenchError> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let clients = match is_here {
        true => {
            let everything = AllowedHosts {
                everything: true,
                ..AllowedHosts::default()
            };
            reach::Client::new(everything, Limits::default())
        }
        false => reach::Client::unguarded(),
    };
    let client = clients.connection(url).cloned();
    client.map_err(|error| BenchError::Client(error.to_string()))
}
