//! What an instance asks a model to do: by its `task`, in the hub's words or in those of the first Vertex container
//! (contracts/seeds.md 1.1.1), or by a field that only one task has. What the loaded model does not do is refused by name.

use chandler_core::{RequestError, Task};
use serde_json::Value;

use crate::api::images::is_image;
use crate::api::json::{Fields, wrong};

/// The words that callers of the first container use, and what the hub calls the same.
const WORDS: [(&str, Task); 18] = [
    ("asr", Task::AutomaticSpeechRecognition),
    ("transcribe", Task::AutomaticSpeechRecognition),
    ("stt", Task::AutomaticSpeechRecognition),
    ("speech_to_text", Task::AutomaticSpeechRecognition),
    ("translate_speech", Task::AutomaticSpeechRecognition),
    ("translate", Task::Translation),
    ("translate_to_english", Task::Translation),
    ("translate_from_english", Task::Translation),
    ("tts", Task::TextToSpeech),
    ("embed", Task::FeatureExtraction),
    ("rerank", Task::TextRanking),
    ("text2img", Task::TextToImage),
    ("txt2img", Task::TextToImage),
    ("text_to_image", Task::TextToImage),
    ("image2img", Task::ImageToImage),
    ("img2img", Task::ImageToImage),
    ("image_to_image", Task::ImageToImage),
    ("inpainting", Task::ImageInpainting),
];

/// Fields that have a meaning in one task only.
const FIELDS: [(&str, Task); 10] = [
    ("audio", Task::AutomaticSpeechRecognition),
    ("audio_base64", Task::AutomaticSpeechRecognition),
    ("audio_url", Task::AutomaticSpeechRecognition),
    ("audioUrl", Task::AutomaticSpeechRecognition),
    ("source_language", Task::Translation),
    ("target_language", Task::Translation),
    ("num_inference_steps", Task::TextToImage),
    ("negative_prompt", Task::TextToImage),
    ("init_image", Task::ImageToImage),
    ("mask_image", Task::ImageInpainting),
];

/// Whether anything in an instance depends on what the loaded model does.
pub(super) fn is_asked(instance: &Value) -> bool {
    let names = FIELDS.iter().map(|(name, _)| *name).chain(["task"]);
    let given = |name: &str| instance.get(name).is_some_and(|value| !value.is_null());
    names.into_iter().any(given)
}

/// Refuses an instance that asks for anything but what the model does.
pub(super) fn check(fields: &Fields<'_>, does: Task) -> Result<(), RequestError> {
    if let Some(word) = fields.string("task")? {
        let name = fields
            .find("task")
            .map_or_else(|| "task".into(), |found| found.name);
        let known = WORDS.iter().find(|(known, _)| *known == word);
        let other = match known {
            Some((_, wanted)) if is_done_by(*wanted, does) => None,
            // A speech recogniser's own word for translating what it hears.
            Some(("translate", _)) if does == Task::AutomaticSpeechRecognition => None,
            Some((_, wanted)) => Some(format!("{name} is {word:?} ({})", wanted.tag())),
            None if word == does.tag() || is_image_tag(word, does) => None,
            None => Some(format!("{name} is {word:?}")),
        };
        if let Some(other) = other {
            return Err(unable(name, &other, does));
        }
    }
    for (field, wanted) in FIELDS {
        // Why not beside messages: OpenAI's chat has fields of its own, which are read there.
        if let Some(found) = fields.find(field)
            && !is_done_by(wanted, does)
            && !fields.has("messages")
        {
            let what = format!("{} is for {}", found.name, wanted.tag());
            return Err(unable(found.name, &what, does));
        }
    }
    Ok(())
}

/// Whether a model that does one task may be asked for another: what draws is told by its pictures what to draw, and says itself
/// what of it it cannot.
fn is_done_by(wanted: Task, does: Task) -> bool {
    wanted == does || (is_image(wanted) && is_image(does))
}

fn is_image_tag(word: &str, does: Task) -> bool {
    let all = [Task::TextToImage, Task::ImageToImage, Task::ImageInpainting];
    is_image(does) && all.iter().any(|task| task.tag() == word)
}

fn unable(field: String, what: &str, does: Task) -> RequestError {
    let message = format!("{what}; the model loaded here does {:?}", does.tag());
    RequestError::unsupported(field, message)
}

/// Whether the answer is to be grouped: said beside the instances, or in their parameters, which is all that a client of
/// Vertex's can send along.
pub(super) fn is_grouped(fields: &Fields<'_>) -> Result<bool, RequestError> {
    match fields.find("grouped") {
        Some(found) => match found.value {
            Value::Bool(wanted) => Ok(*wanted),
            other => Err(wrong(&found.name, other, "true or false")),
        },
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(instance: Value, does: Task) -> Option<String> {
        let fields = Fields::within("instances[2]".into(), instance.as_object().unwrap());
        check(&fields, does).err().map(|error| error.message)
    }

    #[test]
    fn the_first_containers_words_are_the_hubs_tasks() {
        for (word, does) in WORDS {
            assert_eq!(refused(json!({"task": word}), does), None);
            let message = refused(json!({"task": word}), Task::TextGeneration).unwrap();
            assert_eq!(
                message,
                format!(
                    "instances[2].task is {word:?} ({}); the model loaded here does \"text-generation\"",
                    does.tag()
                )
            );
        }
        assert_eq!(
            refused(json!({"task": "text-to-image"}), Task::TextToImage),
            None
        );
        assert!(refused(json!({"task": "dance"}), Task::TextGeneration).is_some());
        assert!(refused(json!({"task": 5}), Task::TextGeneration).is_some());
    }

    #[test]
    fn a_field_of_another_task_is_refused_without_the_task_too() {
        for (field, does) in FIELDS {
            let body = json!({"sentence": "a", field: "b"});
            let message = refused(body.clone(), Task::TextGeneration).unwrap();
            assert!(message.starts_with(&format!("instances[2].{field} is for ")));
            assert_eq!(refused(body, does), None);
        }
    }
}
