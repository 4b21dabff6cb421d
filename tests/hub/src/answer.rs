//! An answer before it is written: status, headers, and a body that is text or a part of a file.

use std::ops::Range;

use axum::http::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::content::Content;
use crate::faults::Fault;
use crate::ranges::{Asked, read};
use crate::record::text;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Payload,
}

#[derive(Debug)]
pub enum Payload {
    Text(Bytes),
    File(Content, Range<u64>),
}

impl Payload {
    pub fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(_, range) => range.end - range.start,
        }
    }
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: Payload::Text(body.into()),
        }
    }

    pub fn json(value: &Value) -> Self {
        Self::new(200, "application/json; charset=utf-8", value.to_string())
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// An error of the hub's: in the body, and in headers since a HEAD has no body.
    pub fn error(status: u16, code: Option<&str>, message: &str) -> Self {
        let body = json!({"error": message}).to_string();
        let answer = Self::new(status, "application/json; charset=utf-8", body);
        let answer = answer.with("x-error-message", message);
        match code {
            Some(code) => answer.with("x-error-code", code),
            None => answer,
        }
    }

    /// An error of the CDN's.
    pub fn xml(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Self::new(status, "application/xml", body)
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        let text = format!("Redirecting to {to}");
        Self::new(status, "text/plain; charset=utf-8", text).with("location", to)
    }

    /// A file or the part of it that was asked for.
    pub fn file(content: &Content, etag: &str, headers: &HeaderMap, fault: Option<&Fault>) -> Self {
        let size = content.size();
        let of = |status, range: Range<u64>| {
            let part = Self {
                status,
                headers: Vec::new(),
                body: Payload::File(content.clone(), range),
            };
            part.with("content-type", "application/octet-stream")
                .with("etag", etag)
                .with("accept-ranges", "bytes")
        };
        let same = |header: &str| header == "*" || header.split(',').any(|one| one.trim() == etag);
        if text(headers, "if-match").is_some_and(|wanted| !same(wanted)) {
            return Self::xml(412, "PreconditionFailed", "the file is another one now");
        }
        if text(headers, "if-none-match").is_some_and(same) {
            return of(304, 0..0);
        }
        let current = text(headers, "if-range").is_none_or(same);
        let range = text(headers, "range").filter(|_| current);
        let asked = match fault {
            Some(Fault::Whole) => Asked::Whole,
            _ => read(range, size),
        };
        match asked {
            Asked::Whole => of(200, 0..size),
            Asked::Beyond => Self::xml(
                416,
                "InvalidRange",
                "The requested range is not satisfiable",
            )
            .with("content-range", format!("bytes */{size}")),
            Asked::Part(mut part) => {
                if fault == Some(&Fault::WrongRange) {
                    part.start = if part.start > 0 {
                        part.start - 1
                    } else {
                        1.min(part.end - 1)
                    };
                }
                let said = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                of(206, part).with("content-range", said)
            }
        }
    }
}
