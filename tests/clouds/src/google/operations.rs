//! Long-running operations: each ends after so many looks at it, and what it was for happens then.

use serde_json::{Value, json};

/// What an operation does when it ends.
#[derive(Debug, Clone)]
pub enum Effect {
    /// A version of a model comes to be.
    Upload { model: String, body: Value },
    /// An endpoint comes to be.
    Create { endpoint: String, body: Value },
    /// A model is deployed.
    Deploy {
        endpoint: String,
        deployed: Value,
        traffic: Value,
    },
    /// One is undeployed.
    Undeploy {
        endpoint: String,
        id: String,
        traffic: Value,
    },
    /// Its number of replicas changes.
    Mutate {
        endpoint: String,
        id: String,
        resources: Value,
    },
    /// The endpoint's connection changes.
    Connect { endpoint: String, config: Value },
    /// A thing goes: `endpoints/x`.
    Delete { path: String },
    /// A service's revision starts.
    Start { service: String, generation: i64 },
    /// A service goes.
    Stop { service: String },
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Operation {
    pub name: String,
    /// The type of its metadata.
    pub kind: &'static str,
    pub looks: u32,
    pub effect: Effect,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// How one ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// With a response of this type.
    Well(Value),
    /// With a code of google.rpc and words.
    Badly(i64, String),
}

impl Operation {
    /// As the API shows it.
    pub fn json(&self, number: usize) -> Value {
        let time = format!(
            "2026-01-01T00:{:02}:{:02}.000000Z",
            number / 60,
            number % 60
        );
        let mut shown = json!({"name": self.name});
        // Cloud Run's metadata is the service, which nobody needs here.
        if self.kind.contains("aiplatform") {
            shown["metadata"] = json!({
                "@type": self.kind,
                "genericMetadata": {"createTime": time, "updateTime": time},
            });
        }
        match &self.ended {
            None => {}
            Some(Ended::Well(response)) => {
                shown["done"] = true.into();
                shown["response"] = response.clone();
            }
            Some(Ended::Badly(code, message)) => {
                shown["done"] = true.into();
                shown["error"] = json!({"code": code, "message": message});
            }
        }
        shown
    }
}
