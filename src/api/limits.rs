//! How much one caller may ask for: bytes of a body, requests a minute, and time.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use chandler_core::{ErrorKind, RequestError};
use futures_util::StreamExt;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::audio::over_limit;
use super::auth::KeyDigest;
use super::error::Dialect;
use super::state::Api;

/// Bytes of an oversized body that are read and thrown away, so that the caller gets to read the answer.
const POLITE_BYTES: usize = 64 << 20;
const POLITE_TIME: Duration = Duration::from_secs(2);
/// Requests between two sweeps of callers that the rate limit has forgotten.
const SWEEP: u32 = 1024;

/// Reads a body up to a limit.
///
/// # Errors
/// [`ErrorKind::TooLarge`], or that the caller broke off.
pub(super) async fn read_body(body: Body, limit: usize) -> Result<Bytes, RequestError> {
    let mut chunks = body.into_data_stream();
    let read = read_chunks(&mut chunks, limit).await;
    if read.is_err() {
        drain(&mut chunks).await;
    }
    read
}

/// The same of a body that has begun to be a stream; what is left of one that is refused stays in it.
///
/// # Errors
/// As [`read_body`].
pub(super) async fn read_chunks(
    chunks: &mut BodyDataStream,
    limit: usize,
) -> Result<Bytes, RequestError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            RequestError::new(ErrorKind::BadInput, format!("the body broke off: {error}"))
        })?;
        if whole.len() + chunk.len() > limit {
            return Err(over(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Reads what is left of a body and throws it away, for a while: a caller who is still sending reads no answer.
pub(super) async fn drain(chunks: &mut BodyDataStream) {
    let drained = async {
        let mut seen = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            seen += chunk.len();
            if seen > POLITE_BYTES {
                break;
            }
        }
    };
    // Why ignored: whether the rest came or not, the answer is the same.
    let _ = tokio::time::timeout(POLITE_TIME, drained).await;
}

fn over(limit: usize) -> RequestError {
    let message = format!("the body is over the limit of {limit} bytes");
    RequestError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
}

/// Who is counted: a key, or an address where there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Caller {
    Key(KeyDigest),
    Address(Option<IpAddr>),
}

/// Requests per minute and caller; a minute's worth may come at once.
pub(super) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<Caller>,
    per_minute: NonZeroU32,
    since_sweep: AtomicU32,
}

impl RateLimit {
    pub(super) fn per_minute(requests: u32) -> Self {
        let per_minute = NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN);
        Self {
            limiter: RateLimiter::keyed(Quota::per_minute(per_minute)),
            per_minute,
            since_sweep: AtomicU32::new(0),
        }
    }

    fn check(&self, caller: &Caller) -> Result<(), RequestError> {
        if self.since_sweep.fetch_add(1, Ordering::Relaxed) >= SWEEP {
            self.since_sweep.store(0, Ordering::Relaxed);
            self.limiter.retain_recent();
        }
        self.limiter.check_key(caller).map_err(|refusal| {
            let wait = refusal.wait_time_from(DefaultClock::default().now());
            let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
            let message = format!(
                "the rate limit of {} requests a minute is reached; try again in {seconds} s",
                self.per_minute
            );
            RequestError::new(ErrorKind::Busy, message)
                .with_code("rate_limit_exceeded")
                .with_retry_after(seconds)
        })
    }
}

/// Counts a request against its caller. Only work counts: reading models, metrics and health does not.
pub(super) async fn rate(State(api): State<Api>, request: Request, next: Next) -> Response {
    if let (Some(limit), &Method::POST) = (&api.rate_limit, request.method()) {
        let extensions = request.extensions();
        let caller = match extensions.get::<KeyDigest>() {
            Some(key) => Caller::Key(*key),
            None => Caller::Address(
                extensions
                    .get::<ConnectInfo<SocketAddr>>()
                    .map(|peer| peer.0.ip()),
            ),
        };
        if let Err(error) = limit.check(&caller) {
            return Dialect::of_path(request.uri().path())
                .error(error)
                .into_response();
        }
    }
    next.run(request).await
}

/// Ends a request that has no answer in time; dropping it cancels the engine's work.
/// A stream that has begun looks at its own deadline.
pub(super) async fn time(State(api): State<Api>, request: Request, next: Next) -> Response {
    let limit = api.settings.request_timeout;
    let dialect = Dialect::of_path(request.uri().path());
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => dialect.error(timed_out(limit)).into_response(),
    }
}

/// The error of a request that took too long.
pub(super) fn timed_out(limit: Duration) -> RequestError {
    let message = format!(
        "the request took longer than the {} s that this worker allows",
        limit.as_secs_f64()
    );
    RequestError::new(ErrorKind::Timeout, message)
}

/// Refuses a body by the length it announces, before any of it is read.
pub(super) async fn announced(State(api): State<Api>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // Why only with Expect: others have the body under way, and reading it lets them see the answer.
    if let Some(bytes) = length(headers).filter(|_| headers.contains_key(header::EXPECT)) {
        let path = request.uri().path();
        let error = if path.starts_with(AUDIO) && is_form(headers) {
            let limit = api.settings.upload_limit;
            let around = super::audio::AROUND as u64;
            (bytes > limit.saturating_add(around)).then(|| over_limit("file", limit))
        } else if path.starts_with(IMAGES) && is_form(headers) {
            let limit = super::images::MOST_OF_A_FORM;
            (bytes > limit).then(|| over(usize::try_from(limit).unwrap_or(usize::MAX)))
        } else {
            let limit = match takes_files(path) {
                true => api.json_room().unwrap_or(usize::MAX),
                false => api.settings.body_limit,
            };
            (bytes > limit as u64).then(|| over(limit))
        };
        if let Some(error) = error {
            return Dialect::of_path(path).error(error).into_response();
        }
    }
    next.run(request).await
}

/// Where audio comes in.
const AUDIO: &str = "/v1/audio/";
/// Where pictures do.
const IMAGES: &str = "/v1/images/";

pub(super) fn takes_files(path: &str) -> bool {
    path.starts_with(AUDIO) || path.starts_with(IMAGES) || path == "/predict"
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| {
        kind.as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"multipart/")
    })
}

/// What a request says of its body's length.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
