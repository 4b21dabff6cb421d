//! The shapes of results and errors on the platform's wire (contract, section 2.3). Pure: nothing is sent here.

use serde_json::{Map, Value, json};

use super::Outcome;

/// The version of the official SDK whose protocol this is; the platform may read it, so that it is not ours.
pub const PROTOCOL_VERSION: &str = "1.12.0";

/// Who says that something failed.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The worker's id.
    pub worker_id: String,
    /// The machine's name as the platform gives it.
    pub hostname: String,
}

/// What a failure is called in `error_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The job itself makes no sense.
    InvalidJob,
    /// The platform would not take the output, or did not.
    OutputRefused,
    /// The worker is going away.
    WorkerStopping,
    /// Our own fault.
    Internal,
}

impl Failure {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidJob => "InvalidJob",
            Self::OutputRefused => "OutputRefused",
            Self::WorkerStopping => "WorkerStopping",
            Self::Internal => "InternalError",
        }
    }
}

impl Reporter {
    /// `{"error": "<JSON text>"}`, as the SDK writes what a handler raises. There is no traceback to tell.
    pub fn failure(&self, failure: Failure, message: &str) -> Value {
        let error = json!({
            "error_type": failure.name(),
            "error_message": message,
            "error_traceback": "",
            "hostname": self.hostname,
            "worker_id": self.worker_id,
            "runpod_version": PROTOCOL_VERSION,
        });
        json!({"error": error.to_string()})
    }
}

/// The outcome of work that gave one value, as the SDK reads what a handler returns: a truthy `error` fails the job, a
/// truthy `refresh_worker` recycles the worker, and an empty object is no output at all.
pub fn returned(value: Value) -> Outcome {
    let Value::Object(mut fields) = value else {
        return Outcome {
            body: json!({"output": value}),
            is_stream: false,
            stop_pod: false,
        };
    };
    let error = fields.remove("error").filter(is_truthy);
    let refresh = fields.remove("refresh_worker").filter(is_truthy);
    let mut body = Map::new();
    if !fields.is_empty() {
        body.insert("output".into(), fields.into());
    }
    if let Some(error) = error {
        body.insert("error".into(), error);
    }
    Outcome {
        body: body.into(),
        is_stream: false,
        stop_pod: refresh.is_some(),
    }
}

/// What a whole outcome says besides its output, in the SDK's way: where the output itself tells of an error or asks for a new
/// worker, that goes where the platform looks for it.
pub(super) fn sorted(outcome: Outcome) -> Outcome {
    let says = |key: &str| {
        outcome
            .body
            .get("output")
            .and_then(|o| o.get(key))
            .is_some_and(is_truthy)
    };
    let alone = outcome.body.as_object().is_some_and(|body| body.len() == 1);
    if outcome.is_stream || !alone || !(says("error") || says("refresh_worker")) {
        return outcome;
    }
    let Outcome {
        mut body, stop_pod, ..
    } = outcome;
    let mut sorted = returned(body.get_mut("output").map(Value::take).unwrap_or_default());
    sorted.stop_pod |= stop_pod;
    sorted
}

/// Python's idea of what counts as true.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_returned_takes_the_sdks_shapes() {
        for (value, body, stop_pod) in [
            (json!("x"), json!({"output": "x"}), false),
            (json!(null), json!({"output": null}), false),
            (json!(false), json!({"output": false}), false),
            (json!({}), json!({}), false),
            (json!({"a": 1}), json!({"output": {"a": 1}}), false),
            (json!({"error": "bad"}), json!({"error": "bad"}), false),
            (
                json!({"error": {"code": 4}, "a": 1}),
                json!({"output": {"a": 1}, "error": {"code": 4}}),
                false,
            ),
            (
                json!({"error": "", "a": 1}),
                json!({"output": {"a": 1}}),
                false,
            ),
            (json!({"error": null}), json!({}), false),
            (
                json!({"refresh_worker": true, "a": 1}),
                json!({"output": {"a": 1}}),
                true,
            ),
            (
                json!({"refresh_worker": 0, "a": 1}),
                json!({"output": {"a": 1}}),
                false,
            ),
        ] {
            let outcome = returned(value.clone());
            assert_eq!(
                (outcome.body, outcome.stop_pod),
                (body, stop_pod),
                "{value}"
            );
        }
    }

    #[test]
    fn an_output_that_tells_of_an_error_is_one_but_a_streamed_one_is_left_alone() {
        let outcome = |output: Value, is_stream| Outcome {
            body: json!({"output": output}),
            is_stream,
            stop_pod: false,
        };
        let bad = json!({"error": "bad", "a": 1});
        let sorted_bad = sorted(outcome(bad.clone(), false));
        assert_eq!(sorted_bad.body, json!({"output": {"a": 1}, "error": "bad"}));
        let fresh = sorted(outcome(json!({"refresh_worker": true, "a": 1}), false));
        assert_eq!(
            (fresh.body, fresh.stop_pod),
            (json!({"output": {"a": 1}}), true)
        );
        for (output, is_stream) in [
            (bad, true),
            (json!({"error": null, "a": 1}), false),
            (json!([{"error": "x"}]), false),
        ] {
            let same = outcome(output, is_stream);
            assert_eq!(sorted(same.clone()), same);
        }
    }

    #[test]
    fn a_failure_is_a_text_that_holds_json() {
        let reporter = Reporter {
            worker_id: "w1".into(),
            hostname: "h".into(),
        };
        let body = reporter.failure(Failure::WorkerStopping, "the worker is stopping");
        let text = body["error"].as_str().unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(text).unwrap(),
            json!({
                "error_type": "WorkerStopping", "error_message": "the worker is stopping", "error_traceback": "",
                "hostname": "h", "worker_id": "w1", "runpod_version": "1.12.0",
            })
        );
    }
}
