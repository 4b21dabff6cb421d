//! One question to the hub: with the token where it belongs, through redirects on the hub itself, and again after a pause
//! when it was not the question's fault.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LINK, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret;

use super::address::Address;
use super::options::HubOptions;
use super::refusal::{Asker, Said, What};
use crate::reach;
use crate::weights::WeightsError;
use crate::weights::transfer::{self, client_builder, pause};

/// A page of a tree with a thousand entries has some 300 kB.
const MAX_BODY: usize = 64 << 20;
/// A renamed repository is one, its file's place in the hub's cache another.
const REDIRECTS: usize = 8;

/// How the hub is asked about one repository.
pub(super) struct Ask {
    pub client: reqwest::Client,
    pub address: Address,
    /// For people.
    pub place: String,
    pub repo: String,
    /// Marked as sensitive.
    token: Option<HeaderValue>,
    options: HubOptions,
}

/// An answer of success.
pub(super) struct Reply {
    /// Who gave it, after redirects.
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The foreign host that the last redirect leads to.
    pub leads_to: Option<Url>,
}

/// Why there is none.
enum Failure {
    /// No further attempt would help.
    Final(WeightsError),
    /// A further attempt may help.
    Passing {
        reason: String,
        limited: bool,
        /// How long the hub asks to be left alone.
        wait: Option<Duration>,
    },
}

impl Ask {
    pub fn new(
        options: &HubOptions,
        address: Address,
        place: String,
        repo: &str,
    ) -> Result<Self, WeightsError> {
        let unusable = |reason: String| WeightsError::Malformed {
            place: place.clone(),
            reason,
        };
        // Not reach's client: ranges want HTTP/1.1 and a connection each. Both are made by reqwest with the same TLS, and
        // both go through the proxy that the environment names, since the operator chose the endpoint.
        let client = client_builder(options.connect_timeout)
            .build()
            .map_err(|error| unusable(format!("the HTTP client cannot be made: {error}")))?;
        let given = options
            .token
            .as_ref()
            .map(|token| token.expose_secret().trim());
        let token = match given.filter(|token| !token.is_empty()) {
            None => None,
            Some(token) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let mut value = value.map_err(|_| {
                    unusable("HF_TOKEN holds characters that no token has".to_owned())
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            client,
            address,
            repo: repo.to_owned(),
            token,
            options: options.clone(),
            place,
        })
    }

    pub fn malformed(&self, reason: String) -> WeightsError {
        WeightsError::Malformed {
            place: self.place.clone(),
            reason,
        }
    }

    /// Adds the token, if the address is the hub's.
    pub fn sign(&self, url: &Url, headers: &mut HeaderMap) {
        if let Some(token) = &self.token
            && self.address.is_hub(url)
        {
            headers.insert(AUTHORIZATION, token.clone());
        }
    }

    /// A question that only the hub itself may answer.
    pub async fn for_json(&self, url: Url, what: &What<'_>) -> Result<Reply, WeightsError> {
        let reply = self.once_more(Method::GET, url, what).await?;
        match &reply.leads_to {
            None => Ok(reply),
            Some(url) => Err(self.malformed(format!(
                "it leads to {}, which is not the hub: does HF_ENDPOINT name a hub?",
                reach::place(url)
            ))),
        }
    }

    /// Where the tree goes on.
    pub fn next_page(&self, reply: &Reply) -> Result<Option<Url>, WeightsError> {
        let links = reply.headers.get_all(LINK).iter();
        let next = links.filter_map(|link| link.to_str().ok()).find_map(next);
        let Some(next) = next else {
            return Ok(None);
        };
        let url = reply.url.join(next).ok();
        let url = url.and_then(|url| self.address.here(url));
        let url = url.filter(|url| *url != reply.url);
        url.map(Some).ok_or_else(|| {
            self.malformed("its tree goes on at a place that is not the hub's".to_owned())
        })
    }

    /// Asks until there is an answer, or no sense in asking again.
    pub async fn once_more(
        &self,
        method: Method,
        url: Url,
        what: &What<'_>,
    ) -> Result<Reply, WeightsError> {
        if self.options.offline {
            return Err(WeightsError::Offline(self.place.clone()));
        }
        let mut failures = 0;
        loop {
            let (reason, limited, wait) = match self.through(&method, url.clone(), what).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing {
                    reason,
                    limited,
                    wait,
                }) => (reason, limited, wait),
            };
            failures += 1;
            let too_long = wait.is_some_and(|wait| wait > self.options.longest_wait);
            if failures > self.options.tries || too_long {
                let place = self.place.clone();
                return Err(match limited {
                    true => WeightsError::RateLimited { place, wait },
                    false => WeightsError::Unreachable { place, reason },
                });
            }
            let pause = match wait {
                Some(wait) => pause::asked(wait),
                None => pause::backoff(&self.pauses(), failures),
            };
            tracing::warn!(
                place = self.place,
                reason,
                failures,
                pause_ms = pause.as_millis() as u64,
                "the hub is asked again"
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// Our pauses, as the transfer's function has them.
    fn pauses(&self) -> transfer::Options {
        transfer::Options {
            backoff: self.options.backoff,
            longest_backoff: self.options.longest_backoff,
            ..transfer::Options::default()
        }
    }

    /// One attempt, through redirects on the hub.
    async fn through(
        &self,
        method: &Method,
        first: Url,
        what: &What<'_>,
    ) -> Result<Reply, Failure> {
        let mut url = first;
        for _ in 0..=REDIRECTS {
            let response = self.send(method, &url).await?;
            let status = response.status();
            let headers = response.headers().clone();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let next = self.redirect(&url, &headers)?;
                if !self.address.is_hub(&next) {
                    return Ok(Reply {
                        url,
                        headers,
                        body: Bytes::new(),
                        leads_to: Some(next),
                    });
                }
                url = next;
                continue;
            }
            let body = self.body(&url, response).await;
            if status.is_success() {
                return Ok(Reply {
                    body: body?,
                    url,
                    headers,
                    leads_to: None,
                });
            }
            // What is wrong is in the headers already: a body that does not come changes nothing.
            return Err(self.failure(status, &headers, (&body.unwrap_or_default(), what)));
        }
        let reason = format!("it redirects more than {REDIRECTS} times");
        Err(Failure::Final(self.malformed(reason)))
    }

    async fn send(&self, method: &Method, url: &Url) -> Result<Response, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.sign(url, &mut headers);
        let asked = self.client.request(method.clone(), url.clone());
        let asked = asked.headers(headers).timeout(self.options.answer_timeout);
        asked.send().await.map_err(|error| self.broken(url, &error))
    }

    fn broken(&self, url: &Url, error: &reqwest::Error) -> Failure {
        let reason = match error.is_timeout() {
            true => format!(
                "{} did not answer within {} s",
                reach::place(url),
                self.options.answer_timeout.as_secs_f64()
            ),
            false => reach::explain(url, error).to_string(),
        };
        match error.is_builder() {
            true => Failure::Final(self.malformed(reason)),
            false => Failure::Passing {
                reason,
                limited: false,
                wait: None,
            },
        }
    }

    fn redirect(&self, url: &Url, headers: &HeaderMap) -> Result<Url, Failure> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        let next = next.filter(|next| self.address.may_lead_to(next));
        next.ok_or_else(|| {
            let reason =
                "it redirects to an address that must not be followed (none, or one without https)";
            Failure::Final(self.malformed(reason.to_owned()))
        })
    }

    async fn body(&self, url: &Url, mut response: Response) -> Result<Bytes, Failure> {
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => {
                    let reason = format!("its answer is longer than {} MiB", MAX_BODY >> 20);
                    return Err(Failure::Final(self.malformed(reason)));
                }
                Err(error) => return Err(self.broken(url, &error)),
            }
        }
    }

    fn failure(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        (body, what): (&[u8], &What<'_>),
    ) -> Failure {
        let mut said = Said::read(status, headers, body);
        // A server that says the token back must not make us say it.
        said.message = said.message.filter(|message| !self.tells(message));
        if said.is_passing() {
            return Failure::Passing {
                reason: format!("HTTP status {status}"),
                limited: status == StatusCode::TOO_MANY_REQUESTS,
                wait: reach::retry_after(headers),
            };
        }
        let asker = Asker {
            address: &self.address,
            place: &self.place,
            repo: &self.repo,
            has_token: self.token.is_some(),
        };
        Failure::Final(asker.refusal(&said, what))
    }

    fn tells(&self, message: &str) -> bool {
        let bearer = self.token.as_ref().and_then(|token| token.to_str().ok());
        let token = bearer.and_then(|bearer| bearer.strip_prefix("Bearer "));
        token.is_some_and(|token| message.contains(token))
    }
}

/// The address in `<…>; rel="next"`.
fn next(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut fields = rest.split(';').map(str::trim);
        fields
            .any(|field| matches!(field, "rel=\"next\"" | "rel=next"))
            .then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_told_from_other_links() {
        assert_eq!(
            next("<https://h/a?b=1>; rel=\"next\""),
            Some("https://h/a?b=1")
        );
        assert_eq!(next("<x>; rel=\"first\", <y>; rel=next"), Some("y"));
        for none in ["", "<x>; rel=\"xet-auth\"", "x; rel=\"next\"", "<x"] {
            assert_eq!(next(none), None, "{none}");
        }
    }
}
