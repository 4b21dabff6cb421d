//! What Vertex AI and Cloud Run have in common: the login, pages, long-running operations, log entries, and how two states of a
//! thing are compared. Plain REST through [`Api`], and not Google's Rust crates: google-cloud-aiplatform-v1 1.18 alone is a
//! million lines (52 MB) and brings gRPC with 40 crates, its client repeats what may have been carried out, and its requests are
//! no data that a dry run could show with the secrets masked.

mod account;
mod facts;
mod logs;
mod operation;
#[cfg(test)]
pub(super) mod sample;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

pub use account::Account;
pub(super) use facts::{Facts, changes, environment, fact, labels};
pub(super) use logs::{Entries, tail};
pub(super) use operation::{Operation, no_capacity};

use super::{Api, Call, MANAGED_BY, Name, Patience, Piece, ProvisionError, Secrets};

/// Pages of a list, so that a server that always has another one comes to an end.
const PAGES: usize = 1000;
/// Between the first two looks at an operation; it grows, as in Google's own clients.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(20);

/// A platform of Google's.
pub(super) struct Rest {
    pub platform: &'static str,
    pub api: Api,
    pub account: Arc<Account>,
}

impl Rest {
    pub(super) fn new(
        platform: &'static str,
        account: Arc<Account>,
        patience: Patience,
    ) -> Result<Self, ProvisionError> {
        let login = Arc::clone(&account);
        Ok(Self {
            platform,
            api: Api::new(platform, login, patience)?,
            account,
        })
    }

    pub(super) fn call(&self, purpose: &str, method: Method, url: impl Into<String>) -> Call {
        let call = Call::new(purpose, method, url);
        match self.account.charged() {
            Some(project) => call.header("x-goog-user-project", project),
            None => call,
        }
    }

    pub(super) async fn get(
        &self,
        purpose: &str,
        url: impl Into<String>,
    ) -> Result<Option<Value>, ProvisionError> {
        let call = self.call(purpose, Method::GET, url);
        self.api.find(&call, &Secrets::default()).await
    }

    /// Every entry of a list; none where what holds it is not there.
    pub(super) async fn list(
        &self,
        purpose: &str,
        url: &str,
        field: &str,
    ) -> Result<Vec<Value>, ProvisionError> {
        let (mut all, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let joint = if url.contains('?') { '&' } else { '?' };
            let page = match next.as_str() {
                "" => url.to_owned(),
                token => format!("{url}{joint}pageToken={}", encoded(token)),
            };
            let Some(mut answer) = self.get(purpose, page).await? else {
                return Ok(all);
            };
            if let Some(Value::Array(entries)) = answer.get_mut(field).map(Value::take) {
                all.extend(entries);
            }
            next = text(&answer, "/nextPageToken").to_owned();
            if next.is_empty() {
                return Ok(all);
            }
        }
        Ok(all)
    }

    /// Waits until an operation ends, however long it takes up to `limit`, and gives what came of it.
    pub(super) async fn settle(
        &self,
        base: &str,
        first: &Value,
        (purpose, limit): (&str, Duration),
    ) -> Result<Operation, ProvisionError> {
        let pace = self.api.patience().pace;
        let end = tokio::time::Instant::now() + limit;
        let mut pause = FIRST_LOOK;
        let mut seen = first.clone();
        loop {
            let operation = Operation::read(&seen);
            if !matches!(operation, Operation::Pending) {
                return Ok(operation);
            }
            if tokio::time::Instant::now() >= end {
                return Err(ProvisionError::Ambiguous {
                    platform: self.platform,
                    purpose: purpose.to_owned(),
                    reason: format!("the operation still runs after {} s", limit.as_secs()),
                });
            }
            let name = text(&seen, "/name").to_owned();
            if name.is_empty() {
                let call = self.call(purpose, Method::GET, base);
                return Err(self.api.malformed(&call, "an operation without a name"));
            }
            tokio::time::sleep(pause.mul_f64(pace)).await;
            pause = pause.mul_f64(1.5).min(LAST_LOOK);
            match self.get(purpose, format!("{base}/{name}")).await? {
                Some(operation) => seen = operation,
                // It went with what it was about; what exists now says the rest.
                None => return Ok(Operation::Done(Value::Null)),
            }
        }
    }

    /// As [`Rest::settle`], for an operation that has to succeed.
    pub(super) async fn finish(
        &self,
        base: &str,
        first: &Value,
        (purpose, limit): (&str, Duration),
        (secrets, hardware): (&Secrets, &str),
    ) -> Result<Value, ProvisionError> {
        match self.settle(base, first, (purpose, limit)).await? {
            Operation::Done(response) => Ok(response),
            Operation::Pending => Ok(Value::Null),
            Operation::Failed { code, message } => {
                let message = secrets.scrub(&message);
                Err(match no_capacity(Some(code), &message) {
                    true => ProvisionError::Capacity {
                        platform: self.platform,
                        hardware: hardware.to_owned(),
                        message,
                    },
                    false => ProvisionError::Refused {
                        platform: self.platform,
                        purpose: purpose.to_owned(),
                        status: operation::http_status(code),
                        message,
                    },
                })
            }
        }
    }

    /// Waits until something that was to be deleted is gone, whoever deleted it.
    pub(super) async fn gone(
        &self,
        base: &str,
        call: &Call,
        limit: Duration,
    ) -> Result<(), ProvisionError> {
        let nothing = Secrets::default();
        // None: gone by an attempt whose answer was lost.
        let Some(begun) = self.api.find(call, &nothing).await? else {
            return Ok(());
        };
        let finished = self.finish(base, &begun, (&call.purpose, limit), (&nothing, ""));
        match finished.await {
            Err(ProvisionError::Refused { status: 404, .. }) => Ok(()),
            finished => finished.map(|_| ()),
        }
    }

    /// A refusal in which the platform says that it has nothing to lend.
    pub(super) fn capacity(&self, error: ProvisionError, hardware: &str) -> ProvisionError {
        match error {
            ProvisionError::Busy { message, .. } | ProvisionError::Refused { message, .. }
                if no_capacity(None, &message) =>
            {
                ProvisionError::Capacity {
                    platform: self.platform,
                    hardware: hardware.to_owned(),
                    message,
                }
            }
            other => other,
        }
    }
}

/// Somebody else made it meanwhile, or an earlier attempt of ours: the next look finds it.
pub(super) fn taken(error: ProvisionError) -> ProvisionError {
    match error {
        ProvisionError::Refused {
            platform,
            purpose,
            status: 409,
            message,
        } => ProvisionError::Ambiguous {
            platform,
            purpose,
            reason: message,
        },
        other => other,
    }
}

/// A text in a document; empty where there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// A number in a document, which Google writes as a text where it has 64 bits.
pub(super) fn number(value: &Value, pointer: &str) -> u32 {
    let found = value.pointer(pointer);
    let number = found.and_then(|found| found.as_u64().or_else(|| found.as_str()?.parse().ok()));
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

/// The entries of a list in a document.
pub(super) fn entries<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// Whether a thing bears our mark and this deployment's name.
pub(super) fn is_ours(thing: &Value, name: &Name) -> bool {
    text(thing, "/labels/managed-by") == MANAGED_BY
        && text(thing, "/labels/chandler-deployment") == name.as_str()
}

/// The last part of a resource's name.
pub(super) fn id(thing: &Value) -> &str {
    let name = text(thing, "/name");
    name.rsplit('/').next().unwrap_or(name)
}

/// A thing that bears our labels, as all that bear our mark are told.
pub(super) fn piece(kind: &'static str, thing: &Value, orphan: bool) -> Piece {
    Piece {
        kind,
        id: id(thing).to_owned(),
        deployment: Name::parse(text(thing, "/labels/chandler-deployment")).ok(),
        owner: thing
            .pointer("/labels/chandler-owner")
            .and_then(Value::as_str)
            .map(str::to_owned),
        orphan,
    }
}

/// A duration as Google's JSON has it.
pub(super) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

/// A value of a query.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
