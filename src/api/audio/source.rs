//! Audio in JSON: which of a request's fields holds it. How is [`super::super::sent`]'s.

use chandler_core::{Audio, RequestError};

use crate::api::json::Fields;
use crate::api::sent::{Kind, Sent, Ways};
use crate::api::state::Api;

/// Fields that hold audio, under every name.
pub(in crate::api) const FIELDS: [&str; 4] = ["audio", "audio_base64", "audio_url", "audioUrl"];
/// What would do.
pub(in crate::api) const WANTED: &str =
    "audio (base64, a data URL or an http(s) address), audio_base64 or audio_url";

/// Where audio is, and the field that says so.
pub(in crate::api) type Source = Sent;

fn kind(limit: u64) -> Kind {
    Kind {
        a: "an audio file",
        the: "the audio file",
        all: "the audio",
        media: "audio",
        limit,
        limited_by: " (--max-upload, CHANDLER_MAX_UPLOAD)",
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
    let ways = Ways {
        base64: key != "audio_url",
        address: key != "audio_base64",
    };
    kind(limit).read(field, text, ways).map(Some)
}

/// The audio itself of all, in their order.
///
/// # Errors
/// The first that could not be had, or that they are too much together.
pub(in crate::api) async fn bring(
    api: &Api,
    sources: Vec<Source>,
) -> Result<Vec<Audio>, RequestError> {
    let files = kind(api.settings.upload_limit).bring(api, sources).await?;
    Ok(files.into_iter().map(Audio::bytes).collect())
}

#[cfg(test)]
mod tests {
    use chandler_core::ErrorKind;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::audio::fields::SPELLINGS;
    use crate::api::sent::Place;

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
