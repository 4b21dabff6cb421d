//! Files in JSON: base64, a data URL, or an address that they are fetched from. Which fields hold them, and what they are for,
//! is the business of who reads them: audio and pictures come in the same ways.

use base64::Engine as _;
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use chandler_core::{ErrorKind, RequestError};
use futures_util::stream::{self, StreamExt};
use percent_encoding::percent_decode_str;

use super::room::{Kept, Room};
use super::state::Api;
use crate::reach::ReachError;

/// Downloads of one request at the same time.
const AT_ONCE: usize = 4;

/// What sort of file it is, for errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// With its article.
    pub(super) a: &'static str,
    /// The same, definite.
    pub(super) the: &'static str,
    /// All of them together.
    pub(super) all: &'static str,
    /// The first half of its media type.
    pub(super) media: &'static str,
    /// Bytes that one may have, and all of a request together.
    pub(super) limit: u64,
    /// What sets that.
    pub(super) limited_by: &'static str,
}

/// In which of the ways a field may hold one; a data URL always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ways {
    pub(super) base64: bool,
    pub(super) address: bool,
}

/// Where a file is, and the field that says so.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) field: String,
    pub(super) place: Place,
}

pub(super) enum Place {
    Here(Vec<u8>),
    At(String),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::At(_) => f.write_str("an address"), // which may be signed
        }
    }
}

impl Kind {
    /// The error of a file that is larger than files may be.
    pub(super) fn over_limit(&self, field: &str) -> RequestError {
        let (limit, by) = (self.limit, self.limited_by);
        let message = format!("{field} is over the limit of {limit} bytes{by}");
        RequestError {
            field: Some(field.to_owned()),
            ..RequestError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
        }
    }

    /// Reads a field's text.
    ///
    /// # Errors
    /// Why there is no file in it.
    pub(super) fn read(&self, field: String, text: &str, ways: Ways) -> Result<Sent, RequestError> {
        let scheme = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        let is_address = scheme.starts_with("http://") || scheme.starts_with("https://");
        let place = match (scheme.starts_with("data:"), is_address) {
            (true, _) => Place::Here(self.of_data_url(&field, text)?),
            (false, true) if ways.address => Place::At(text.to_owned()),
            (false, false) if ways.base64 => Place::Here(self.of_base64(&field, text)?),
            _ => {
                let wanted = match ways.base64 {
                    false => "an http(s) address or a data URL".to_owned(),
                    true => format!("{} in base64", self.the),
                };
                let message = format!("{field} must be {wanted}");
                return Err(RequestError::field(field, message));
            }
        };
        if matches!(&place, Place::Here(bytes) if bytes.is_empty()) {
            let message = format!("{field} is empty; it must be {}", self.a);
            return Err(RequestError::field(field, message));
        }
        Ok(Sent { field, place })
    }

    fn of_data_url(&self, field: &str, text: &str) -> Result<Vec<u8>, RequestError> {
        let Some((head, data)) = text.split_once(',') else {
            let message = format!(
                "{field} is a data URL without data; it must be data:{}/…;base64,…",
                self.media
            );
            return Err(RequestError::field(field, message));
        };
        if head.to_ascii_lowercase().ends_with(";base64") {
            return self.of_base64(field, data);
        }
        if data.len() as u64 > self.limit.saturating_mul(3) {
            return Err(self.over_limit(field));
        }
        Ok(percent_decode_str(data).collect())
    }

    /// With or without padding, of either alphabet, in one line or many.
    fn of_base64(&self, field: &str, text: &str) -> Result<Vec<u8>, RequestError> {
        if text.len() as u64 / 4 * 3 > self.limit.saturating_add(2) {
            return Err(self.over_limit(field));
        }
        let joined: Vec<u8>;
        let bytes = match text.bytes().any(|byte| byte.is_ascii_whitespace()) {
            true => {
                joined = text
                    .bytes()
                    .filter(|byte| !byte.is_ascii_whitespace())
                    .collect();
                joined.as_slice()
            }
            false => text.as_bytes(),
        };
        let url_safe = bytes.iter().any(|byte| matches!(byte, b'-' | b'_'));
        let engine = if url_safe { &URL_SAFE } else { &STANDARD };
        engine.decode(bytes).map_err(|error| {
            let message = format!("{field} is not base64 of {}: {error}", self.a);
            RequestError::field(field, message)
        })
    }

    /// The files themselves of all, in their order.
    ///
    /// # Errors
    /// The first that could not be had, or that they are too much together.
    pub(super) async fn bring(
        &self,
        api: &Api,
        all: Vec<Sent>,
    ) -> Result<Vec<Bytes>, RequestError> {
        let several = all.len() > 1;
        let downloads: Vec<_> = all.into_iter().map(|sent| one(api, sent)).collect();
        let mut coming = stream::iter(downloads).buffered(AT_ONCE);
        let (mut files, mut total) = (Vec::new(), 0);
        while let Some(brought) = coming.next().await {
            let (field, file) = brought?;
            total += file.len() as u64;
            if several && total > self.limit {
                let (what, limit, by) = (self.all, self.limit, self.limited_by);
                let message =
                    format!("{field} and {what} before it are over the limit of {limit} bytes{by}");
                let error = RequestError::new(ErrorKind::TooLarge, message);
                return Err(RequestError {
                    field: Some(field),
                    ..error.with_code("request_too_large")
                });
            }
            files.push(file);
        }
        Ok(files)
    }
}

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

static STANDARD: GeneralPurpose = engine(&alphabet::STANDARD);
static URL_SAFE: GeneralPurpose = engine(&alphabet::URL_SAFE);

async fn one(api: &Api, sent: Sent) -> Result<(String, Bytes), RequestError> {
    let Sent { field, place } = sent;
    match place {
        Place::Here(bytes) => Ok((field, Bytes::from(bytes))),
        Place::At(address) => {
            let held = api.room.as_ref().map(Room::hold);
            let room = |more: u64| held.as_ref().is_none_or(|held| held.take(more));
            let answer = api.settings.downloads.get_while(&address, &room).await;
            let refusal = held.as_ref().and_then(|held| held.refusal().cloned());
            let told = |error| refusal.unwrap_or_else(|| not_had(&field, &error));
            let body = answer.map_err(told)?.body;
            let body = match held {
                Some(held) => Kept::bytes(body, held),
                None => body,
            };
            Ok((field, body))
        }
    }
}

fn not_had(field: &str, error: &ReachError) -> RequestError {
    let kind = match error {
        ReachError::TooLarge { .. } => ErrorKind::TooLarge,
        _ => ErrorKind::BadInput,
    };
    RequestError {
        field: Some(field.to_owned()),
        ..RequestError::new(kind, format!("{field}: {error}")).with_code("download_failed")
    }
}
