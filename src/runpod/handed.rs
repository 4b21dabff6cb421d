//! Reading a job from an answer that may hold anything: a job, something that can at least be named, or noise.

use serde_json::Value;

use super::Job;

/// What stands at one place of an answer to job-take.
#[derive(Debug)]
pub(super) enum Handed {
    Job(Job),
    /// It can be named, so that its client can be told; nothing else of it can be used.
    Broken {
        id: String,
        why: String,
    },
    /// Not even a name.
    Nameless(String),
}

impl Handed {
    pub(super) fn read(value: Value) -> Self {
        let Value::Object(mut fields) = value else {
            return Self::Nameless(format!("a job is an object, and this is {}", kind(&value)));
        };
        let id = match fields.remove("id") {
            Some(Value::String(id)) if !id.is_empty() => id,
            Some(other) => {
                return Self::Nameless(format!(
                    "a job's id is a text, and this is {}",
                    kind(&other)
                ));
            }
            None => return Self::Nameless("a job without an id".to_owned()),
        };
        match fields.remove("input") {
            Some(input) => Self::Job(Job {
                id,
                input,
                rest: fields,
            }),
            None => Self::Broken {
                id,
                why: "the job has no `input`".to_owned(),
            },
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "an empty text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_keeps_what_it_does_not_know() {
        let value =
            json!({"id": "a-u1", "input": {"prompt": "x"}, "s3Config": {"accessSecret": "hush"}});
        let Handed::Job(job) = Handed::read(value) else {
            panic!("a whole job");
        };
        assert_eq!(job.rest["s3Config"]["accessSecret"], "hush");
        assert_eq!(job.rest.len(), 1);
    }

    #[test]
    fn what_has_a_name_can_be_answered() {
        assert!(matches!(Handed::read(json!({"id": "a"})), Handed::Broken { id, .. } if id == "a"));
        assert!(
            matches!(Handed::read(json!({"id": "b", "input": null})), Handed::Job(job) if job.input.is_null())
        );
        for nameless in [
            json!({"input": 1}),
            json!([]),
            json!(null),
            json!({"id": "", "input": 1}),
            json!({"id": 7, "input": 1}),
        ] {
            assert!(matches!(Handed::read(nameless), Handed::Nameless(_)));
        }
    }
}
