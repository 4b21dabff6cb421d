//! The requests that RunPod's management API v2 is sent, apart from what is done with their answers.

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::RunPod;
use super::cached;
use super::endpoint::{Endpoint, Endpoints, Template, Templates, Workers};
use super::gpus::{CpuTypes, GpuTypes, Selection, processors};
use super::shape::{Compute, Shape};
use crate::provision::{Call, Deployment, Name, ProvisionError, Secrets, Step};

/// Below this all of API v2 is.
fn v2(api: &str, path: &str) -> String {
    format!("{api}/v2/{path}")
}

pub(super) fn list(api: &str) -> Call {
    Call::new("list the endpoints", Method::GET, v2(api, "serverless"))
}

pub(super) fn create(api: &str, shape: &Shape) -> Call {
    let url = v2(api, "serverless");
    Call::new("create the endpoint", Method::POST, url).with(shape.body())
}

/// Says what each field should be, so sending it twice is the same as once.
pub(super) fn change(api: &str, id: &str, patch: Map<String, Value>) -> Call {
    let url = v2(api, &format!("serverless/{id}"));
    Call::new("change the endpoint", Method::PATCH, url)
        .with(Value::Object(patch))
        .repeatable()
}

pub(super) fn scale(api: &str, id: &str, (min, max): (u32, u32)) -> Call {
    let mut patch = Map::new();
    patch.insert("workers".to_owned(), json!({"min": min, "max": max}));
    change(api, id, patch)
}

pub(super) fn find(api: &str, id: &str) -> Call {
    let url = v2(api, &format!("serverless/{id}"));
    Call::new("look at the endpoint", Method::GET, url)
}

pub(super) fn delete(api: &str, id: &str) -> Call {
    let url = v2(api, &format!("serverless/{id}"));
    Call::new("delete the endpoint", Method::DELETE, url)
}

pub(super) fn workers(api: &str, id: &str) -> Call {
    let url = v2(api, &format!("serverless/{id}/workers"));
    Call::new("list the workers", Method::GET, url)
}

pub(super) fn worker_logs(api: &str, id: &str, worker: &str, lines: u32) -> Call {
    let url = v2(
        api,
        &format!("serverless/{id}/workers/{worker}/logs?tail={lines}"),
    );
    Call::new("read a worker's log", Method::GET, url)
}

pub(super) fn templates(api: &str) -> Call {
    Call::new("list the templates", Method::GET, v2(api, "templates"))
}

pub(super) fn delete_template(api: &str, id: &str) -> Call {
    let url = v2(api, &format!("templates/{id}"));
    Call::new("delete the template", Method::DELETE, url)
}

pub(super) fn gpus(api: &str) -> Call {
    let url = v2(api, "catalog/gpus");
    Call::new("read the catalog of GPUs", Method::GET, url)
}

pub(super) fn cpus(api: &str) -> Call {
    let url = v2(api, "catalog/cpus");
    Call::new("read the catalog of CPUs", Method::GET, url)
}

/// The endpoints that bear a deployment's mark, the oldest first.
pub(super) fn marked(mut endpoints: Vec<Endpoint>, name: &Name) -> Vec<Endpoint> {
    endpoints.retain(|endpoint| endpoint.deployment().as_ref() == Some(name));
    endpoints.sort_by(|a, b| (&a.created_at, &a.id).cmp(&(&b.created_at, &b.id)));
    endpoints
}

impl RunPod {
    /// What would be sent where nothing exists.
    pub(super) fn steps(&self, wanted: &Deployment) -> Result<Vec<Step>, ProvisionError> {
        let api = &self.options.api;
        let mut steps = vec![list(api)];
        let compute = match wanted.hardware.is_empty() {
            true => {
                if wanted.needs.host_bytes > 0 {
                    steps.push(cpus(api));
                }
                Compute::Cpu(processors(&self.options.cpu, &wanted.needs))
            }
            false => {
                steps.push(gpus(api));
                Compute::Gpu(Selection::planned(&wanted.hardware, &wanted.needs))
            }
        };
        let shape = Shape::of(wanted, &self.options, compute)?;
        steps.push(match shape.cached {
            Some(_) => cached::create(api, &shape, "{random}"),
            None => create(api, &shape),
        });
        Ok(steps.into_iter().map(Step::from).collect())
    }

    async fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<T, ProvisionError> {
        let answer = self
            .api
            .send(call, &self.hidden(&Secrets::default()))
            .await?;
        self.parse(call, answer)
    }

    pub(super) fn parse<T: DeserializeOwned>(
        &self,
        call: &Call,
        answer: Value,
    ) -> Result<T, ProvisionError> {
        serde_json::from_value(answer).map_err(|error| self.api.malformed(call, error.to_string()))
    }

    /// Every endpoint of the account.
    pub(super) async fn endpoints(&self) -> Result<Vec<Endpoint>, ProvisionError> {
        let all: Endpoints = self.read(&list(&self.options.api)).await?;
        Ok(all.endpoints)
    }

    /// Those of a deployment, the oldest first.
    pub(super) async fn of_deployment(&self, name: &Name) -> Result<Vec<Endpoint>, ProvisionError> {
        Ok(marked(self.endpoints().await?, name))
    }

    /// The one of a deployment.
    pub(super) async fn existing(&self, name: &Name) -> Result<Endpoint, ProvisionError> {
        let found = self.of_deployment(name).await?.into_iter().next();
        found.ok_or_else(|| ProvisionError::Unknown {
            name: name.to_string(),
            hint: " on RunPod, as far as this key sees".to_owned(),
        })
    }

    pub(super) async fn workers(&self, id: &str) -> Result<Workers, ProvisionError> {
        self.read(&workers(&self.options.api, id)).await
    }

    pub(super) async fn templates(&self) -> Result<Vec<Template>, ProvisionError> {
        let all: Templates = self.read(&templates(&self.options.api)).await?;
        Ok(all.templates)
    }

    pub(super) async fn catalog(&self) -> Result<&GpuTypes, ProvisionError> {
        let call = gpus(&self.options.api);
        self.catalog.get_or_try_init(|| self.read(&call)).await
    }

    pub(super) async fn processor_catalog(&self) -> Result<CpuTypes, ProvisionError> {
        self.read(&cpus(&self.options.api)).await
    }
}
