//! Long-running operations: how far one is, and what its failure means.

use serde_json::Value;

use super::text;

/// How far an operation is.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::provision) enum Operation {
    /// It runs.
    Pending,
    /// It succeeded, with this response.
    Done(Value),
    /// It did not.
    Failed {
        /// A code of google.rpc.
        code: u64,
        /// What it says.
        message: String,
    },
}

impl Operation {
    pub(in crate::provision) fn read(operation: &Value) -> Self {
        if operation.get("done") != Some(&Value::Bool(true)) {
            return Self::Pending;
        }
        match operation.get("error") {
            Some(error) => Self::Failed {
                code: error.get("code").and_then(Value::as_u64).unwrap_or(2),
                message: text(error, "/message").to_owned(),
            },
            None => Self::Done(operation.get("response").cloned().unwrap_or_default()),
        }
    }
}

/// RESOURCE_EXHAUSTED
const EXHAUSTED: u64 = 8;
/// How stockouts and quotas are told of where the code does not say it. The first is Compute Engine's word.
const WORDS: [&str; 6] = [
    "stockout",
    "quota",
    "resource_exhausted",
    "resource pool exhausted",
    "enough resources",
    "insufficient capacity",
];

/// Whether there is nothing to lend, as opposed to something wrong with what was asked.
pub(in crate::provision) fn no_capacity(code: Option<u64>, message: &str) -> bool {
    let message = message.to_lowercase();
    code == Some(EXHAUSTED) || WORDS.iter().any(|word| message.contains(word))
}

/// The HTTP status of a code of google.rpc (google/rpc/code.proto).
pub(super) fn http_status(code: u64) -> u16 {
    match code {
        3 | 9 | 11 => 400,
        16 => 401,
        7 => 403,
        5 => 404,
        6 | 10 => 409,
        8 => 429,
        12 => 501,
        14 => 503,
        4 => 504,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stockout_is_told_from_a_mistake() {
        let failed = json!({"name": "x", "done": true, "error": {"code": 8, "message": "The following quotas are exceeded"}});
        let Operation::Failed { code, message } = Operation::read(&failed) else {
            panic!("{failed}");
        };
        assert!(no_capacity(Some(code), &message));
        assert!(no_capacity(
            Some(9),
            "us-central1 does not have enough resources available"
        ));
        assert!(!no_capacity(Some(3), "image not found"));
        assert_eq!(Operation::read(&json!({"name": "x"})), Operation::Pending);
        assert_eq!(
            Operation::read(&json!({"done": true})),
            Operation::Done(Value::Null)
        );
    }
}
