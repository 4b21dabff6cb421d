//! A request to a platform as data: built by pure functions, shown by `--dry-run`, compared by tests, sent by
//! [`Api`](super::Api). It names secrets and holds none.

use std::fmt;

use reqwest::Method;
use serde_json::Value;

use super::secrets::{mask_text, masked};

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What it is for, as it is told: `create the endpoint`.
    pub purpose: String,
    /// The method.
    pub method: Method,
    /// The whole address.
    pub url: String,
    /// Headers besides the login.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Option<Value>,
    /// Whether sending it twice is the same as sending it once, so that it is repeated when the answer is lost.
    pub repeatable: bool,
}

impl Call {
    /// A request; GET, PUT, DELETE and HEAD may be repeated, others not.
    pub fn new(purpose: impl Into<String>, method: Method, url: impl Into<String>) -> Self {
        Self {
            purpose: purpose.into(),
            repeatable: method.is_idempotent(),
            method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// With a body.
    pub fn with(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sending it twice is the same as sending it once.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

/// Something that `--dry-run` shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A request.
    Call(Call),
    /// A command line on this machine, secrets masked.
    Command(String),
    /// A document that is applied, such as YAML, secrets masked.
    Document(String),
}

impl From<Call> for Step {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => call.fmt(f),
            Self::Command(text) | Self::Document(text) => writeln!(f, "{}", text.trim_end()),
        }
    }
}

/// As `--dry-run` shows it: purpose, method and address, headers, body; secrets masked.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}", self.purpose)?;
        writeln!(f, "{} {}", self.method, mask_text(&self.url))?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", mask_text(value))?;
        }
        match &self.body {
            Some(body) => writeln!(f, "{:#}", masked(body)),
            None => Ok(()),
        }
    }
}
