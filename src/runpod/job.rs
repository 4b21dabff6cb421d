//! A job as the platform hands it out. Apart from whoever takes it and whoever does its work: both need it, and neither
//! the other.

use std::fmt;

use serde_json::{Map, Value};

/// A job as the platform hands it out.
#[derive(Clone)]
pub struct Job {
    /// Its id: opaque, the platform's own.
    pub id: String,
    /// What is to be done.
    pub input: Value,
    /// Everything else of the job object (`webhook`, `s3Config`, `batchId`, …), kept as it came. May hold secrets: not
    /// printed by Debug.
    pub rest: Map<String, Value>,
}

impl fmt::Debug for Job {
    // Why by hand: an input is somebody's text, and the rest may hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_jobs_debug_print_shows_its_id_alone() {
        let rest = json!({"s3Config": {"accessSecret": "hush"}});
        let job = Job {
            id: "a-1".into(),
            input: json!({"prompt": "private"}),
            rest: rest.as_object().unwrap().clone(),
        };
        assert_eq!(format!("{job:?}"), "Job { id: \"a-1\", .. }");
    }
}
