//! Workers that come and get ready. Time is counted in looks, so that tests wait for nothing.

use serde_json::{Value, json};

use super::{Endpoint, Outcome, State, stock, unknown};
use crate::Reply;

/// A worker.
pub struct Worker {
    pub id: String,
    version: u64,
    looks: u32,
    throttled: bool,
    gpu: Option<String>,
}

impl State {
    pub fn workers(&mut self, id: &str) -> Outcome {
        let settings = self.settings.clone();
        let name = self.id("w");
        let endpoint = self.endpoints.get_mut(id).ok_or_else(unknown)?;
        let limit = |key: &str| {
            let limit = endpoint.shown["workers"][key].as_u64();
            limit.unwrap_or(0) as usize
        };
        let (min, max) = (limit("min"), limit("max"));
        // A worker of before is replaced at the second look after a release.
        let version = endpoint.version;
        endpoint
            .workers
            .retain(|worker| worker.version == version || worker.looks < settings.looks + 2);
        endpoint.workers.truncate(max);
        let busy = usize::from((settings.queue)() > 0);
        if endpoint.workers.len() < min.max(busy).min(max) {
            let gpu = placed(endpoint, settings.capacity.as_deref());
            let cpu = endpoint.shown.contains_key("cpu");
            endpoint.workers.push(Worker {
                id: name,
                version,
                looks: 0,
                throttled: gpu.is_none() && !cpu,
                gpu,
            });
        }
        let told: Vec<Value> = endpoint
            .workers
            .iter_mut()
            .map(|worker| {
                worker.looks += 1;
                worker.told(settings.looks, settings.instead_of_ready, version)
            })
            .collect();
        let count = |status: &str| told.iter().filter(|one| one["status"] == status).count();
        Ok(Reply::json(
            200,
            &json!({
                "workers": told,
                "summary": {
                    "running": count("RUNNING"), "idle": count("IDLE"), "initializing": count("INITIALIZING"),
                    "throttled": count("THROTTLED"), "unhealthy": count("UNHEALTHY"), "total": told.len(),
                },
                "endpointVersion": version,
            }),
        ))
    }
}

/// The type that a new worker gets; none when nobody has one, and a CPU has none.
fn placed(endpoint: &Endpoint, capacity: Option<&[&'static str]>) -> Option<String> {
    let gpu = endpoint.shown.get("gpu")?;
    let list = |key: &str| gpu.get(key).and_then(Value::as_array).into_iter().flatten();
    let has = |pool: &&Value| capacity.is_none_or(|some| some.iter().any(|one| *pool == one));
    let mut types = list("pools")
        .filter(has)
        .filter_map(Value::as_str)
        .flat_map(stock::types_of);
    types.find(|id| !list("excludedTypes").any(|excluded| excluded == id))
}

impl Worker {
    fn told(&self, looks: u32, instead: Option<&'static str>, version: u64) -> Value {
        let status = match (self.throttled, self.looks > looks) {
            (true, _) => "THROTTLED",
            (false, false) => "INITIALIZING",
            (false, true) => instead.unwrap_or("IDLE"),
        };
        json!({
            "id": self.id, "status": status, "isStale": self.version != version, "version": self.version,
            "gpuCount": u32::from(self.gpu.is_some()), "image": null, "uptimeSeconds": null, "gpuTypeId": self.gpu,
            "dataCenterId": null, "startedAt": null,
        })
    }
}
