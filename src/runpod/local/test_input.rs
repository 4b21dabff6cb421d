//! One job from a text, as the SDK's `--test_input` does it; streams are read to their end here.

use futures_util::stream::StreamExt;
use serde_json::Value;

use crate::runpod::job::Job;
use crate::runpod::work::{Outcome, Piece, Work};

/// The id of a job that has none of its own.
const ID: &str = "local_test";

/// Reads a job: an object with `input`.
///
/// # Errors
/// What is wrong with the text.
pub fn test_job(text: &str) -> Result<Job, String> {
    let body: Value = serde_json::from_str(text)
        .map_err(|error| format!("the test input is not valid JSON: {error}"))?;
    let Value::Object(mut rest) = body else {
        return Err(
            "the test input must be an object such as {\"input\": {\"prompt\": \"Hello\"}}"
                .to_owned(),
        );
    };
    let input = rest.shift_remove("input").filter(|input| !input.is_null());
    let input = input.ok_or(
        "the test input has no input; it must look like {\"input\": {\"prompt\": \"Hello\"}}",
    )?;
    let id = match rest.shift_remove("id") {
        Some(Value::String(id)) => id,
        _ => ID.to_owned(),
    };
    Ok(Job { id, input, rest })
}

/// Does a job to its end.
pub async fn run_once(work: &dyn Work, job: Job) -> Outcome {
    let mut pieces = work.start(job);
    while let Some(piece) = pieces.next().await {
        match piece {
            Piece::Progress(mut progress) => {
                // Never pictures in a log, not even of what is there so far.
                if let Some(told) = progress.as_object_mut() {
                    told.shift_remove("preview");
                }
                tracing::info!(%progress, "progress");
            }
            Piece::Chunk(_) => {} // all of them are in the outcome
            Piece::Done(outcome) => return outcome,
        }
    }
    Outcome::failed("the work ended without an outcome")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_test_job_needs_an_input_and_nothing_else() {
        let job = test_job(r#"{"input": {"prompt": "a"}, "webhook": "x"}"#).unwrap();
        assert_eq!(
            (job.id.as_str(), job.input),
            ("local_test", json!({"prompt": "a"}))
        );
        assert_eq!(test_job(r#"{"input": 1, "id": "b"}"#).unwrap().id, "b");
        for (text, words) in [
            ("{", "not valid JSON"),
            ("[]", "must be an object"),
            (r#"{"prompt": "a"}"#, "has no input"),
            (r#"{"input": null}"#, "has no input"),
        ] {
            let error = test_job(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
