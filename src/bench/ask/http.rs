//! What HTTP itself says of a request's fate: no connection, a status, a body that is no JSON or that is an error in spite of its
//! status. Apart from the dialects, for which all of it is the same.

use bytes::Bytes;
use reqwest::{RequestBuilder, Response, Url};
use serde_json::Value;

use crate::bench::outcome::{Failure, FailureKind};
use crate::reach;

/// Bytes of an answer at most; a large picture in base64 has some ten million.
pub(super) const MOST: usize = 64 << 20;
/// Bytes of an error that are read.
const MOST_OF_AN_ERROR: usize = 64 << 10;

/// Sends; an answer whose status is no success is a failure.
pub(super) async fn sent(request: RequestBuilder, url: &Url) -> Result<Response, Failure> {
    let response = request.send().await.map_err(|error| lost(url, &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = reach::retry_after(response.headers());
    let body = body(response, MOST_OF_AN_ERROR).await.unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(value) => said(&value),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    Err(Failure {
        retry_after,
        ..Failure::new(FailureKind::Status(status.as_u16()), message)
    })
}

/// A JSON body.
pub(in crate::bench) async fn json(response: Response) -> Result<Value, Failure> {
    let body = body(response, MOST).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::malformed(format!("the answer is not JSON: {error}")))
}

/// The bytes of a body, and no more than may be.
async fn body(mut response: Response, most: usize) -> Result<Bytes, Failure> {
    let url = response.url().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(&url, &error))? {
        if body.len() + chunk.len() > most {
            return Err(Failure::malformed(format!(
                "the answer is over {most} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// A connection that was not there, or is there no more.
pub(super) fn lost(url: &Url, error: &reqwest::Error) -> Failure {
    let is_slow = error.is_timeout() && !error.is_connect();
    let kind = if is_slow {
        FailureKind::Timeout
    } else {
        FailureKind::Connection
    };
    Failure::new(kind, reach::explain(url, error).to_string())
}

/// The error that a body is in spite of its status; null, false and empty ones are none.
pub(super) fn error_in(value: &Value) -> Option<Failure> {
    let error = value.get("error")?;
    let is_none = match error {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    (!is_none).then(|| Failure::new(FailureKind::ErrorInAnswer, said(value)))
}

/// The words of an error, in whichever of the usual places they are.
pub(super) fn said(value: &Value) -> String {
    let places = ["/error/message", "/error", "/message", "/detail", "/title"];
    let found = places.iter().filter_map(|place| value.pointer(place));
    let text = found.filter_map(Value::as_str).next();
    let whole = value.get("error").unwrap_or(value);
    text.map_or_else(|| whole.to_string(), str::to_owned)
}
