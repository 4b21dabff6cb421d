//! Reading scheduler_config.json, which Python may have written infinities into that are no JSON (`"lambda_min_clipped": -Infinity` is
//! in many DPM-Solver configurations). Apart from the configuration, which sees texts in their place.

use chandler_nn::error::NnError;
use chandler_nn::fields::Fields;
use chandler_nn::weights::Snapshot;
use serde_json::Value;

use crate::error::Result;

/// What stands for minus infinity.
pub(super) const MINUS_INFINITY: &str = "-Infinity";

/// The words of Python's JSON that others do not know, longest first.
const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// The file's fields, or nothing when it is not there.
pub(super) fn load(snapshot: &Snapshot, file: &str) -> Result<Option<Fields>> {
    let Some(bytes) = snapshot.read(file)? else {
        return Ok(None);
    };
    let wrong = |message: String| NnError::config(file, message);
    let value: Value =
        serde_json::from_slice(&quote_words(&bytes)).map_err(|error| wrong(error.to_string()))?;
    if !value.is_object() {
        return Err(wrong("it is no JSON object".to_owned()).into());
    }
    Ok(Some(Fields::of(file, value)))
}

/// Puts Python's words into quotes where they stand outside of texts.
fn quote_words(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let (mut inside, mut escaped) = (false, false);
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if inside {
            inside = escaped || *first != b'"';
            escaped = !escaped && *first == b'\\';
        } else if let Some(word) = WORDS.iter().find(|word| rest.starts_with(word)) {
            out.push(b'"');
            out.extend_from_slice(word);
            out.push(b'"');
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        } else {
            inside = *first == b'"';
        }
        out.push(*first);
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_become_texts_and_texts_stay_as_they_are() {
        let quoted = quote_words(
            br#"{"a": -Infinity, "b -Infinity": "NaN \" Infinity", "c": [Infinity,NaN]}"#,
        );
        let value: Value = serde_json::from_slice(&quoted).unwrap();
        let told = serde_json::json!({"a": "-Infinity", "b -Infinity": "NaN \" Infinity", "c": ["Infinity", "NaN"]});
        assert_eq!(value, told);
    }
}
