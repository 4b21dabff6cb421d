//! An answer before it is written: what it says, and what it hands out, so that a cut answer can be taken back.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::{Value, json};

/// What a worker has only once it has read the answer.
#[derive(Debug, Default)]
pub enum Handed {
    #[default]
    Nothing,
    Jobs(Vec<Arc<str>>),
    Stops(Arc<str>, Vec<Arc<str>>),
}

pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Content,
    pub handed: Handed,
}

pub enum Content {
    Whole(Bytes),
    /// Server-sent events: it ends when the job does.
    Live(Body),
}

pub const JSON: &str = "application/json";

impl Answer {
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: JSON,
            body: Content::Whole(body.into()),
            handed: Handed::Nothing,
        }
    }

    pub fn json(value: &Value) -> Self {
        Self::new(200, value.to_string())
    }

    pub fn error(status: u16, message: &str) -> Self {
        Self::new(status, json!({"error": message}).to_string())
    }

    pub fn none() -> Self {
        Self::new(204, Bytes::new())
    }

    pub fn ok() -> Self {
        Self::new(200, Bytes::from_static(b"{}"))
    }

    /// What is said, when that is known at once.
    pub fn text(&self) -> Option<&Bytes> {
        match &self.body {
            Content::Whole(bytes) => Some(bytes),
            Content::Live(_) => None,
        }
    }

    pub fn into_response(self) -> Response<Body> {
        let is_empty = self.text().is_some_and(Bytes::is_empty);
        let body = match self.body {
            Content::Whole(bytes) => Body::from(bytes),
            Content::Live(body) => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if !is_empty || self.status == 200 {
            let kind = HeaderValue::from_static(self.content_type);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }
}
