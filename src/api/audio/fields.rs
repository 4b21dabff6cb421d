//! What a request asks of a speech recogniser: one reader of fields for forms, JSON bodies and Vertex's instances, in the words of
//! OpenAI, faster-whisper and RunPod's worker of it. The audio itself is not read here.

use chandler_core::{Belief, Hints, LongForm, RequestError, SpeechInput, SpeechTask, Times};
use serde_json::Value;

use super::{activity, search};
use crate::api::json::{Fields, Spellings, whole, wrong};

/// Spellings of the same, by where they come from.
pub(in crate::api) const SPELLINGS: &Spellings = &[
    ("prompt", &["initial_prompt"]),
    ("log_prob_threshold", &["logprob_threshold"]),
    ("vad_filter", &["enable_vad"]),
    ("audio_url", &["audioUrl"]),
];
/// Entries of a list at most.
const MOST: usize = 128;
/// A bound that no measure passes, as JSON has no infinity.
pub(super) const FAR: f64 = 1e9;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::api) enum Form {
    /// The text in a JSON object.
    #[default]
    Json,
    /// Everything that is known, in a JSON object.
    Verbose,
    /// The text alone.
    Text,
    /// SubRip.
    Srt,
    /// WebVTT.
    Vtt,
}

/// A request, read.
#[derive(Debug, Clone, Default)]
pub(in crate::api) struct Wish {
    /// What is asked; its audio is still missing.
    pub(in crate::api) input: SpeechInput,
    /// `None` where nothing was said.
    pub(in crate::api) form: Option<Form>,
    pub(in crate::api) stream: bool,
    /// Whether a stream tells how far it is.
    pub(in crate::api) progress: bool,
    /// The model that it names.
    pub(in crate::api) model: Option<String>,
    /// Which times of a verbose answer were asked for by name.
    pub(super) granularities: Granularities,
}

/// `timestamp_granularities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Granularities {
    pub(super) word: bool,
    pub(super) segment: bool,
}

impl Granularities {
    pub(super) fn given(self) -> bool {
        self.word || self.segment
    }
}

/// Reads every field by itself. What fields must be together is [`agree`]'s, so that the first fields of a form can be looked at
/// before its audio has come.
pub(in crate::api) fn read(fields: &Fields<'_>) -> Result<Wish, RequestError> {
    refuse_unbuilt(fields)?;
    let granularities = granularities(fields)?;
    let chunking = activity::chunking(fields)?;
    Ok(Wish {
        input: SpeechInput {
            task: task(fields)?,
            language: language(fields)?,
            hints: hints(fields)?,
            search: search::read(fields)?,
            belief: belief(fields)?,
            times: times(fields, granularities)?,
            long_form: match chunking.is_some() || fields.boolean("batched")? == Some(true) {
                true => LongForm::Chunks,
                false => LongForm::Sequential,
            },
            voice_activity: match activity::voice_activity(fields)? {
                None => chunking.flatten(),
                given => given,
            },
            channels_apart: channels_apart(fields)?,
            max_seconds: fields
                .number("max_duration", 0.0..=FAR)?
                .filter(|seconds| *seconds > 0.0),
            only_language: fields.boolean("detect_language")?.unwrap_or(false),
            ..SpeechInput::default()
        },
        form: form(fields)?,
        stream: fields.boolean("stream")?.unwrap_or(false),
        progress: fields.boolean("progress")?.unwrap_or(false),
        model: fields.string("model")?.map(str::to_owned),
        granularities,
    })
}

/// Refuses what OpenAI's models of other kinds do and none here does.
fn refuse_unbuilt(fields: &Fields<'_>) -> Result<(), RequestError> {
    let refuse = |name: String, why: &str| {
        let message = format!("{name} is not supported: {why}");
        Err(RequestError::unsupported(name, message))
    };
    for key in ["known_speaker_names", "known_speaker_references"] {
        if let Some(found) = fields.find(key).filter(|found| !is_empty(found.value)) {
            return refuse(found.name, "speakers are not told apart here");
        }
    }
    let Some(word) = fields.strings("include", MOST)?.into_iter().next() else {
        return Ok(());
    };
    let name = fields.name("include");
    if word == "logprobs" {
        let why = "log probabilities of tokens are not given; verbose_json has those of segments";
        return refuse(name, why);
    }
    let message = format!("{name} has {word:?}; nothing of that name can be included");
    Err(RequestError::field(name, message))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value == ""
}

/// `translate`, or a `task` that says so; what else a task may be is looked at where it says whose it is.
fn task(fields: &Fields<'_>) -> Result<SpeechTask, RequestError> {
    let word = fields.string("task")?.unwrap_or_default();
    let named = matches!(word, "translate" | "translate_speech");
    Ok(match fields.boolean("translate")?.unwrap_or(named) {
        true => SpeechTask::Translate,
        false => SpeechTask::Transcribe,
    })
}

fn form(fields: &Fields<'_>) -> Result<Option<Form>, RequestError> {
    let Some(found) = fields.find("response_format") else {
        return Ok(None);
    };
    match found.value.as_str() {
        Some("json") => Ok(Some(Form::Json)),
        Some("verbose_json") => Ok(Some(Form::Verbose)),
        Some("text") => Ok(Some(Form::Text)),
        Some("srt") => Ok(Some(Form::Srt)),
        Some("vtt") => Ok(Some(Form::Vtt)),
        Some("diarized_json") => {
            let message = format!(
                "{} is \"diarized_json\"; speakers are not told apart here: it must be json, text, srt, verbose_json or vtt",
                found.name
            );
            Err(RequestError::unsupported(found.name, message))
        }
        _ => Err(wrong(
            &found.name,
            found.value,
            "json, text, srt, verbose_json or vtt",
        )),
    }
}

/// The language that is given. Several that it may be cannot be told to a model, which looks among all of its own.
fn language(fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    let one = fields.string("language")?.filter(|text| !text.is_empty());
    let several = fields.strings("languages", MOST)?;
    match (one, several.as_slice()) {
        (one, []) => Ok(one.map(str::to_owned)),
        (None, [only]) => Ok(Some(only.clone())),
        (Some(one), [only]) if one == only => Ok(Some(only.clone())),
        (one, several) => {
            let name = fields.name("languages");
            let (count, beside) = (several.len(), one.map_or("", |_| " beside language"));
            let message = format!(
                "{name} has {count} entries{beside}; a language is either given, as the one that it is, or detected among all of the \
                 model's: give one, or none"
            );
            Err(RequestError::unsupported(name, message))
        }
    }
}

fn hints(fields: &Fields<'_>) -> Result<Hints, RequestError> {
    let text = |key: &str| -> Result<Option<String>, RequestError> {
        let text = fields.string(key)?.filter(|text| !text.trim().is_empty());
        Ok(text.map(str::to_owned))
    };
    let mut words = match fields.find("hotwords").map(|found| found.value) {
        Some(Value::String(text)) if text.trim().is_empty() => Vec::new(),
        _ => fields.strings("hotwords", MOST)?,
    };
    words.extend(fields.strings("keywords", MOST)?);
    Ok(Hints {
        prompt: text("prompt")?,
        carry_prompt: fields.boolean("carry_initial_prompt")?.unwrap_or(false),
        prefix: text("prefix")?,
        hotwords: (!words.is_empty()).then(|| words.join(", ")),
        condition_on_previous: fields.boolean("condition_on_previous_text")?,
    })
}

fn belief(fields: &Fields<'_>) -> Result<Belief, RequestError> {
    Ok(Belief {
        compression_ratio: fields.number("compression_ratio_threshold", 0.0..=FAR)?,
        log_probability: fields.number("log_prob_threshold", -FAR..=0.0)?,
        no_speech: fields.number("no_speech_threshold", 0.0..=FAR)?,
        hallucination_silence: fields.number("hallucination_silence_threshold", 0.0..=FAR)?,
    })
}

fn granularities(fields: &Fields<'_>) -> Result<Granularities, RequestError> {
    let mut given = Granularities::default();
    for word in fields.strings("timestamp_granularities", MOST)? {
        match word.as_str() {
            "word" => given.word = true,
            "segment" => given.segment = true,
            other => {
                let name = fields.name("timestamp_granularities");
                let message = format!("{name} has {other:?}; it may have word and segment");
                return Err(RequestError::field(name, message));
            }
        }
    }
    Ok(given)
}

fn times(fields: &Fields<'_>, named: Granularities) -> Result<Times, RequestError> {
    let words = fields.boolean("word_timestamps")?.unwrap_or(false) || named.word;
    let none = fields.boolean("without_timestamps")?.unwrap_or(false);
    if none && words {
        let name = fields.name("without_timestamps");
        let message = format!("{name} is true beside times of words; leave one of the two out");
        return Err(RequestError::field(name, message));
    }
    Ok(match (none, words) {
        (true, _) => Times::None,
        (_, true) => Times::Words,
        _ => Times::Segments,
    })
}

fn channels_apart(fields: &Fields<'_>) -> Result<bool, RequestError> {
    match fields.find("channels") {
        None => Ok(false),
        Some(found) => match found.value.as_str() {
            Some("mixed") => Ok(false),
            Some("apart") => Ok(true),
            _ => Err(wrong(&found.name, found.value, "mixed or apart")),
        },
    }
}

/// Whether the fields of a request go together, whatever each of them is.
pub(in crate::api) fn agree(wish: &Wish, fields: &Fields<'_>) -> Result<(), RequestError> {
    let form = wish.form.unwrap_or_default();
    let lines = matches!(form, Form::Srt | Form::Vtt);
    let refuse = |key: &str, why: &str| {
        let name = fields.name(key);
        let message = format!("{name} {why}");
        Err(RequestError::field(name, message))
    };
    if wish.stream && lines {
        let why = "is srt or vtt, and a stream has events; it must be json, verbose_json or text, or stream false";
        return refuse("response_format", why);
    }
    if wish.progress && !wish.stream {
        let why = "is true, and only a stream tells how far it is: set stream to true, or leave out progress";
        return refuse("progress", why);
    }
    if wish.input.only_language && (wish.stream || lines || form == Form::Text) {
        return refuse(
            "detect_language",
            "is true; its answer is one object: response_format must be json or verbose_json, and stream false",
        );
    }
    Ok(())
}

/// The same for OpenAI's routes, whose plain answers have no place for times.
pub(super) fn agree_on_times(wish: &Wish, fields: &Fields<'_>) -> Result<(), RequestError> {
    let silent = wish.form.unwrap_or_default() != Form::Verbose;
    if wish.granularities.given() && silent && !wish.stream {
        let name = fields.name("timestamp_granularities");
        let message =
            format!("{name} is given, and only verbose_json has times; set response_format to it");
        return Err(RequestError::field(name, message));
    }
    Ok(())
}

/// A whole number of any sign, as suppressed tokens are written.
pub(super) fn signed(name: &str, value: &Value) -> Result<i64, RequestError> {
    if value.as_f64() == Some(-1.0) {
        return Ok(-1);
    }
    whole(name, value, 0..=u32::MAX).map(i64::from)
}

#[cfg(test)]
mod tests {
    use chandler_core::VoiceActivity;
    use serde_json::json;

    use super::*;

    fn wish(body: Value) -> Result<Wish, RequestError> {
        let fields = Fields::new(body.as_object().unwrap()).spelled(SPELLINGS);
        let wish = read(&fields)?;
        agree(&wish, &fields)?;
        agree_on_times(&wish, &fields)?;
        Ok(wish)
    }

    #[test]
    fn every_field_has_its_place() {
        let body = json!({
            "language": "en", "translate": true, "initial_prompt": "p", "carry_initial_prompt": true, "prefix": "x",
            "hotwords": ["a", "b"], "keywords": ["c"], "condition_on_previous_text": false,
            "compression_ratio_threshold": 2.5, "logprob_threshold": -0.5, "no_speech_threshold": 0.25,
            "hallucination_silence_threshold": 2.0, "word_timestamps": true, "batched": true, "enable_vad": true,
            "vad_parameters": {"threshold": 0.5, "neg_threshold": 0.25, "min_speech_duration_ms": 1.0,
                "max_speech_duration_s": 5.5, "min_silence_duration_ms": 2.0, "speech_pad_ms": 3.0},
            "channels": "apart", "max_duration": 60.0, "model": "m", "response_format": "verbose_json",
        });
        let wish = wish(body).unwrap();
        assert_eq!(
            (wish.form, wish.model.as_deref()),
            (Some(Form::Verbose), Some("m"))
        );
        let expected = SpeechInput {
            task: SpeechTask::Translate,
            language: Some("en".into()),
            hints: Hints {
                prompt: Some("p".into()),
                carry_prompt: true,
                prefix: Some("x".into()),
                hotwords: Some("a, b, c".into()),
                condition_on_previous: Some(false),
            },
            belief: Belief {
                compression_ratio: Some(2.5),
                log_probability: Some(-0.5),
                no_speech: Some(0.25),
                hallucination_silence: Some(2.0),
            },
            times: Times::Words,
            long_form: LongForm::Chunks,
            voice_activity: Some(VoiceActivity {
                threshold: Some(0.5),
                neg_threshold: Some(0.25),
                min_speech_duration_ms: Some(1),
                max_speech_duration_s: Some(5.5),
                min_silence_duration_ms: Some(2),
                speech_pad_ms: Some(3),
            }),
            channels_apart: true,
            max_seconds: Some(60.0),
            ..SpeechInput::default()
        };
        assert_eq!(wish.input, expected);
    }

    #[test]
    fn what_will_not_do_is_refused_by_name() {
        for (body, named) in [
            (
                json!({"response_format": "diarized_json"}),
                "response_format",
            ),
            (json!({"response_format": "xml"}), "response_format"),
            (
                json!({"response_format": {"type": "text"}}),
                "response_format",
            ),
            (json!({"known_speaker_names": ["a"]}), "known_speaker_names"),
            (
                json!({"known_speaker_references": "x"}),
                "known_speaker_references",
            ),
            (json!({"include": ["logprobs"]}), "include"),
            (json!({"include": "x"}), "include"),
            (json!({"languages": ["en", "fr"]}), "languages"),
            (json!({"languages": ["en"], "language": "fr"}), "languages"),
            (
                json!({"timestamp_granularities": ["char"]}),
                "timestamp_granularities",
            ),
            (
                json!({"timestamp_granularities": ["word"]}),
                "timestamp_granularities",
            ),
            (
                json!({"without_timestamps": true, "word_timestamps": true}),
                "without_timestamps",
            ),
            (json!({"chunking_strategy": "none"}), "chunking_strategy"),
            (json!({"chunking_strategy": {}}), "chunking_strategy.type"),
            (
                json!({"chunking_strategy": {"type": "server_vad", "threshold": 2}}),
                "chunking_strategy.threshold",
            ),
            (
                json!({"vad_parameters": {"speech_pad_ms": -1}}),
                "vad_parameters.speech_pad_ms",
            ),
            (json!({"vad_filter": "maybe"}), "vad_filter"),
            (json!({"channels": 2}), "channels"),
            (json!({"max_duration": -1}), "max_duration"),
            (
                json!({"stream": true, "response_format": "vtt"}),
                "response_format",
            ),
            (
                json!({"detect_language": true, "response_format": "text"}),
                "detect_language",
            ),
            (json!({"progress": true}), "progress"),
            (json!({"progress": "often"}), "progress"),
            (json!({"language": 7}), "language"),
        ] {
            let error = wish(body.clone()).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(named), "{body}");
            assert!(error.message.contains(named), "{}", error.message);
        }
    }

    #[test]
    fn nothing_given_is_the_models_own_default() {
        let plain = wish(
            json!({"language": "", "prompt": null, "hotwords": "", "known_speaker_names": []}),
        );
        let plain = plain.unwrap();
        assert_eq!(plain.input, SpeechInput::default());
        assert_eq!((plain.form, plain.stream), (None, false));
        let one = wish(json!({"languages": ["en"]})).unwrap().input.language;
        assert_eq!(one.as_deref(), Some("en"));
    }
}
