//! Files within an output: texts that are `data:` URIs, as image and speech workers send them inline.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// A file that stood in an output.
pub(super) struct Media {
    pub content_type: String,
    pub bytes: Bytes,
}

/// Kinds that are files for whoever gets them; a `data:text/plain` is left where it is.
const KINDS: [&str; 4] = ["image/", "audio/", "video/", "application/octet-stream"];

/// The texts of an output that hold files.
pub(super) fn find<'a>(value: &'a mut Value, found: &mut Vec<&'a mut String>) {
    match value {
        Value::String(text) => {
            if kind(text).is_some() {
                found.push(text);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| find(item, found)),
        Value::Object(fields) => fields.values_mut().for_each(|field| find(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The file in a text; `None` when what looked like one is none.
pub(super) fn decode(text: &str) -> Option<Media> {
    let content_type = kind(text)?.to_owned();
    let (_, data) = text.split_once(',')?;
    let bytes = STANDARD.decode(data.trim()).ok()?.into();
    Some(Media {
        content_type,
        bytes,
    })
}

/// The media type of `data:TYPE;base64,…`.
fn kind(text: &str) -> Option<&str> {
    let (head, _) = text.strip_prefix("data:")?.split_once(',')?;
    let kind = head.strip_suffix(";base64")?;
    let kind = kind.split(';').next()?;
    let known = KINDS.iter().any(|start| kind.starts_with(start));
    (known && kind.len() < 100).then_some(kind)
}

/// The usual ending of a file's name.
pub(super) fn extension(content_type: &str) -> &'static str {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "image/gif" => "gif",
        "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
        "audio/mpeg" | "audio/mp3" => "mp3",
        "audio/ogg" => "ogg",
        "audio/flac" | "audio/x-flac" => "flac",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "application/json" => "json",
        _ => "bin",
    }
}
