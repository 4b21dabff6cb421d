//! The answer of the first Vertex container (contracts/seeds.md 1.1.1), for callers who cannot be changed: one list per
//! task instead of one prediction per instance. Its four lists are always there; a fifth holds generated text, for which
//! that container had no place. Asked for by `grouped: true`, and read through rawPredict only: predict wants predictions.

use chandler_core::{Collected, RequestError};
use serde_json::{Value, json};

use super::instance::Instance;

/// Refuses what the lists have no place for, before anything runs.
pub(super) fn check(number: usize, instance: &Instance) -> Result<(), RequestError> {
    let refuse = |field: &str, what: &str| {
        let name = format!("instances[{number}].{field}");
        let message = format!("{name} has no place in a grouped answer, which has {what}");
        Err(RequestError::unsupported(name, message))
    };
    if instance.is_chat {
        return refuse(
            "messages",
            "texts only; give a prompt, or leave grouped out",
        );
    }
    if instance.input.n > 1 {
        return refuse("n", "one text for an instance; use 1, or leave grouped out");
    }
    if instance.input.logprobs.is_some() {
        return refuse("logprobs", "texts only; leave one of the two out");
    }
    Ok(())
}

/// The lists of a language model's answers.
pub(super) fn lists(answers: Vec<Collected>) -> Value {
    let texts: Vec<String> = answers
        .into_iter()
        .map(|answer| answer.rows.into_iter().next().unwrap_or_default().text)
        .collect();
    filled("generated_texts", texts.into())
}

/// The lists of a speech recogniser's.
pub(super) fn transcripts(texts: Vec<Value>) -> Value {
    filled("transcripts", texts.into())
}

/// One list filled, and the others empty: a worker has one model, and what that does not do is refused.
fn filled(name: &str, texts: Value) -> Value {
    let mut lists = json!({
        "transcripts": [],
        "to_english_translations": [],
        "from_english_translations": [],
        "base64_audio": [],
        "generated_texts": [],
    });
    lists[name] = texts;
    lists
}
