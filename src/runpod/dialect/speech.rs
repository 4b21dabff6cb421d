//! Audio to be heard. A job without a task has the schema of RunPod's own worker for it (runpod.md 11.3), and gets that
//! worker's output, which `transcript` makes; one that names the task is a seed's (seeds.md 1.3.1, 2.3.1), and gets the
//! prediction. Both are heard by `/predict`.
//!
//! That worker's jobs are no streams. Here a job of either kind is one where it says `stream`: its segments are the chunks, and
//! the output is the same.

use serde_json::{Map, Value, json};

use super::listening::{Chunks, listen};
use super::tasks::{AUDIO, Reading};
use super::transcript::{Format, Transcripts};
use super::{Call, Known, SPEECH_RECOGNITION, Shape, flag, has, prediction, shown, take};
use crate::storage::STORES;

/// What that worker says to a job with nothing to hear.
pub(super) const NO_AUDIO: &str = "Must provide either audio or audio_base64";

/// Names that a job may give the model. Their worker loads the one that is named; here they are names for the model that is
/// served, which the output names: a client that always sends its favourite size is as well served by another. Any other
/// name is `/predict`'s to check.
const SIZES: [&str; 10] = [
    "tiny",
    "base",
    "small",
    "medium",
    "large-v1",
    "large-v2",
    "large-v3",
    "distil-large-v2",
    "distil-large-v3",
    "turbo",
];

/// What `/predict` takes under the same name and with the same meaning: that worker's, and what it has not. A name that is
/// not here is refused, as there.
const SAME: [&str; 34] = [
    "audio",
    "audio_base64",
    "audio_url",
    "audioUrl",
    "model",
    "language",
    "temperature",
    "temperature_increment_on_fallback",
    "best_of",
    "beam_size",
    "patience",
    "length_penalty",
    "max_new_tokens",
    "suppress_tokens",
    "initial_prompt",
    "prompt",
    "condition_on_previous_text",
    "compression_ratio_threshold",
    "logprob_threshold",
    "log_prob_threshold",
    "no_speech_threshold",
    "enable_vad",
    "vad_filter",
    "vad_parameters",
    "word_timestamps",
    "carry_initial_prompt",
    "prefix",
    "hotwords",
    "hallucination_silence_threshold",
    "seed",
    "batched",
    "chunking_strategy",
    "channels",
    "max_duration",
];

/// What is said in the audio's language, or asked of its words: nothing of it is for a translation.
const OF_THE_ORIGINAL: [&str; 6] = [
    "initial_prompt",
    "prompt",
    "carry_initial_prompt",
    "prefix",
    "hotwords",
    "word_timestamps",
];

/// Reads an input that was taken for one of speech.
///
/// # Errors
/// What is wrong with it, and what would do.
pub(super) fn read(
    mut map: Map<String, Value>,
    reading: Reading,
    known: &Known,
) -> Result<Call, String> {
    map.retain(|_, value| !value.is_null());
    refuse_unserved(&mut map)?;
    in_our_words(&mut map)?;
    let streams = flag(&mut map, "stream")?;
    let (body, shape, kind) = match take(&mut map, "task") {
        Some(task) => of_task(map, &task, reading),
        None => of_worker(map, reading.because, known)?,
    };
    Ok(listen(body, (shape, kind, streams), known))
}

/// Fields of the seeds' jobs for which there is nothing here, unless they ask for nothing.
fn refuse_unserved(map: &mut Map<String, Value>) -> Result<(), String> {
    for field in ["audio_r2", "audio_file"] {
        if has(map, field) {
            return Err(format!(
                "{field} is not served: a job's audio is not read from a bucket or a disk; \
                 it must be audio_url, an http(s) address that may be a signed one, or audio_base64"
            ));
        }
    }
    for (field, why) in [
        (
            "recognise_speakers",
            "this worker does not tell speakers apart",
        ),
        (
            "organisation",
            "this worker has no model of an organisation's own",
        ),
    ] {
        if flag(map, field)? {
            return Err(format!("{field} is true; {why}: leave out {field}"));
        }
    }
    Ok(())
}

/// The seeds' own names. Those that choose between models of theirs are names for the one that is served.
fn in_our_words(map: &mut Map<String, Value>) -> Result<(), String> {
    for field in ["whisper", "adapter"] {
        map.shift_remove(field);
    }
    let Some(language) = take(map, "target_lang") else {
        return Ok(());
    };
    match map.insert("language".to_owned(), language) {
        None => Ok(()),
        Some(_) => Err("the input has both target_lang and language; leave out one".to_owned()),
    }
}

/// The body that `/predict` is asked with, and what becomes of its answer.
type Read = (Map<String, Value>, Box<dyn Shape>, Chunks);

/// A job that names the task: an instance, and its prediction.
fn of_task(mut map: Map<String, Value>, task: &Value, reading: Reading) -> Read {
    // The table reads other words that begin like this as speech only where there is audio.
    if task
        .as_str()
        .is_some_and(|task| task.starts_with("translate"))
    {
        map.insert("translate".into(), true.into());
    }
    map.insert("task".into(), reading.task.into());
    let body = of_instances(vec![map]);
    (body, prediction::one(reading.because), Chunks::One)
}

fn of_instances(instances: Vec<Map<String, Value>>) -> Map<String, Value> {
    Map::from_iter([("instances".to_owned(), json!(instances))])
}

/// A job of RunPod's own worker.
fn of_worker(mut map: Map<String, Value>, note: String, known: &Known) -> Result<Read, String> {
    one_audio(&mut map)?;
    for store in STORES {
        map.shift_remove(store);
    }
    if let Some(model) = map.get("model") {
        let model = model.as_str();
        let model = model.ok_or_else(|| must_be("model", map.get("model"), "a string"))?;
        if SIZES.contains(&model) {
            map.shift_remove("model");
        }
    }
    let transcription = format(&mut map, "transcription")?;
    let translation = format(&mut map, "translation")?;
    let translation = flag(&mut map, "translate")?.then_some(translation);
    if let Some(other) = map.keys().find(|key| !SAME.contains(&key.as_str())) {
        return Err(format!(
            "Unexpected input. {other} is not a valid input option. (leave it out, or add \
             \"task\": {SPEECH_RECOGNITION:?}, with which the input is an instance of /predict)"
        ));
    }
    add_defaults(&mut map);
    let has_words = map.get("word_timestamps") == Some(&Value::Bool(true));
    let shape = Transcripts {
        note,
        transcription,
        translation,
        has_words,
        // The seed's clients, which alone write so, read the text as `text`.
        has_text: has(&map, "audio_url") || has(&map, "audioUrl"),
        served: known.served.clone(),
    };
    let body = body(map, translation.is_some());
    Ok((body, Box::new(shape), Chunks::Worker { has_words }))
}

fn one_audio(map: &mut Map<String, Value>) -> Result<(), String> {
    // There, an empty text is nothing given.
    map.retain(|key, value| !AUDIO.contains(&key.as_str()) || *value != "");
    match AUDIO.iter().filter(|field| has(map, field)).count() {
        0 => Err(NO_AUDIO.to_owned()),
        1 => Ok(()),
        _ => Err(format!("{NO_AUDIO}, not both")),
    }
}

/// An unknown form is plain text there (its own test sends "plain text"), and so it is here.
fn format(map: &mut Map<String, Value>, field: &str) -> Result<Format, String> {
    match take(map, field) {
        None => Ok(Format::Plain),
        Some(Value::String(name)) => Ok(Format::named(&name).unwrap_or_else(|| {
            tracing::warn!(field, "an unknown form of a transcript; it is plain text");
            Format::Plain
        })),
        other => Err(must_be(field, other.as_ref(), "a string")),
    }
}

fn must_be(field: &str, is: Option<&Value>, wanted: &str) -> String {
    let is = is.map_or_else(|| "missing".to_owned(), shown);
    format!("{field} is {is}; it must be {wanted}")
}

/// What that worker does where nothing is said, unless another spelling of it was used, or an array of temperatures, which is
/// a ladder without further steps.
fn add_defaults(map: &mut Map<String, Value>) {
    let is_ladder = map.get("temperature").is_some_and(Value::is_array);
    for (field, value) in [
        ("temperature", json!(0.0)),
        ("temperature_increment_on_fallback", json!(0.2)),
        ("best_of", json!(5)),
        ("beam_size", json!(5)),
        ("patience", json!(1.0)),
        ("length_penalty", json!(0.0)),
        ("suppress_tokens", json!("-1")),
        ("condition_on_previous_text", json!(true)),
        ("compression_ratio_threshold", json!(2.4)),
        ("logprob_threshold", json!(-1.0)),
        ("no_speech_threshold", json!(0.6)),
    ] {
        let is_said = match field {
            "temperature_increment_on_fallback" => is_ladder,
            "logprob_threshold" => map.contains_key("log_prob_threshold"),
            _ => false,
        };
        if !is_said {
            map.entry(field).or_insert(value);
        }
    }
}

/// One instance, or two of which the second is a translation with the same search. (Their worker takes only the temperatures
/// over to it; whoever asks for ten beams or says the language means both.) Both have the audio: what instances have in common
/// could be said once, as `parameters`, but of those `/predict` takes much less.
fn body(mut map: Map<String, Value>, translates: bool) -> Map<String, Value> {
    map.insert("task".into(), SPEECH_RECOGNITION.into());
    if !translates {
        return of_instances(vec![map]);
    }
    let mut translation = map.clone();
    translation.retain(|key, _| !OF_THE_ORIGINAL.contains(&key.as_str()));
    translation.insert("translate".into(), true.into());
    of_instances(vec![map, translation])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runpod::dialect::recognise;
    use crate::runpod::dialect::tests::known;

    fn body_of(input: Value) -> Result<Value, String> {
        let call = recognise(input, &known(Some(SPEECH_RECOGNITION)))?;
        assert_eq!(
            (call.method.as_str(), call.path.as_str()),
            ("POST", "/predict")
        );
        let mut body = call.body.unwrap();
        for key in ["stream", "progress"] {
            let asked = body.as_object_mut().unwrap().shift_remove(key);
            assert_eq!(asked, Some(json!(true)));
        }
        Ok(body)
    }

    fn refusal(input: Value) -> String {
        body_of(input).unwrap_err()
    }

    /// Their defaults, as `/predict` is asked for them.
    fn with_defaults(more: Value) -> Value {
        let mut instance = json!({
            "task": SPEECH_RECOGNITION, "temperature": 0.0, "temperature_increment_on_fallback": 0.2, "best_of": 5, "beam_size": 5,
            "patience": 1.0, "length_penalty": 0.0, "suppress_tokens": "-1", "condition_on_previous_text": true,
            "compression_ratio_threshold": 2.4, "no_speech_threshold": 0.6, "logprob_threshold": -1.0,
        });
        for (key, value) in more.as_object().unwrap() {
            instance[key] = value.clone();
        }
        instance
    }

    #[test]
    fn what_is_not_said_is_as_in_their_worker() {
        let input = json!({"audio_base64": "aGk=", "language": null, "initial_prompt": null});
        let instance = with_defaults(json!({"audio_base64": "aGk="}));
        assert_eq!(body_of(input).unwrap(), json!({"instances": [instance]}));
    }

    #[test]
    fn their_own_test_is_read() {
        let input = json!({
            "audio": "https://example.com/a.wav", "model": "turbo", "transcription": "plain text", "translate": false,
            "temperature": 0, "best_of": 5, "beam_size": 5, "suppress_tokens": "-1", "condition_on_previous_text": false,
            "temperature_increment_on_fallback": 0.2, "compression_ratio_threshold": 2.4, "logprob_threshold": -1,
            "no_speech_threshold": 0.6,
        });
        let body = body_of(input).unwrap();
        let instance = with_defaults(json!({
            "audio": "https://example.com/a.wav", "temperature": 0, "condition_on_previous_text": false,
            "logprob_threshold": -1,
        }));
        assert_eq!(body, json!({"instances": [instance]}));
    }

    #[test]
    fn what_is_said_is_kept_in_either_spelling() {
        let said = json!({
            "audioUrl": "https://example.com/a.wav", "language": "fr", "best_of": 2.0, "beam_size": 3, "patience": 2,
            "length_penalty": 1, "suppress_tokens": "1,2", "initial_prompt": "p", "compression_ratio_threshold": 3,
            "log_prob_threshold": -2, "no_speech_threshold": 0.5, "enable_vad": true, "word_timestamps": true,
            "condition_on_previous_text": false, "hotwords": ["a"], "max_duration": 9, "model": "mine",
        });
        let body = body_of(said.clone()).unwrap();
        let instance = body["instances"][0].as_object().unwrap();
        for (key, value) in said.as_object().unwrap() {
            assert_eq!(instance.get(key), Some(value), "{key}");
        }
        assert!(!instance.contains_key("logprob_threshold"));
    }

    #[test]
    fn an_array_of_temperatures_has_no_steps() {
        let input = json!({"audio_base64": "aGk=", "temperature": [0, 0.4]});
        let body = body_of(input).unwrap();
        let instance = body["instances"][0].as_object().unwrap();
        assert_eq!(instance["temperature"], json!([0, 0.4]));
        assert!(!instance.contains_key("temperature_increment_on_fallback"));
        let input = json!({"audio_base64": "aGk=", "temperature": 0.5});
        let body = body_of(input).unwrap();
        assert_eq!(
            body["instances"][0]["temperature_increment_on_fallback"],
            0.2
        );
    }

    #[test]
    fn a_translation_is_a_second_instance_of_the_same_audio() {
        let input = json!({
            "audio_base64": "aGk=", "translate": true, "language": "fr", "initial_prompt": "bonjour", "word_timestamps": true,
        });
        let both = json!({"audio_base64": "aGk=", "language": "fr"});
        let (mut original, mut translation) = (with_defaults(both.clone()), with_defaults(both));
        original["initial_prompt"] = "bonjour".into();
        original["word_timestamps"] = true.into();
        translation["translate"] = true.into();
        let expected = json!({"instances": [original, translation]});
        assert_eq!(body_of(input).unwrap(), expected);
    }

    #[test]
    fn there_is_one_audio() {
        for input in [
            json!({"audio": "", "audio_base64": ""}),
            json!({"audio_base64": ""}),
        ] {
            assert_eq!(refusal(input), "Must provide either audio or audio_base64");
        }
        for input in [
            json!({"audio": "https://example.com/a.wav", "audio_base64": "aGk="}),
            json!({"audio_url": "https://example.com/a.wav", "audioUrl": "https://example.com/a.wav"}),
        ] {
            assert_eq!(
                refusal(input),
                "Must provide either audio or audio_base64, not both"
            );
        }
        assert!(body_of(json!({"audio": "https://example.com/a.wav", "audio_base64": ""})).is_ok());
    }

    #[test]
    fn a_size_is_a_name_for_what_is_served_and_another_name_is_checked() {
        for model in SIZES {
            let body = body_of(json!({"audio_base64": "aGk=", "model": model})).unwrap();
            assert_eq!(body["instances"][0].get("model"), None, "{model}");
        }
        let body = body_of(json!({"audio_base64": "aGk=", "model": "other"})).unwrap();
        assert_eq!(body["instances"][0]["model"], "other");
        let error = refusal(json!({"audio_base64": "aGk=", "model": 7}));
        assert_eq!(error, "model is 7; it must be a string");
    }

    #[test]
    fn what_is_not_served_or_not_known_is_named() {
        for (field, value, words) in [
            ("audio_file", json!("a.wav"), "audio_file is not served"),
            ("audio_r2", json!("b/a.wav"), "audio_r2 is not served"),
            (
                "recognise_speakers",
                json!(true),
                "recognise_speakers is true",
            ),
            (
                "recognise_speakers",
                json!(1),
                "recognise_speakers is 1; it must be true or false",
            ),
            ("organisation", json!(true), "organisation is true"),
            ("stream", json!("yes"), "stream is a string"),
        ] {
            for task in [None, Some("transcribe")] {
                let input =
                    json!({"audio_url": "https://example.com/a.wav", field: value, "task": task});
                let error = refusal(input);
                assert!(error.starts_with(words), "{error}");
            }
        }
        for (field, value, words) in [
            (
                "colour",
                json!("red"),
                "Unexpected input. colour is not a valid input option.",
            ),
            (
                "response_format",
                json!("srt"),
                "Unexpected input. response_format",
            ),
            (
                "transcription",
                json!(7),
                "transcription is 7; it must be a string",
            ),
            (
                "translate",
                json!("yes"),
                "translate is a string; it must be true or false",
            ),
        ] {
            let error = refusal(json!({"audio_base64": "aGk=", field: value}));
            assert!(error.starts_with(words), "{error}");
        }
        let harmless = json!({
            "audio_base64": "aGk=", "recognise_speakers": false, "organisation": false, "stream": false,
            "s3Config": {"accessSecret": "hush"},
        });
        let body = body_of(harmless).unwrap();
        assert_eq!(
            body,
            json!({"instances": [with_defaults(json!({"audio_base64": "aGk="}))]})
        );
    }

    #[test]
    fn a_seeds_task_is_an_instance_with_nothing_added() {
        let input = json!({
            "task": "transcribe", "audio_url": "https://example.com/a.wav", "target_lang": "lug", "adapter": "lug",
            "whisper": true, "recognise_speakers": false, "beam_size": 2, "response_format": "srt",
        });
        let instance = json!({
            "audio_url": "https://example.com/a.wav", "beam_size": 2, "response_format": "srt", "language": "lug",
            "task": SPEECH_RECOGNITION,
        });
        assert_eq!(body_of(input).unwrap(), json!({"instances": [instance]}));
        let input = json!({"task": "translate", "audio_base64": "aGk="});
        let instance =
            json!({"audio_base64": "aGk=", "translate": true, "task": SPEECH_RECOGNITION});
        assert_eq!(body_of(input).unwrap(), json!({"instances": [instance]}));
        let both =
            json!({"task": "stt", "audio_base64": "aGk=", "target_lang": "a", "language": "a"});
        assert!(refusal(both).contains("both target_lang and language"));
    }

    #[test]
    fn a_model_of_another_kind_is_asked_as_it_came() {
        let input = json!({"audio_file": "a.wav", "task": "transcribe"});
        let call = recognise(input, &known(Some("text-generation"))).unwrap();
        let instance = json!({"audio_file": "a.wav", "task": SPEECH_RECOGNITION});
        assert_eq!(call.body.unwrap(), json!({"instances": [instance]}));
    }
}
