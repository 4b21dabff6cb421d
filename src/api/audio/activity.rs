//! Where somebody speaks: voice activity and chunks, as faster-whisper asks for them and as OpenAI does.

use chandler_core::{RequestError, VoiceActivity};
use serde_json::Value;

use super::fields::FAR;
use crate::api::json::{Fields, Found, wrong};

/// OpenAI's way of asking for chunks, and what it says of speech: `Some(None)` where it leaves that to us.
pub(super) fn chunking(fields: &Fields<'_>) -> Result<Option<Option<VoiceActivity>>, RequestError> {
    let Some(Found { name, value }) = fields.find("chunking_strategy") else {
        return Ok(None);
    };
    let wanted = "\"auto\", or an object of type server_vad";
    let map = match value {
        Value::String(text) if text == "auto" => return Ok(Some(None)),
        Value::Object(map) => map,
        other => return Err(wrong(&name, other, wanted)),
    };
    let inner = Fields::within(name, map);
    match inner.find("type") {
        Some(found) if found.value == "server_vad" => {}
        Some(found) => return Err(wrong(&found.name, found.value, "server_vad")),
        None => return Err(inner.missing("type", "server_vad")),
    }
    Ok(Some(Some(VoiceActivity {
        threshold: share(&inner, "threshold")?,
        min_silence_duration_ms: inner.whole("silence_duration_ms", 0..=u32::MAX)?,
        speech_pad_ms: inner.whole("prefix_padding_ms", 0..=u32::MAX)?,
        ..VoiceActivity::default()
    })))
}

pub(super) fn voice_activity(fields: &Fields<'_>) -> Result<Option<VoiceActivity>, RequestError> {
    let given = fields.find("vad_parameters");
    let wanted = fields.boolean("vad_filter")?.unwrap_or(given.is_some());
    let Some(found) = given else {
        return Ok(wanted.then(VoiceActivity::default));
    };
    let Value::Object(map) = found.value else {
        return Err(wrong(&found.name, found.value, "an object"));
    };
    let inner = Fields::within(found.name, map);
    let milliseconds = |key: &str| inner.whole(key, 0..=u32::MAX);
    let read = VoiceActivity {
        threshold: share(&inner, "threshold")?,
        neg_threshold: share(&inner, "neg_threshold")?,
        min_speech_duration_ms: milliseconds("min_speech_duration_ms")?,
        max_speech_duration_s: inner
            .number("max_speech_duration_s", 0.0..=FAR)?
            .map(|seconds| seconds as f32),
        min_silence_duration_ms: milliseconds("min_silence_duration_ms")?,
        speech_pad_ms: milliseconds("speech_pad_ms")?,
    };
    Ok(wanted.then_some(read))
}

fn share(fields: &Fields<'_>, key: &str) -> Result<Option<f32>, RequestError> {
    let number = fields.number(key, 0.0..=1.0)?;
    Ok(number.map(|number| number as f32))
}

#[cfg(test)]
mod tests {
    use chandler_core::{LongForm, SpeechInput};
    use serde_json::json;

    use super::*;
    use crate::api::audio::fields;

    fn wish(body: Value) -> SpeechInput {
        fields::read(&Fields::new(body.as_object().unwrap()))
            .unwrap()
            .input
    }

    #[test]
    fn chunks_are_asked_for_as_openai_does() {
        let auto = wish(json!({"chunking_strategy": "auto"}));
        assert_eq!(
            (auto.long_form, auto.voice_activity),
            (LongForm::Chunks, None)
        );
        let strategy = json!({"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 200.0, "prefix_padding_ms": 300});
        let given = wish(json!({"chunking_strategy": strategy}));
        assert_eq!(given.long_form, LongForm::Chunks);
        let expected = VoiceActivity {
            threshold: Some(0.5),
            min_silence_duration_ms: Some(200),
            speech_pad_ms: Some(300),
            ..VoiceActivity::default()
        };
        assert_eq!(given.voice_activity, Some(expected));
        let off = wish(json!({"vad_filter": false, "vad_parameters": {}}));
        assert_eq!(off.voice_activity, None);
    }
}
