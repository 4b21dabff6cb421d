//! One mapping from an error's kind to HTTP, and the shapes that the dialects give an error's body.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chandler_core::{ErrorKind, RequestError};
use serde_json::{Value, json};

pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Clients do not wait longer than this (openai.md section 1: a longer wait means no retry at all).
const LONGEST_WAIT: u32 = 120;
const USUAL_WAIT: u32 = 5;

/// How a caller expects an error to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `{"error": {message, type, param, code}}`: OpenAI's routes, Vertex's, and everything of our own.
    OpenAi,
    /// `{"error": "…"}`: the first dialect of `/generate`.
    Plain,
    /// `{"detail": …}`, and 422 for bad input: the second dialect of `/generate`.
    Detail,
    /// `/generate` before its body is understood: both keys, each caller finds its own.
    Generate,
    /// `{"type": "error", "error": {type, message}}`: Anthropic's routes.
    Anthropic,
}

impl Dialect {
    /// The dialect of a route, for layers that have not seen the body.
    pub(super) fn of_path(path: &str) -> Self {
        match path {
            "/generate" | "/vocab" => Self::Generate,
            _ if path.starts_with("/v1/messages") => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }

    /// The error in this dialect.
    pub(super) fn error(self, error: RequestError) -> ApiError {
        ApiError {
            dialect: self,
            status: None,
            error,
        }
    }

    /// The error in this dialect, with a status that the kind alone does not give.
    pub(super) fn error_with(self, status: StatusCode, error: RequestError) -> ApiError {
        ApiError {
            dialect: self,
            status: Some(status),
            error,
        }
    }
}

/// An error on its way out.
#[derive(Debug)]
pub(super) struct ApiError {
    dialect: Dialect,
    status: Option<StatusCode>,
    error: RequestError,
}

/// Left in the answer's extensions for the log line; never written out.
#[derive(Debug, Clone)]
pub(super) struct Reported(pub(super) RequestError);

/// The one mapping: status, OpenAI's `type`, and the `code` where the error has none of its own.
fn answer_of(kind: ErrorKind) -> (StatusCode, &'static str, Option<&'static str>) {
    let invalid = "invalid_request_error";
    match kind {
        ErrorKind::BadInput => (StatusCode::BAD_REQUEST, invalid, None),
        ErrorKind::Unsupported => (StatusCode::BAD_REQUEST, invalid, Some("unsupported")),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, invalid, Some("not_found")),
        ErrorKind::Unauthorized => (StatusCode::UNAUTHORIZED, invalid, Some("invalid_api_key")),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, invalid, Some("too_large")),
        ErrorKind::Busy => (
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            Some("busy"),
        ),
        ErrorKind::NotReady => (
            StatusCode::SERVICE_UNAVAILABLE,
            "server_error",
            Some("not_ready"),
        ),
        ErrorKind::OutOfMemory => (
            StatusCode::INSUFFICIENT_STORAGE,
            "server_error",
            Some("out_of_memory"),
        ),
        ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "server_error", Some("timeout")),
        // Why 499: nginx's number for a caller who went away; nobody reads it but the log.
        ErrorKind::Cancelled => (
            StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            invalid,
            Some("cancelled"),
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            Some("internal_error"),
        ),
    }
}

/// An error as OpenAI's routes write it, in a body or in a stream.
pub(super) fn openai_body(error: &RequestError) -> Value {
    let (_, kind, code) = answer_of(error.kind);
    json!({"error": {
        "message": error.message,
        "type": kind,
        "param": error.field,
        "code": error.code.or(code),
    }})
}

/// An error as Anthropic's routes write it, in a body or in a stream. It has no place for the field's name, which is in
/// the message.
pub(super) fn anthropic_body(error: &RequestError) -> Value {
    let kind = match error.kind {
        ErrorKind::BadInput | ErrorKind::Unsupported | ErrorKind::Cancelled => {
            "invalid_request_error"
        }
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::Unauthorized => "authentication_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::Busy => "rate_limit_error",
        ErrorKind::NotReady => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.message}})
}

fn detail_body(status: StatusCode, error: &RequestError) -> Value {
    if status != StatusCode::UNPROCESSABLE_ENTITY {
        return json!({"detail": error.message});
    }
    let location: Vec<&str> = ["body"].into_iter().chain(error.field.as_deref()).collect();
    json!({"detail": [{"loc": location, "msg": error.message, "type": "value_error"}]})
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (usual, _, _) = answer_of(self.error.kind);
        let status = match (self.status, self.dialect, usual) {
            (Some(status), _, _) => status,
            (None, Dialect::Detail, StatusCode::BAD_REQUEST) => StatusCode::UNPROCESSABLE_ENTITY,
            (None, _, usual) => usual,
        };
        let body = match self.dialect {
            Dialect::OpenAi => openai_body(&self.error),
            Dialect::Plain => json!({"error": self.error.message}),
            Dialect::Detail => detail_body(status, &self.error),
            Dialect::Generate => json!({"error": self.error.message, "detail": self.error.message}),
            Dialect::Anthropic => anthropic_body(&self.error),
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.error.kind {
            ErrorKind::Busy | ErrorKind::NotReady => {
                let wait = self.error.retry_after.unwrap_or(USUAL_WAIT);
                headers.insert(
                    header::RETRY_AFTER,
                    HeaderValue::from(wait.clamp(1, LONGEST_WAIT)),
                );
            }
            // Why for 5xx too: clients repeat those by themselves, and a failure that would only
            // happen again costs the model the same work twice more (openai.md section 1).
            _ => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"chandler\""),
            );
        }
        response.extensions_mut().insert(Reported(self.error));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|v| v.to_str().unwrap())
    }

    #[test]
    fn what_would_fail_again_says_so_and_what_may_pass_says_when() {
        let bad = Dialect::OpenAi
            .error(RequestError::field("n", "n is 0"))
            .into_response();
        assert_eq!(bad.status(), 400);
        assert_eq!(header(&bad, "x-should-retry"), Some("false"));
        let internal = Dialect::OpenAi
            .error(RequestError::internal("oh"))
            .into_response();
        assert_eq!(header(&internal, "x-should-retry"), Some("false"));
        let busy = RequestError::new(ErrorKind::Busy, "full").with_retry_after(4000);
        let busy = Dialect::OpenAi.error(busy).into_response();
        assert_eq!(busy.status(), 429);
        assert_eq!(header(&busy, "retry-after"), Some("120"));
        assert_eq!(header(&busy, "x-should-retry"), None);
    }

    #[test]
    fn each_dialect_has_its_own_words() {
        let error = RequestError::field("n", "n is 0");
        assert_eq!(
            openai_body(&error),
            json!({"error": {"message": "n is 0", "type": "invalid_request_error", "param": "n", "code": null}})
        );
        assert_eq!(
            Dialect::Detail
                .error(error.clone())
                .into_response()
                .status(),
            422
        );
        assert_eq!(
            anthropic_body(&error),
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "n is 0"}})
        );
        assert_eq!(
            Dialect::of_path("/v1/messages/count_tokens"),
            Dialect::Anthropic
        );
        assert_eq!(Dialect::Plain.error(error).into_response().status(), 400);
    }
}
