//! Inputs that name a task, or that have the fields of one: the seeds' task jobs, and the schemas of the image, speech and
//! embedding workers. A table says which task each stands for; whether the model does it is `/predict`'s to say, so that a
//! pipeline that moves in needs nothing here.

use serde_json::{Map, Value};

use super::{SPEECH_RECOGNITION, has};

/// The seeds' names for tasks (seeds.md 1.1.1, 1.3.1, 2.1.1), and the hub's for the same.
const NAMES: [(&str, &str); 21] = [
    ("translate", "translation"),
    ("translate_to_english", "translation"),
    ("translate_from_english", "translation"),
    ("transcribe", "automatic-speech-recognition"),
    ("asr", "automatic-speech-recognition"),
    ("stt", "automatic-speech-recognition"),
    ("speech_to_text", "automatic-speech-recognition"),
    ("auto_detect_audio_language", "audio-classification"),
    ("auto_detect_language", "text-classification"),
    ("language_classify", "text-classification"),
    ("summarise", "summarization"),
    ("summarize", "summarization"),
    ("asr_summarise", "summarization"),
    ("tts", "text-to-speech"),
    ("text_to_speech", "text-to-speech"),
    ("text2img", "text-to-image"),
    ("text_to_image", "text-to-image"),
    ("image2img", "image-to-image"),
    ("image_to_image", "image-to-image"),
    ("text2video", "text-to-video"),
    ("text_to_video", "text-to-video"),
];

/// Fields that only one task's inputs have (runpod.md 11.2 to 11.4, seeds.md 2.3.1): the first row of which an input has
/// every one of a group wins, so that rows that have another's fields as well come before it.
const FIELDS: [(&str, &[&[&str]]); 7] = [
    ("text-to-video", &[&["num_frames"], &["fps"]]),
    (
        "image-to-image",
        &[
            &["input_image_url"],
            &["input_image_r2"],
            &["image_r2"],
            &["image_url"],
        ],
    ),
    (
        "text-to-image",
        &[
            &["num_inference_steps"],
            &["guidance_scale"],
            &["negative_prompt"],
            &["num_images"],
            &["refiner_inference_steps"],
            &["high_noise_frac"],
            &["height", "width"],
        ],
    ),
    (
        "automatic-speech-recognition",
        &[
            &["audio"],
            &["audio_base64"],
            &["audio_url"],
            &["audioUrl"],
            &["audio_r2"],
            &["audio_file"],
        ],
    ),
    ("text-to-speech", &[&["speaker_id"], &["voice"]]),
    ("text-ranking", &[&["query", "docs"]]),
    ("feature-extraction", &[&["input"]]),
];

/// The fields that audio comes in, and one of which an input of speech has.
pub(super) const AUDIO: [&str; 6] = [
    "audio",
    "audio_base64",
    "audio_url",
    "audioUrl",
    "audio_r2",
    "audio_file",
];

/// What an input was read as, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// The hub's name of the task.
    pub(super) task: &'static str,
    /// For errors.
    pub(super) because: String,
}

/// The task that an input asks for in other words than the hub's; `None` where it is read by its own.
pub(super) fn read(map: &Map<String, Value>) -> Option<Reading> {
    match map.get("task") {
        None | Some(Value::Null) => by_fields(map),
        Some(name) => {
            let name = name.as_str()?;
            by_name(name).map(|reading| with_audio(map, name, reading))
        }
    }
}

/// These are said of texts, and of speech that is to be written down in English.
fn with_audio(map: &Map<String, Value>, name: &str, reading: Reading) -> Reading {
    let field = AUDIO.iter().find(|field| has(map, field));
    match (name, field) {
        ("translate" | "translate_to_english", Some(field)) => Reading {
            task: SPEECH_RECOGNITION,
            because: format!(
                "the input's task {name:?} is read as {SPEECH_RECOGNITION} because it has {field}"
            ),
        },
        _ => reading,
    }
}

fn by_name(name: &str) -> Option<Reading> {
    let (name, task) = NAMES.iter().find(|(known, _)| *known == name)?;
    Some(Reading {
        task,
        because: format!("the input's task {name:?} is read as {task}"),
    })
}

fn by_fields(map: &Map<String, Value>) -> Option<Reading> {
    // What a conversation holds beside its messages is a matter of its own route.
    if has(map, "messages") {
        return None;
    }
    FIELDS.iter().find_map(|(task, groups)| {
        let group = groups
            .iter()
            .find(|group| group.iter().all(|key| has(map, key)))?;
        Some(Reading {
            task,
            because: format!(
                "the input is read as {task} because it has {}",
                group.join(" and ")
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn task(input: Value) -> Option<&'static str> {
        read(input.as_object().unwrap()).map(|reading| reading.task)
    }

    #[test]
    fn the_other_workers_inputs_are_read_as_the_task_they_are_for() {
        for (input, expected) in [
            (
                json!({"prompt": "a", "num_inference_steps": 28, "guidance_scale": 3.5, "height": 1024, "width": 1024, "seed": 1}),
                "text-to-image",
            ),
            (
                json!({"prompt": "a", "negative_prompt": "b", "scheduler": "DDIM", "num_images": 1}),
                "text-to-image",
            ),
            (
                json!({"prompt": "a", "image_url": "https://example.com/a.png", "strength": 0.3}),
                "image-to-image",
            ),
            (
                json!({"prompt": "a", "num_frames": 16, "num_inference_steps": 4}),
                "text-to-video",
            ),
            (
                json!({"audio": "https://example.com/a.wav", "model": "base"}),
                "automatic-speech-recognition",
            ),
            (
                json!({"audio_base64": "AA==", "transcription": "srt"}),
                "automatic-speech-recognition",
            ),
            (
                json!({"task": "transcribe", "audio_file": "a.wav"}),
                "automatic-speech-recognition",
            ),
            (json!({"task": "summarise", "text": "a"}), "summarization"),
            (
                json!({"task": "tts", "text": "a", "speaker_id": 248}),
                "text-to-speech",
            ),
            (json!({"task": "translate", "text": "a"}), "translation"),
            (
                json!({"task": "translate", "audio_url": "https://example.com/a.wav"}),
                "automatic-speech-recognition",
            ),
            (json!({"text": "a", "speaker_id": 248}), "text-to-speech"),
            (
                json!({"model": "m", "query": "q", "docs": []}),
                "text-ranking",
            ),
            (json!({"model": "m", "input": "a"}), "feature-extraction"),
        ] {
            assert_eq!(task(input.clone()), Some(expected), "{input}");
        }
    }

    #[test]
    fn what_says_its_task_in_the_hubs_words_or_has_none_is_not_read_here() {
        for input in [
            json!({"prompt": "a"}),
            json!({"prompt": "a", "task": "text-generation", "num_frames": 4}),
            json!({"prompt": "a", "task": "anything"}),
            json!({"prompt": "a", "task": 7}),
            json!({"messages": [], "audio": {}}),
            json!({"prompt": "a", "height": 3, "image_url": null}),
        ] {
            assert_eq!(task(input.clone()), None, "{input}");
        }
    }
}
