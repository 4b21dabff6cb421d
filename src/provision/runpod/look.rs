//! How an endpoint is: from its workers' states and, for a queue, from `/health`, which queues nothing. A worker that merely
//! starts or runs is not called ready.

use reqwest::Method;
use serde_json::Value;

use super::endpoint::{Endpoint, Health, WorkerStatus, Workers as Seen};
use super::gpus::Selection;
use super::{INVOKE_API, RunPod};
use crate::provision::{
    Access, Call, Deployment, Door, Name, Phase, Platform as _, Price, ProvisionError, Secrets,
    Status, Workers,
};

/// Workers with the present settings, by state; those that run older ones are apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    running: u32,
    idle: u32,
    initializing: u32,
    throttled: u32,
    unhealthy: u32,
    stale: u32,
}

impl Counts {
    fn of(seen: &Seen) -> Self {
        let mut counts = Self::default();
        if seen.workers.is_empty() {
            let all = seen.summary;
            return Self {
                running: all.running,
                idle: all.idle,
                initializing: all.initializing,
                throttled: all.throttled,
                unhealthy: all.unhealthy,
                stale: 0,
            };
        }
        for worker in &seen.workers {
            let count = match (worker.is_stale, worker.status) {
                (true, _) => &mut counts.stale,
                (false, WorkerStatus::Running) => &mut counts.running,
                (false, WorkerStatus::Idle) => &mut counts.idle,
                (false, WorkerStatus::Initializing) => &mut counts.initializing,
                (false, WorkerStatus::Throttled) => &mut counts.throttled,
                (false, WorkerStatus::Unhealthy) => &mut counts.unhealthy,
            };
            *count += 1;
        }
        counts
    }
}

/// What those who serve say of themselves, which the management API does not.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// A queue's `/health`; none when it could not be had.
    Queue(Option<Health>),
    /// Whether a worker behind a load balancer answers `/ping` with 200.
    LoadBalancer(bool),
}

/// Workers that would serve a prediction.
fn ready(counts: Counts, word: Word) -> u32 {
    match word {
        Word::LoadBalancer(true) => counts.idle + counts.running,
        Word::LoadBalancer(false) => 0,
        // RUNNING may mean no more than that a machine runs; a queue that knows a ready worker, or a job in work, means more.
        Word::Queue(health) => {
            let health = health.unwrap_or_default();
            let knows =
                health.workers.ready > 0 || health.workers.idle > 0 || health.jobs.in_progress > 0;
            counts.idle + if knows { counts.running } else { 0 }
        }
    }
}

fn judge(endpoint: &Endpoint, counts: Counts, word: Word) -> Status {
    let ready = ready(counts, word);
    let starting = counts.initializing + (counts.running + counts.idle).saturating_sub(ready);
    let waiting = match word {
        Word::Queue(Some(health)) => health.jobs.in_queue,
        _ => 0,
    };
    let mut status = if ready > 0 {
        Status::of(Phase::Serving)
    } else if starting > 0 {
        Status::of(Phase::Starting)
    } else if counts.throttled > 0 {
        Status::of(Phase::NoCapacity).because(format!(
            "{} throttled: RunPod has no machine for them now",
            plural(counts.throttled, "worker is", "workers are")
        ))
    } else if counts.unhealthy > 0 {
        Status::of(Phase::Failed).because(format!(
            "{} unhealthy, and none starts in their place; their logs say why",
            plural(counts.unhealthy, "worker is", "workers are")
        ))
    } else if counts.stale > 0 {
        Status::of(Phase::Starting)
            .because("the workers still have the settings from before the last change")
    } else if endpoint.workers.max == 0 {
        Status::of(Phase::Failed).because("no worker may start: the most workers are 0")
    } else if endpoint.workers.min > 0 {
        Status::of(Phase::NoCapacity).because("no worker has been given a machine yet")
    } else if waiting > 0 {
        Status::of(Phase::NoCapacity).because(format!(
            "{} and no worker starts",
            plural(waiting, "job waits", "jobs wait")
        ))
    } else {
        Status::of(Phase::Asleep)
    };
    status.workers = Workers {
        ready,
        starting: starting + counts.stale,
        waiting: counts.throttled,
        failed: counts.unhealthy,
    };
    status.scale = Some((endpoint.workers.min, endpoint.workers.max));
    status
}

fn plural(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl RunPod {
    /// How an endpoint is reached: as the API says, unless somebody says otherwise.
    pub(super) fn access(&self, endpoint: &Endpoint) -> Access {
        let said = |key: &str| {
            let urls = endpoint.request_urls.as_ref()?;
            urls.get(key).and_then(Value::as_str)
        };
        let own = self.options.invoke_api.as_ref();
        let own = own.map(|base| format!("{}/{}", base.trim_end_matches('/'), endpoint.id));
        let (url, door) = if endpoint.is_load_balancer() {
            let usual = || format!("https://{}.api.runpod.ai", endpoint.id);
            let said = said("base").map(str::to_owned);
            (own.or(said).unwrap_or_else(usual), Door::Http)
        } else {
            let usual = || format!("{INVOKE_API}/{}", endpoint.id);
            let said = said("run").and_then(|run| Some(run.strip_suffix("/run")?.to_owned()));
            (own.or(said).unwrap_or_else(usual), Door::RunPodQueue)
        };
        Access {
            door,
            bearer: self.key.clone(),
            bearer_in_shell: Some("$RUNPOD_API_KEY"),
            ..Access::open(url)
        }
    }

    pub(super) async fn look(&self, name: &Name) -> Result<Status, ProvisionError> {
        let Some(endpoint) = self.of_deployment(name).await?.into_iter().next() else {
            return Ok(Status::of(Phase::Absent));
        };
        let seen = self.workers(&endpoint.id).await?;
        let counts = Counts::of(&seen);
        let base = self.access(&endpoint).url;
        let word = match endpoint.is_load_balancer() {
            // A worker is there already, so asking starts none.
            true => Word::LoadBalancer(
                counts.idle + counts.running > 0 && self.ping(&base, &endpoint).await,
            ),
            false => Word::Queue(self.health(&base).await),
        };
        let mut status = judge(&endpoint, counts, word);
        status.hardware = hardware(&seen);
        status.price = self.price(&endpoint, &seen).await;
        Ok(status)
    }

    /// An endpoint that was made a moment ago may not be known where it is asked; its workers' states stand then for themselves.
    async fn health(&self, base: &str) -> Option<Health> {
        let call = Call::new(
            "ask the queue's health",
            Method::GET,
            format!("{base}/health"),
        );
        match self
            .api
            .send(&call, &self.hidden(&Secrets::default()))
            .await
        {
            Ok(answer) => serde_json::from_value(answer).ok(),
            Err(error) => {
                tracing::debug!(%error, "no word from the queue");
                None
            }
        }
    }

    async fn ping(&self, base: &str, endpoint: &Endpoint) -> bool {
        let path = endpoint.variable("HEALTH_CHECK_PATH").unwrap_or("/ping");
        let call = Call::new(
            "ask a worker's health",
            Method::GET,
            format!("{base}{path}"),
        );
        match self.api.ask(&call, &self.hidden(&Secrets::default())).await {
            Ok(reply) => reply.status.as_u16() == 200,
            Err(error) => {
                tracing::debug!(%error, "no word from a worker");
                false
            }
        }
    }

    /// What an hour comes to at most on the hardware that is tried first.
    pub(super) async fn foretold(
        &self,
        wanted: &Deployment,
    ) -> Result<Option<Price>, ProvisionError> {
        let first = self
            .groups(&wanted.hardware)
            .into_iter()
            .next()
            .unwrap_or_default();
        if first.is_empty() {
            return Ok(None);
        }
        let catalog = self.catalog().await?;
        let selection = catalog.select(&first, &wanted.needs)?;
        Ok(catalog.dearest(&selection, 1))
    }

    /// What a worker's hour costs by RunPod's catalog: of the type that the first one has, else the most that it may come to. Of
    /// CPUs the catalog does not say what time its price is for.
    async fn price(&self, endpoint: &Endpoint, seen: &Seen) -> Option<Price> {
        let gpu = endpoint.gpu.as_ref()?;
        let catalog = match self.catalog().await {
            Ok(catalog) => catalog,
            Err(error) => {
                tracing::warn!(%error, "the price is not known");
                return None;
            }
        };
        let placed = seen
            .workers
            .iter()
            .find_map(|worker| Some((worker.gpu_type_id.as_deref()?, worker.gpu_count)));
        match placed {
            Some((id, count)) => catalog.price_of(id, count),
            None => {
                let selection = Selection {
                    pools: gpu.pools.clone(),
                    excluded: gpu.excluded_types.clone(),
                    minimum_cuda: None,
                };
                catalog.dearest(&selection, gpu.count.unwrap_or(1))
            }
        }
    }
}

/// The types that workers really have.
fn hardware(seen: &Seen) -> Option<String> {
    let mut types: Vec<&str> = seen
        .workers
        .iter()
        .filter_map(|worker| worker.gpu_type_id.as_deref())
        .collect();
    types.sort_unstable();
    types.dedup();
    (!types.is_empty()).then(|| types.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoint(min: u32, max: u32) -> Endpoint {
        let endpoint = json!({
            "id": "e", "name": "chandler-e", "type": "QUEUE", "workers": {"min": min, "max": max},
            "scaling": {}, "dataCenterIds": [], "networkVolumes": [], "timeout": 1, "flashboot": "OFF", "createdAt": "",
        });
        serde_json::from_value(endpoint).unwrap()
    }

    fn seen(workers: &[(&str, bool)]) -> Counts {
        let workers: Vec<Value> = workers
            .iter()
            .map(|(status, stale)| json!({"id": "w", "status": status, "isStale": stale, "gpuCount": 1}))
            .collect();
        let summary = json!({"running": 0, "idle": 0, "initializing": 0, "throttled": 0, "unhealthy": 0, "total": 0});
        let seen = json!({"workers": workers, "summary": summary});
        Counts::of(&serde_json::from_value(seen).unwrap())
    }

    fn health(ready: u32, in_queue: u32) -> Word {
        let health = json!({"jobs": {"inQueue": in_queue}, "workers": {"ready": ready}});
        Word::Queue(serde_json::from_value(health).unwrap())
    }

    #[test]
    fn serving_means_that_a_worker_is_ready_and_nothing_less() {
        for (workers, word, phase) in [
            (&[("IDLE", false)][..], Word::Queue(None), Phase::Serving),
            (&[("RUNNING", false)], Word::Queue(None), Phase::Starting),
            (&[("RUNNING", false)], health(0, 3), Phase::Starting),
            (&[("RUNNING", false)], health(1, 0), Phase::Serving),
            (&[("INITIALIZING", false)], health(0, 0), Phase::Starting),
            // Ready with the settings of before the change is not ready.
            (&[("IDLE", true)], health(1, 0), Phase::Starting),
            (
                &[("IDLE", false)],
                Word::LoadBalancer(false),
                Phase::Starting,
            ),
            (
                &[("RUNNING", false)],
                Word::LoadBalancer(true),
                Phase::Serving,
            ),
            (&[("THROTTLED", false)], health(0, 1), Phase::NoCapacity),
            (&[("UNHEALTHY", false)], health(0, 1), Phase::Failed),
            (&[], health(0, 1), Phase::NoCapacity),
            (&[], health(0, 0), Phase::Asleep),
        ] {
            let status = judge(&endpoint(0, 2), seen(workers), word);
            assert_eq!(status.phase, phase, "{workers:?} {word:?}");
        }
        let none = seen(&[]);
        assert_eq!(
            judge(&endpoint(1, 2), none, health(0, 0)).phase,
            Phase::NoCapacity
        );
        assert_eq!(
            judge(&endpoint(0, 0), none, health(0, 0)).phase,
            Phase::Failed
        );
    }
}
