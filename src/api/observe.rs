//! What is written down about every request: its id, a log line, and the HTTP metrics. Never what was asked or answered.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chandler_core::RequestError;
use futures_util::FutureExt;

use super::error::{Dialect, Reported};
use super::trace::Trace;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's client looks for it.
pub(super) const ANTHROPIC_HEADER: HeaderName = HeaderName::from_static("request-id");

/// The id under which a request is found in answers and logs.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

impl RequestId {
    /// The caller's own id if it is one that a log can hold, else a fresh one.
    fn of(request: &Request) -> Self {
        let sane = |id: &&str| {
            (1..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
        };
        let given = request.headers().get(HEADER);
        let given = given.and_then(|value| value.to_str().ok()).filter(sane);
        Self(given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned))
    }
}

/// Counts a request when it ends, and also when its caller goes away before.
struct Count {
    id: String,
    trace: Option<Trace>,
    route: String,
    method: &'static str,
    begun: Instant,
    status: Option<u16>,
}

impl Drop for Count {
    fn drop(&mut self) {
        // 499 is nginx's number for a caller who went away.
        let status = self.status.unwrap_or(499);
        let elapsed = self.begun.elapsed();
        let (route, method) = (self.route.clone(), self.method);
        metrics::counter!("http_requests_total", "route" => route.clone(), "method" => method, "status" => status.to_string())
            .increment(1);
        metrics::histogram!("http_request_duration_seconds", "route" => route, "method" => method)
            .record(elapsed.as_secs_f64());
        let (request_id, route, elapsed_ms) = (&self.id, &self.route, elapsed.as_millis() as u64);
        let (trace, span_id) = Trace::parts(self.trace.as_ref());
        if matches!(
            route.as_str(),
            "/isalive" | "/livez" | "/health" | "/ping" | "/metrics"
        ) {
            tracing::debug!(
                request_id, trace, span_id, method, route, status, elapsed_ms, "request"
            );
        } else {
            tracing::info!(
                request_id, trace, span_id, method, route, status, elapsed_ms, "request"
            );
        }
    }
}

/// Gives the request its id, catches what panics, counts and logs.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    request.extensions_mut().insert(id.clone());
    let dialect = Dialect::of_path(request.uri().path());
    let matched = request.extensions().get::<MatchedPath>();
    let mut count = Count {
        id: id.0.clone(),
        trace: Trace::of(request.headers()),
        route: matched.map_or("unmatched", MatchedPath::as_str).to_owned(),
        method: known(request.method()),
        begun: Instant::now(),
        status: None,
    };
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|_| {
        let message = format!(
            "the worker failed on this request; its log has more under {}",
            id.0
        );
        dialect
            .error(RequestError::internal(message))
            .into_response()
    });
    count.status = Some(response.status().as_u16());
    if let Some(Reported(error)) = response.extensions_mut().remove::<Reported>() {
        let (trace, span_id) = Trace::parts(count.trace.as_ref());
        if response.status().is_server_error() {
            tracing::error!(request_id = %id.0, trace, span_id, route = %count.route, kind = ?error.kind, error = %error, "request failed");
        } else {
            // Why not the message: it may quote the request.
            tracing::debug!(request_id = %id.0, route = %count.route, kind = ?error.kind, field = error.field, "request refused");
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        if dialect == Dialect::Anthropic {
            response
                .headers_mut()
                .insert(ANTHROPIC_HEADER, value.clone());
        }
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// A method's name, one of few: a label must not grow with what callers invent.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
