//! In which form pictures come back: the file's format and quality, and whether the file itself or its address is in the answer.

use chandler_core::RequestError;
use serde_json::Value;

use super::fields::name;
use crate::api::json::{Fields, whole, wrong};
use crate::pictures::{Encoding, Format};

/// How a picture is in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::api) enum Delivery {
    /// The file, as base64.
    #[default]
    Base64,
    /// The same as a data URL.
    DataUrl,
    /// The address at which it lies in the worker's object store.
    Url,
}

/// Reads `response_format`.
pub(super) fn delivery(fields: &Fields<'_>) -> Result<Delivery, RequestError> {
    let Some(found) = fields.find("response_format") else {
        return Ok(Delivery::default());
    };
    match found.value.as_str() {
        Some("b64_json" | "base64") => Ok(Delivery::Base64),
        Some("data_url") => Ok(Delivery::DataUrl),
        Some("url") => Ok(Delivery::Url),
        _ => Err(wrong(
            &found.name,
            found.value,
            "b64_json (or base64), data_url or url",
        )),
    }
}

/// Reads `output_format` and `output_compression`, or `quality` where that is a number.
pub(super) fn encoding(fields: &Fields<'_>) -> Result<Encoding, RequestError> {
    let format = match fields.find("output_format") {
        None => Format::default(),
        Some(found) => found
            .value
            .as_str()
            .and_then(Format::named)
            .ok_or_else(|| wrong(&found.name, found.value, "png, jpeg or webp"))?,
    };
    let compression = fields.whole("output_compression", 0..=100)?;
    let quality = quality(fields)?;
    let (key, given) = match compression {
        Some(_) => ("output_compression", compression),
        None => ("quality", quality),
    };
    let lossless = format != Format::Jpeg;
    // OpenAI's own default, which asks for nothing.
    if let Some(given) = given.filter(|given| lossless && *given != 100) {
        let (name, format) = (name(fields, key), format.name());
        let message = format!(
            "{name} is {given}, and {format} is written without loss here; leave out {name}, or set output_format to jpeg"
        );
        return Err(RequestError::unsupported(name, message));
    }
    Ok(Encoding {
        format,
        quality: given.map(|given| given.clamp(1, 100) as u8),
    })
}

/// OpenAI's words for it name how much work a picture is, others' numbers the file's quality.
fn quality(fields: &Fields<'_>) -> Result<Option<u32>, RequestError> {
    let Some(found) = fields.find("quality") else {
        return Ok(None);
    };
    match found.value {
        Value::Number(_) => whole(&found.name, found.value, 1..=100).map(Some),
        Value::String(word) if matches!(word.as_str(), "auto" | "standard") => Ok(None),
        Value::String(word)
            if matches!(word.as_str(), "low" | "medium" | "high" | "hd" | "max") =>
        {
            let message = format!(
                "{} is {word:?}, which no model here knows; how much work a picture is, is said by steps: leave out {}",
                found.name, found.name
            );
            Err(RequestError::unsupported(found.name, message))
        }
        other => Err(wrong(
            &found.name,
            other,
            "auto, standard, or a number from 1 to 100",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quality_is_honoured_where_a_format_has_one_and_refused_where_not() {
        let read = |body: Value| {
            let read = encoding(&Fields::new(body.as_object().unwrap()));
            read.map(|encoding| encoding.quality)
                .map_err(|error| error.field.unwrap())
        };
        assert_eq!(
            read(json!({"output_format": "jpg", "quality": 30})),
            Ok(Some(30))
        );
        assert_eq!(
            read(json!({"output_format": "jpeg", "output_compression": 0})),
            Ok(Some(1))
        );
        assert_eq!(
            read(json!({"output_format": "webp", "output_compression": 100})),
            Ok(Some(100))
        );
        assert_eq!(read(json!({"quality": "auto"})), Ok(None));
        for (body, field) in [
            (
                json!({"output_format": "webp", "output_compression": 80}),
                "output_compression",
            ),
            (json!({"quality": 80}), "quality"),
            (json!({"quality": "high"}), "quality"),
            (json!({"quality": "best"}), "quality"),
            (json!({"output_format": "tiff"}), "output_format"),
        ] {
            assert_eq!(read(body), Err(field.to_owned()));
        }
    }
}
