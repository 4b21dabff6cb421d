//! `{debug: true}`: how the worker is, without asking the model. The seeds' platform probes a new worker so, and reads
//! `status` and `pipeline_loaded` (seeds.md 2.3.1, 2.4.3).

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{Call, Shape};
use crate::runpod::answer::Failure;
use crate::runpod::growth::Growth;
use crate::sse::Event;

pub(super) fn is(map: &Map<String, Value>) -> bool {
    map.get("debug") == Some(&Value::Bool(true))
}

pub(super) fn call() -> Call {
    Call {
        method: Method::GET,
        path: "/health".into(),
        body: None,
        shape: Box::new(Health),
        growth: Growth::default(),
    }
}

struct Health;

impl Shape for Health {
    /// The health object, with the two fields as the seeds' platform reads them; its own word for the state is `state`.
    fn whole(&self, answer: Value) -> Value {
        let Value::Object(mut health) = answer else {
            return answer;
        };
        let loaded = health.get("model_loaded") == Some(&Value::Bool(true));
        let state = health.insert("status".into(), "ok".into());
        health.insert("state".into(), state.unwrap_or_default());
        health.insert("pipeline_loaded".into(), loaded.into());
        health.entry("error").or_insert(json!(null));
        Value::Object(health)
    }

    fn event(&mut self, _: &Event) {}

    fn chunks(&mut self) -> Vec<Value> {
        Vec::new()
    }

    fn error(&self, failure: Failure) -> String {
        failure.message
    }

    /// A worker that is not ready says so with 503.
    fn takes_any_status(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_reads_whether_the_model_is_loaded() {
        let health = json!({"status": "loading", "model_loaded": false, "stage": "starting"});
        assert_eq!(
            Health.whole(health),
            json!({"status": "ok", "model_loaded": false, "stage": "starting", "state": "loading",
                "pipeline_loaded": false, "error": null})
        );
    }
}
