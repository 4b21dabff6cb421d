//! The body of `/run` and `/runsync`: the input, and what the platform takes beside it.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

/// A job as a client hands it in.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) input: Value,
    /// Everything beside the input, as it came: the job keeps it.
    pub(super) rest: Map<String, Value>,
    pub(super) webhook: Option<String>,
    /// How long it may run.
    pub(super) execution: Duration,
    /// How long it may wait and run, and be asked for afterwards.
    pub(super) life: Duration,
}

/// The platform's bounds and defaults, in milliseconds (runpod.md 4).
const EXECUTION: (RangeInclusive<u64>, u64) = (5_000..=604_800_000, 600_000);
const LIFE: (RangeInclusive<u64>, u64) = (10_000..=604_800_000, 86_400_000);

/// Reads a body.
///
/// # Errors
/// The field at fault, and what would do.
pub(super) fn read(bytes: &[u8]) -> Result<Submission, String> {
    let body: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("the body is not valid JSON: {error}"))?;
    let Value::Object(mut rest) = body else {
        return Err("the body must be a JSON object with input".to_owned());
    };
    let input = rest.shift_remove("input").filter(|input| !input.is_null());
    let input = input.ok_or("input is missing; it must hold what the job is to do")?;
    rest.shift_remove("id");
    let webhook = match rest.get("webhook") {
        None | Some(Value::Null) => None,
        Some(Value::String(url)) => Some(url.clone()),
        Some(_) => return Err("webhook must be a URL".to_owned()),
    };
    let empty = Map::new();
    let policy = match rest.get("policy") {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(policy)) => policy,
        Some(_) => return Err("policy must be an object".to_owned()),
    };
    let known = ["executionTimeout", "ttl", "lowPriority"];
    // Why refused: a limit under another name would be none, and nobody would notice (seeds.md 2.1.3).
    if let Some(key) = policy.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!(
            "policy has {key:?}; it may have {}",
            known.join(", ")
        ));
    }
    let (execution, life) = (
        time(policy, "executionTimeout", EXECUTION)?,
        time(policy, "ttl", LIFE)?,
    );
    Ok(Submission {
        input,
        rest,
        webhook,
        execution,
        life,
    })
}

fn time(
    policy: &Map<String, Value>,
    key: &str,
    (range, usual): (RangeInclusive<u64>, u64),
) -> Result<Duration, String> {
    let given = policy.get(key).filter(|value| !value.is_null());
    let millis = match given {
        None => Some(usual),
        Some(value) => value.as_f64().map(|millis| millis as u64),
    };
    let millis = millis
        .filter(|millis| range.contains(millis))
        .ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            format!("policy.{key} must be a number of milliseconds from {low} to {high}")
        })?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(body: Value) -> Result<Submission, String> {
        read(body.to_string().as_bytes())
    }

    #[test]
    fn what_stands_beside_the_input_is_kept_and_limits_are_read() {
        let read = of(json!({
            "input": {"prompt": "a"}, "id": "mine", "webhook": "https://example.com", "s3Config": {"bucketName": "b"},
            "policy": {"executionTimeout": 5000.0, "ttl": 10000, "lowPriority": true},
        }));
        let read = read.unwrap();
        assert_eq!(read.input, json!({"prompt": "a"}));
        assert_eq!(read.webhook.as_deref(), Some("https://example.com"));
        assert_eq!((read.execution.as_secs(), read.life.as_secs()), (5, 10));
        assert!(read.rest.contains_key("s3Config") && !read.rest.contains_key("id"));
        let read = of(json!({"input": "a"})).unwrap();
        assert_eq!(
            (read.execution.as_secs(), read.life.as_secs()),
            (600, 86_400)
        );
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (body, words) in [
            (json!([]), "the body must be"),
            (json!({}), "input is missing"),
            (json!({"input": null}), "input is missing"),
            (json!({"input": 1, "webhook": 7}), "webhook must be"),
            (json!({"input": 1, "policy": 7}), "policy must be"),
            (
                json!({"input": 1, "policy": {"execution_timeout_ms": 7}}),
                "policy has \"execution_timeout_ms\"",
            ),
            (
                json!({"input": 1, "policy": {"ttl": 1}}),
                "policy.ttl must be",
            ),
            (
                json!({"input": 1, "policy": {"executionTimeout": "1"}}),
                "policy.executionTimeout must be",
            ),
        ] {
            let error = of(body).unwrap_err();
            assert!(error.starts_with(words), "{error}");
        }
        assert!(
            read(b"{")
                .unwrap_err()
                .starts_with("the body is not valid JSON")
        );
    }
}
