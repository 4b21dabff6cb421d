//! An upload: the parts of a form become one JSON object, so that one reader of fields serves forms and JSON alike, and the
//! file's bytes, which are in memory once. Apart from the fields' meaning, which is not known here.

use bytes::Bytes;
use chandler_core::{ErrorKind, RequestError};
use futures_util::Stream;
use serde_json::{Map, Value};

use crate::api::multipart::{Multipart, Part};

/// Bytes of a field that is no file, and of all of them together.
const TEXT: usize = 64 << 10;
const TEXTS: usize = 1 << 20;
const PARTS: usize = 256;
/// What comes around the file at most: fields, heads and boundaries.
pub(in crate::api) const AROUND: usize = TEXTS + PARTS * (8 << 10);

/// Fields that are switches: curl's users write them in many ways.
const SWITCHES: [&str; 13] = [
    "stream",
    "progress",
    "translate",
    "carry_initial_prompt",
    "condition_on_previous_text",
    "vad_filter",
    "enable_vad",
    "batched",
    "word_timestamps",
    "without_timestamps",
    "detect_language",
    "diarize",
    "grouped",
];
/// Fields that are numbers, lists or objects, where a text is one of these as JSON writes it; all others are texts.
const VALUES: [&str; 27] = [
    "temperature",
    "temperature_increment_on_fallback",
    "beam_size",
    "best_of",
    "patience",
    "length_penalty",
    "seed",
    "max_new_tokens",
    "suppress_tokens",
    "compression_ratio_threshold",
    "logprob_threshold",
    "log_prob_threshold",
    "no_speech_threshold",
    "hallucination_silence_threshold",
    "max_duration",
    "vad_parameters",
    "chunking_strategy",
    "timestamp_granularities",
    "include",
    // Of the objects.
    "threshold",
    "neg_threshold",
    "min_speech_duration_ms",
    "max_speech_duration_s",
    "min_silence_duration_ms",
    "speech_pad_ms",
    "silence_duration_ms",
    "prefix_padding_ms",
];
/// Fields that may come several times without brackets.
const LISTS: [&str; 7] = [
    "timestamp_granularities",
    "include",
    "keywords",
    "languages",
    "hotwords",
    "known_speaker_names",
    "known_speaker_references",
];

/// Which fields of a form are no plain texts.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Sorts {
    pub(in crate::api) switches: &'static [&'static str],
    pub(in crate::api) values: &'static [&'static str],
    pub(in crate::api) lists: &'static [&'static str],
}

const SORTS: Sorts = Sorts {
    switches: &SWITCHES,
    values: &VALUES,
    lists: &LISTS,
};

/// What a form held.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) fields: Map<String, Value>,
    /// None while it has not come.
    pub(super) file: Option<Vec<u8>>,
    parts: usize,
    texts: usize,
}

/// Where the file's bytes come.
pub(super) enum Next {
    /// The file begins: what came before it can be looked at.
    File,
    /// The form has ended.
    End,
}

impl Upload {
    /// Reads on, up to the file or to the end.
    ///
    /// # Errors
    /// What the form must not hold, by name.
    pub(super) async fn texts<S, E>(
        &mut self,
        form: &mut Multipart<S>,
    ) -> Result<Next, RequestError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        while let Some(part) = form.next().await? {
            self.parts += 1;
            if self.parts > PARTS {
                let message = format!("the form has more than {PARTS} parts");
                return Err(too_large(message));
            }
            if is_audio(&part)? {
                if self.file.is_some() {
                    let message = "file is given twice; one audio file is heard at a time";
                    return Err(RequestError::field("file", message));
                }
                return Ok(Next::File);
            }
            let mut text = Vec::new();
            while let Some(piece) = form.piece().await? {
                self.texts += piece.len();
                if text.len() + piece.len() > TEXT || self.texts > TEXTS {
                    let message = format!(
                        "{} is too long: a field may have {TEXT} bytes, and all of them {TEXTS}",
                        part.name
                    );
                    return Err(RequestError {
                        field: Some(part.name),
                        ..too_large(message)
                    });
                }
                text.extend_from_slice(&piece);
            }
            let text = String::from_utf8(text).map_err(|_| {
                let message = format!("{} is not UTF-8", part.name);
                RequestError::field(part.name.clone(), message)
            })?;
            SORTS.put(&mut self.fields, &part.name, &text)?;
        }
        Ok(Next::End)
    }

    /// Reads the file's bytes, up to a limit.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`].
    pub(super) async fn bytes<S, E>(
        &mut self,
        form: &mut Multipart<S>,
        limit: u64,
    ) -> Result<(), RequestError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        // Why no capacity ahead: what a request announces costs it nothing, and a large vector grows by moving its pages.
        let mut bytes = Vec::new();
        while let Some(piece) = form.piece().await? {
            if bytes.len() as u64 + piece.len() as u64 > limit {
                return Err(over_limit("file", limit));
            }
            bytes.extend_from_slice(&piece);
        }
        self.file = Some(bytes);
        Ok(())
    }
}

/// The error of audio that is larger than uploads may be.
pub(in crate::api) fn over_limit(field: &str, limit: u64) -> RequestError {
    let message =
        format!("{field} is over the limit of {limit} bytes (--max-upload, CHANDLER_MAX_UPLOAD)");
    RequestError {
        field: Some(field.to_owned()),
        ..too_large(message)
    }
}

fn too_large(message: String) -> RequestError {
    RequestError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
}

/// Whether a part is the audio. Some clients send it without a file's name.
fn is_audio(part: &Part) -> Result<bool, RequestError> {
    if part.is_file && part.name != "file" {
        let message = format!("{} is a file; the audio is sent as `file`", part.name);
        return Err(RequestError::field(part.name.clone(), message));
    }
    Ok(part.name == "file")
}

impl Sorts {
    /// Adds a field as the form spells it: `name`, `name[]`, `name[0]` or `name[key]`. An empty text is none: forms send fields
    /// that nobody filled in.
    pub(in crate::api) fn put(
        &self,
        fields: &mut Map<String, Value>,
        name: &str,
        text: &str,
    ) -> Result<(), RequestError> {
        let twice = || {
            let message = format!("{name} is given twice, or in two ways");
            RequestError::field(name, message)
        };
        let bracketed = name.strip_suffix(']').and_then(|name| name.split_once('['));
        if text.is_empty() {
            return Ok(());
        }
        match bracketed {
            Some((list, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                let list = fields
                    .entry(list)
                    .or_insert_with(|| Value::Array(Vec::new()));
                list.as_array_mut().ok_or_else(twice)?.push(text.into());
            }
            Some((object, key)) => {
                let value = self.read(key, text);
                let object = fields.entry(object).or_insert_with(|| Map::new().into());
                let before = object
                    .as_object_mut()
                    .ok_or_else(twice)?
                    .insert(key.into(), value);
                before.map_or(Ok(()), |_| Err(twice()))?;
            }
            None => {
                let value = self.read(name, text);
                match fields.get_mut(name) {
                    None => {
                        fields.insert(name.into(), value);
                    }
                    Some(before) if self.lists.contains(&name) => match before {
                        Value::Array(list) => list.push(value),
                        one => *one = Value::Array(vec![one.take(), value]),
                    },
                    Some(_) => return Err(twice()),
                }
            }
        }
        Ok(())
    }

    /// A field's text as the value that it stands for; as it is where it stands for none, and then the field's reader complains.
    fn read(&self, name: &str, text: &str) -> Value {
        if self.switches.contains(&name) {
            return match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => true.into(),
                "false" | "0" | "off" | "no" => false.into(),
                _ => text.into(),
            };
        }
        if self.values.contains(&name) {
            return serde_json::from_str(text.trim()).unwrap_or_else(|_| text.into());
        }
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(parts: &[(&str, &str)]) -> Result<Value, RequestError> {
        let mut fields = Map::new();
        for (name, text) in parts {
            SORTS.put(&mut fields, name, text)?;
        }
        Ok(Value::Object(fields))
    }

    #[test]
    fn a_form_is_the_object_that_it_means() {
        let read = form(&[
            ("model", "17"),
            ("prompt", "true"),
            ("temperature", "0.5"),
            ("seed", " 7"),
            ("stream", "True"),
            ("language", ""),
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities[]", "segment"),
            ("keywords", "a"),
            ("keywords", "b"),
            ("languages[0]", "en"),
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[threshold]", "0.5"),
            ("vad_parameters", "{\"speech_pad_ms\": 30}"),
            ("suppress_tokens", "1,2"),
            ("unknown", "1"),
        ]);
        assert_eq!(
            read.unwrap(),
            json!({
                "model": "17", "prompt": "true", "temperature": 0.5, "seed": 7, "stream": true,
                "timestamp_granularities": ["word", "segment"], "keywords": ["a", "b"], "languages": ["en"],
                "chunking_strategy": {"type": "server_vad", "threshold": 0.5},
                "vad_parameters": {"speech_pad_ms": 30}, "suppress_tokens": "1,2", "unknown": "1",
            })
        );
    }

    #[test]
    fn what_is_given_twice_is_refused_by_name() {
        for parts in [
            [("model", "a"), ("model", "b")],
            [("a[b]", "1"), ("a[b]", "2")],
            [("a[]", "1"), ("a[b]", "2")],
            [("a", "1"), ("a[]", "2")],
        ] {
            let error = form(&parts).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(parts[1].0));
        }
    }
}
