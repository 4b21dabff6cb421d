//! The client that keeps the rule: GET into memory, POST, and the connection for others who speak their own protocol.

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode, Url};

use super::ReachError;
use super::allowed::AllowedHosts;
use super::resolver::{Filter, Lookup, is_off_limits, system};

/// How much one download may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the body at most.
    pub bytes: u64,
    /// From the first name lookup to the last byte.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 512 << 20,
            time: Duration::from_secs(60),
        }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
    /// The `Content-Type`, as the server says.
    pub content_type: Option<String>,
}

/// Whether there is room for so many bytes more.
pub type Room<'a> = dyn Fn(u64) -> bool + Sync + 'a;

const CONNECT: Duration = Duration::from_secs(10);
/// As many as RunPod's own downloader follows.
const REDIRECTS: usize = 5;

/// Reaches URLs that came from outside. Cheap to clone; nothing is set up before the first use.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    allowed: Arc<AllowedHosts>,
    limits: Limits,
    lookup: Lookup,
    /// Whether proxy variables count.
    proxies: bool,
    /// For hosts that the operator named.
    open: OnceLock<reqwest::Client>,
    /// For all others.
    guarded: OnceLock<reqwest::Client>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("allowed", &self.inner.allowed)
            .field("limits", &self.inner.limits)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the public internet and what is allowed besides.
    pub fn new(allowed: AllowedHosts, limits: Limits) -> Self {
        Self::build(allowed, limits, system(), false)
    }

    /// A client for addresses of the operator's own, which may be anywhere; it goes through the proxy that the environment
    /// names.
    pub fn unguarded() -> Self {
        let allowed = AllowedHosts {
            everything: true,
            ..AllowedHosts::default()
        };
        Self::build(allowed, Limits::default(), system(), true)
    }

    /// The HTTP client for large downloads from the operator's own stores. HTTP/1.1 only, so that many ranges at once are as
    /// many connections: over one of HTTP/2 they would share its window and its packet losses.
    ///
    /// # Errors
    /// [`ReachError::Failed`], when no TLS can be set up.
    pub fn downloads() -> Result<reqwest::Client, ReachError> {
        reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT)
            .user_agent(concat!("chandler/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ReachError::Failed {
                url: "(any)".to_owned(),
                reason: error.to_string(),
            })
    }

    #[cfg(test)]
    pub(super) fn with_lookup(allowed: AllowedHosts, limits: Limits, lookup: Lookup) -> Self {
        Self::build(allowed, limits, lookup, false)
    }

    fn build(allowed: AllowedHosts, limits: Limits, lookup: Lookup, proxies: bool) -> Self {
        Self {
            inner: Arc::new(Inner {
                allowed: Arc::new(allowed),
                limits,
                lookup,
                proxies,
                open: OnceLock::new(),
                guarded: OnceLock::new(),
            }),
        }
    }

    /// Reads an address that came from outside; says what is wrong with one that can never be reached.
    ///
    /// # Errors
    /// [`ReachError::BadUrl`] and [`ReachError::Private`].
    pub fn check(&self, text: &str) -> Result<Url, ReachError> {
        let url = Url::parse(text.trim()).map_err(|_| ReachError::BadUrl {
            // Why no part of it: what does not parse cannot be cut to what is no secret.
            url: "(no URL)".to_owned(),
            wanted: "give an address such as https://example.com/picture.png",
        })?;
        self.connection(&url)?;
        Ok(url)
    }

    /// The HTTP client that a URL may be reached with. It follows no redirect: each target has to be asked for here.
    ///
    /// # Errors
    /// [`ReachError::BadUrl`] and [`ReachError::Private`].
    pub fn connection(&self, url: &Url) -> Result<&reqwest::Client, ReachError> {
        let bad = |wanted| ReachError::BadUrl {
            url: place(url),
            wanted,
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("only http and https are reached"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("leave user name and password out of the address"));
        }
        let host = url
            .host_str()
            .ok_or_else(|| bad("the address has no host"))?;
        if self.inner.allowed.names(url) {
            return self.made(&self.inner.open, false, url);
        }
        // A resolver is not asked about a literal address.
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = literal.parse::<IpAddr>()
            && !self.inner.allowed.admits(address)
        {
            return Err(private(url));
        }
        self.made(&self.inner.guarded, true, url)
    }

    fn made<'a>(
        &self,
        place_for: &'a OnceLock<reqwest::Client>,
        guarded: bool,
        url: &Url,
    ) -> Result<&'a reqwest::Client, ReachError> {
        if let Some(client) = place_for.get() {
            return Ok(client);
        }
        let allowed = if guarded {
            self.inner.allowed.clone()
        } else {
            Arc::new(AllowedHosts {
                everything: true,
                ..AllowedHosts::default()
            })
        };
        let resolver = Filter {
            allowed,
            lookup: self.inner.lookup.clone(),
        };
        let mut builder = reqwest::Client::builder();
        if !self.inner.proxies {
            builder = builder.no_proxy(); // a proxy would resolve the name again, unchecked
        }
        let client = builder
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .user_agent(concat!("chandler/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(resolver))
            .build()
            .map_err(|error| failed(url, &error))?;
        Ok(place_for.get_or_init(|| client))
    }

    /// Downloads into memory, through at most five redirects.
    ///
    /// # Errors
    /// [`ReachError`].
    pub async fn get(&self, text: &str) -> Result<Answer, ReachError> {
        self.get_while(text, &|_| true).await
    }

    /// The same for as long as there is room: `room` is told of every chunk's bytes before it is kept.
    ///
    /// # Errors
    /// [`ReachError`].
    pub async fn get_while(&self, text: &str, room: &Room<'_>) -> Result<Answer, ReachError> {
        let limits = self.inner.limits;
        let url = self.check(text)?;
        let work = self.follow(url.clone(), (limits.bytes, room));
        tokio::time::timeout(limits.time, work)
            .await
            .unwrap_or_else(|_| {
                Err(ReachError::TimedOut {
                    url: place(&url),
                    seconds: limits.time.as_secs_f64(),
                })
            })
    }

    async fn follow(&self, first: Url, most: (u64, &Room<'_>)) -> Result<Answer, ReachError> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let response = self.connection(&url)?.get(url.clone()).send().await;
            let response = response.map_err(|error| explain(&url, &error))?;
            match redirect(&url, &response)? {
                Some(next) => url = next,
                None => return read(&url, response, most).await,
            }
        }
        Err(ReachError::Redirects {
            url: place(&first),
            limit: REDIRECTS,
        })
    }

    /// Posts bytes; any status of success will do, and a redirect is none. The answer's body is not read.
    ///
    /// # Errors
    /// [`ReachError`].
    pub async fn post(
        &self,
        text: &str,
        headers: HeaderMap,
        body: Bytes,
        time: Duration,
    ) -> Result<(), ReachError> {
        self.request(Method::POST, text, headers, body, time).await
    }

    /// The same with another method.
    ///
    /// # Errors
    /// [`ReachError`].
    pub async fn request(
        &self,
        method: Method,
        text: &str,
        headers: HeaderMap,
        body: Bytes,
        time: Duration,
    ) -> Result<(), ReachError> {
        let url = self.check(text)?;
        let request = self.connection(&url)?.request(method, url.clone());
        let sent = request.headers(headers).body(body).timeout(time).send();
        let response = sent.await.map_err(|error| match error.is_timeout() {
            true => ReachError::TimedOut {
                url: place(&url),
                seconds: time.as_secs_f64(),
            },
            false => explain(&url, &error),
        })?;
        succeeded(&url, response.status())
    }
}

/// Where a redirect leads; `None` for an answer that is none.
fn redirect(url: &Url, response: &Response) -> Result<Option<Url>, ReachError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let target = location.and_then(|value| url.join(value.to_str().ok()?).ok());
    target.map(Some).ok_or_else(|| ReachError::Failed {
        url: place(url),
        reason: "it redirects to no address".to_owned(),
    })
}

/// The body, as long as it stays below the limit.
async fn read(
    url: &Url,
    mut response: Response,
    (limit, room): (u64, &Room<'_>),
) -> Result<Answer, ReachError> {
    succeeded(url, response.status())?;
    let too_large = || ReachError::TooLarge {
        url: place(url),
        limit,
    };
    let said = response.content_length();
    if said.is_some_and(|bytes| bytes > limit) {
        return Err(too_large());
    }
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok().map(str::to_owned));
    let mut body = Vec::with_capacity(said.unwrap_or(0).min(1 << 20) as usize);
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| explain(url, &error))?
    {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(too_large());
        }
        if !room(chunk.len() as u64) {
            return Err(ReachError::NoRoom { url: place(url) });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        body: body.into(),
        content_type,
    })
}

fn succeeded(url: &Url, status: StatusCode) -> Result<(), ReachError> {
    status
        .is_success()
        .then_some(())
        .ok_or_else(|| ReachError::Status {
            url: place(url),
            status: status.as_u16(),
        })
}

/// What went wrong, without the URL and without the addresses behind its name.
pub(crate) fn explain(url: &Url, error: &reqwest::Error) -> ReachError {
    if is_off_limits(error) {
        return private(url);
    }
    failed(url, error)
}

fn failed(url: &Url, error: &reqwest::Error) -> ReachError {
    // The last cause says what happened; what comes before it repeats the whole URL.
    let mut reason = None;
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = Some(error.to_string());
        cause = error.source();
    }
    ReachError::Failed {
        url: place(url),
        reason: reason.unwrap_or_else(|| "the request failed".to_owned()),
    }
}

fn private(url: &Url) -> ReachError {
    let host = url.host_str().unwrap_or_default();
    ReachError::Private {
        host: match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        },
    }
}

/// Scheme, host and port: what may be told of a URL that may carry a signature.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{host}{port}", url.scheme())
}
