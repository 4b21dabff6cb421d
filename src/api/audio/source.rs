//! Audio in JSON: base64, a data URL, or an address that it is fetched from. Apart from what is asked about it.

use base64::Engine as _;
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chandler_core::{Audio, ErrorKind, RequestError};
use futures_util::stream::{self, StreamExt};
use percent_encoding::percent_decode_str;

use super::upload::over_limit;
use crate::api::json::Fields;
use crate::api::state::Api;
use crate::reach::ReachError;

/// Fields that hold audio, under every name.
pub(in crate::api) const FIELDS: [&str; 4] = ["audio", "audio_base64", "audio_url", "audioUrl"];
/// What would do.
pub(in crate::api) const WANTED: &str =
    "audio (base64, a data URL or an http(s) address), audio_base64 or audio_url";
/// Downloads of one request at the same time.
const AT_ONCE: usize = 4;

/// Where audio is, and the field that says so.
#[derive(Debug)]
pub(in crate::api) struct Source {
    field: String,
    place: Place,
}

enum Place {
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

/// The one field that holds audio; `None` where there is none.
pub(in crate::api) fn read(
    fields: &Fields<'_>,
    limit: u64,
) -> Result<Option<Source>, RequestError> {
    let mut given = Vec::new();
    for key in ["audio", "audio_base64", "audio_url"] {
        if let Some(text) = fields.string(key)? {
            let name = fields
                .find(key)
                .map_or_else(|| key.to_owned(), |found| found.name);
            given.push((key, name, text.trim()));
        }
    }
    let Some((key, field, text)) = given.pop() else {
        return Ok(None);
    };
    if let Some((_, other, _)) = given.pop() {
        let message = format!("{field} is given beside {other}; one of them holds the audio");
        return Err(RequestError::field(field, message));
    }
    let scheme = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let is_address = scheme.starts_with("http://") || scheme.starts_with("https://");
    let place = match (scheme.starts_with("data:"), is_address) {
        (true, _) => Place::Here(of_data_url(&field, text, limit)?),
        (false, true) if key != "audio_base64" => Place::At(text.to_owned()),
        (false, false) if key != "audio_url" => Place::Here(of_base64(&field, text, limit)?),
        _ => {
            let wanted = match key {
                "audio_url" => "an http(s) address or a data URL",
                _ => "the audio file in base64",
            };
            let message = format!("{field} must be {wanted}");
            return Err(RequestError::field(field, message));
        }
    };
    if matches!(&place, Place::Here(bytes) if bytes.is_empty()) {
        let message = format!("{field} is empty; it must be an audio file");
        return Err(RequestError::field(field, message));
    }
    Ok(Some(Source { field, place }))
}

fn of_data_url(field: &str, text: &str, limit: u64) -> Result<Vec<u8>, RequestError> {
    let Some((head, data)) = text.split_once(',') else {
        let message =
            format!("{field} is a data URL without data; it must be data:audio/…;base64,…");
        return Err(RequestError::field(field, message));
    };
    if head.to_ascii_lowercase().ends_with(";base64") {
        return of_base64(field, data, limit);
    }
    if data.len() as u64 > limit.saturating_mul(3) {
        return Err(over_limit(field, limit));
    }
    Ok(percent_decode_str(data).collect())
}

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

static STANDARD: GeneralPurpose = engine(&alphabet::STANDARD);
static URL_SAFE: GeneralPurpose = engine(&alphabet::URL_SAFE);

/// With or without padding, of either alphabet, in one line or many.
fn of_base64(field: &str, text: &str, limit: u64) -> Result<Vec<u8>, RequestError> {
    if text.len() as u64 / 4 * 3 > limit.saturating_add(2) {
        return Err(over_limit(field, limit));
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
        let message = format!("{field} is not base64 of an audio file: {error}");
        RequestError::field(field, message)
    })
}

/// The audio itself of all, in their order.
///
/// # Errors
/// The first that could not be had, or that they are too much together.
pub(in crate::api) async fn bring(
    api: &Api,
    sources: Vec<Source>,
) -> Result<Vec<Audio>, RequestError> {
    let (several, limit) = (sources.len() > 1, api.settings.upload_limit);
    let downloads: Vec<_> = sources.into_iter().map(|source| one(api, source)).collect();
    let mut coming = stream::iter(downloads).buffered(AT_ONCE);
    let (mut all, mut total) = (Vec::new(), 0);
    while let Some(brought) = coming.next().await {
        let (field, bytes, audio) = brought?;
        total += bytes;
        if several && total > limit {
            let message = format!(
                "{field} and the audio before it are over the limit of {limit} bytes (--max-upload, CHANDLER_MAX_UPLOAD)"
            );
            let error = RequestError::new(ErrorKind::TooLarge, message);
            return Err(RequestError {
                field: Some(field),
                ..error.with_code("request_too_large")
            });
        }
        all.push(audio);
    }
    Ok(all)
}

async fn one(api: &Api, source: Source) -> Result<(String, u64, Audio), RequestError> {
    let Source { field, place } = source;
    match place {
        Place::Here(bytes) => Ok((field, bytes.len() as u64, Audio::bytes(bytes))),
        Place::At(address) => {
            let answer = api.settings.downloads.get(&address).await;
            let body = answer.map_err(|error| not_had(&field, &error))?.body;
            Ok((field, body.len() as u64, Audio::bytes(body)))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::audio::fields::SPELLINGS;

    fn of(body: Value) -> Result<Option<Source>, RequestError> {
        read(
            &Fields::new(body.as_object().unwrap()).spelled(SPELLINGS),
            20,
        )
    }

    fn bytes(body: Value) -> Vec<u8> {
        match of(body).unwrap().unwrap().place {
            Place::Here(bytes) => bytes,
            Place::At(address) => address.into_bytes(),
        }
    }

    #[test]
    fn base64_is_read_as_people_write_it() {
        for text in [
            "+/8AAQ==",
            "+/8AAQ",
            "-_8AAQ",
            "-_8AAQ==",
            " +/8A\r\nAQ==\n",
            "data:audio/wav;base64,+/8AAQ==",
        ] {
            assert_eq!(
                bytes(json!({ "audio": text })),
                [0xfb, 0xff, 0, 1],
                "{text}"
            );
        }
        assert_eq!(bytes(json!({"audio_base64": "AAE="})), [0, 1]);
        assert_eq!(bytes(json!({"audio_url": "data:,a%20b"})), b"a b");
        let address = "HTTPS://example.com/a.wav?b=c";
        assert_eq!(bytes(json!({ "audioUrl": address })), address.as_bytes());
        assert_eq!(bytes(json!({ "audio": address })), address.as_bytes());
        assert!(of(json!({})).unwrap().is_none());
    }

    #[test]
    fn what_holds_no_audio_is_refused_by_name() {
        for (body, named) in [
            (json!({"audio": 7}), "audio"),
            (json!({"audio": ""}), "audio"),
            (json!({"audio": "a*b"}), "audio"),
            (
                json!({"audio": "AAE", "audio_url": "http://a/"}),
                "audio_url",
            ),
            (json!({"audio_base64": "http://a/"}), "audio_base64"),
            (json!({"audio_url": "AAE="}), "audio_url"),
            (json!({"audioUrl": "ftp://a/b"}), "audioUrl"),
            (json!({"audio": "data:audio/wav"}), "audio"),
            (json!({"audio": "A".repeat(40)}), "audio"),
            (
                json!({"audio": format!("data:,{}", "a".repeat(100))}),
                "audio",
            ),
        ] {
            let error = of(body.clone()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named), "{body}");
            assert!(error.message.contains(named), "{}", error.message);
        }
        assert_eq!(
            of(json!({"audio": "A".repeat(40)})).unwrap_err().kind,
            ErrorKind::TooLarge
        );
    }
}
