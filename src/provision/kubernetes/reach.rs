//! How a deployment is reached, and what its workers say.

use futures_util::stream::{self, StreamExt};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Kubernetes;
use super::kind::Kind;
use super::options::ServiceType;
use crate::provision::platform::LogSink;
use crate::provision::{Access, Call, Door, Name, Passage, ProvisionError, Secrets};

/// What a person writes for a worker's own key.
const KEY_IN_SHELL: &str = "$CHANDLER_API_KEYS";
/// Between two looks for new workers while logs are followed.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

impl Kubernetes {
    /// The address for its users, and the way through the cluster's API for proving it.
    pub(super) async fn reach(&self, name: &Name) -> Result<Access, ProvisionError> {
        let cluster = self.cluster()?;
        let namespace = &self.options.namespace;
        let (service, outside) = match self.options.kserve {
            true => (
                format!("{name}-predictor"),
                self.kserve_address(name).await?,
            ),
            false => (name.to_string(), self.address(name).await?),
        };
        let hint = outside
            .is_none()
            .then(|| format!("kubectl -n {namespace} port-forward service/{service} 8080:80"));
        let inside = || format!("http://{service}.{namespace}.svc");
        Ok(Access {
            url: outside.unwrap_or_else(inside),
            door: Door::Http,
            bearer: None,
            bearer_in_shell: self.worker_key.is_some().then_some(KEY_IN_SHELL),
            passage: Some(Passage {
                url: format!(
                    "{}/api/v1/namespaces/{namespace}/services/{service}:80/proxy",
                    cluster.url
                ),
                api: cluster.api.clone(),
                key: self.worker_key.clone(),
                hint,
            }),
        })
    }

    async fn kserve_address(&self, name: &Name) -> Result<Option<String>, ProvisionError> {
        let service = self.find(Kind::InferenceService, name).await?;
        let service = service.ok_or_else(|| self.unknown(name))?;
        let url = service.pointer("/status/url").and_then(Value::as_str);
        Ok(url.map(|url| url.trim_end_matches('/').to_owned()))
    }

    /// The address from outside the cluster, where there is one.
    async fn address(&self, name: &Name) -> Result<Option<String>, ProvisionError> {
        let service = self.find(Kind::Service, name).await?;
        let service = service.ok_or_else(|| self.unknown(name))?;
        if let Some(host) = &self.options.ingress {
            return Ok(Some(format!("http://{host}")));
        }
        let port = |key: &str| {
            service
                .pointer(&format!("/spec/ports/0/{key}"))
                .and_then(Value::as_u64)
        };
        Ok(match self.options.service {
            ServiceType::ClusterIp => None,
            ServiceType::LoadBalancer => {
                let given = service.pointer("/status/loadBalancer/ingress/0");
                let host =
                    given.and_then(|given| given.get("hostname").or_else(|| given.get("ip")));
                host.and_then(Value::as_str).map(|host| match port("port") {
                    None | Some(80) => format!("http://{host}"),
                    Some(port) => format!("http://{host}:{port}"),
                })
            }
            ServiceType::NodePort => match (self.node().await?, port("nodePort")) {
                (Some(node), Some(port)) => Some(format!("http://{node}:{port}")),
                _ => None,
            },
        })
    }

    /// Some node's address, where this login may look at nodes.
    async fn node(&self) -> Result<Option<String>, ProvisionError> {
        let cluster = self.cluster()?;
        let url = format!("{}/api/v1/nodes?limit=1", cluster.url);
        let call = Call::new("look for a node's address", Method::GET, url);
        let reply = cluster.api.ask(&call, &Secrets::default()).await?;
        if reply.status == StatusCode::FORBIDDEN {
            return Ok(None);
        }
        if !reply.status.is_success() {
            return Err(cluster.api.refusal(&call, &Secrets::default(), &reply));
        }
        let addresses = reply.at("/items/0/status/addresses").as_array();
        let of = |kind: &str| {
            let address = addresses?
                .iter()
                .find(|address| address.get("type").and_then(Value::as_str) == Some(kind))?;
            address.get("address")?.as_str().map(str::to_owned)
        };
        Ok(of("ExternalIP").or_else(|| of("InternalIP")))
    }

    pub(super) fn unknown(&self, name: &Name) -> ProvisionError {
        ProvisionError::Unknown {
            name: name.to_string(),
            hint: format!(" in the namespace {}", self.options.namespace),
        }
    }

    /// The last lines of a pod's worker, of the run before the present one where there was one.
    pub(super) async fn last_lines(
        &self,
        pod: &Value,
        lines: u32,
    ) -> Result<Vec<String>, ProvisionError> {
        let again = pod
            .pointer("/status/containerStatuses/0/restartCount")
            .and_then(Value::as_u64);
        let mut query = format!("&tailLines={lines}");
        if again.unwrap_or(0) > 0 {
            query.push_str("&previous=true");
        }
        let call = self.log_call(pod, &query)?;
        let answer = self.cluster()?.api.send(&call, &Secrets::default()).await?;
        let text = answer
            .as_str()
            .map_or_else(|| answer.to_string(), str::to_owned);
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn log_call(&self, pod: &Value, query: &str) -> Result<Call, ProvisionError> {
        let container = match self.options.kserve {
            true => "kserve-container",
            false => "worker",
        };
        let url = format!(
            "{}/api/v1/namespaces/{}/pods/{}/log?container={container}{query}",
            self.cluster()?.url,
            self.options.namespace,
            pod_name(pod),
        );
        Ok(Call::new("read a worker's log", Method::GET, url))
    }

    /// Every worker's log; with `follow` also of workers that come later.
    pub(super) async fn tail(
        &self,
        name: &Name,
        follow: bool,
        sink: LogSink<'_>,
    ) -> Result<(), ProvisionError> {
        let mut told: Vec<String> = Vec::new();
        let mut following = stream::SelectAll::new();
        loop {
            let pods = self.pods(name).await?;
            if pods.is_empty() && told.is_empty() && !follow {
                return Err(self.unknown(name));
            }
            let several = pods.len() > 1;
            let new = pods
                .iter()
                .filter(|pod| !told.contains(&pod_name(pod)) && has_log(pod));
            let mut found = Vec::new();
            for pod in new {
                let query = if follow { "&follow=true" } else { "" };
                let call = self.log_call(pod, query)?;
                let log = self.cluster()?.api.open(&call, &Secrets::default()).await?;
                let prefix = several.then(|| format!("[{}] ", pod_name(pod)));
                following.push(Box::pin(lines(log, prefix.unwrap_or_default())));
                found.push(pod_name(pod));
            }
            told.extend(found);
            let pause = tokio::time::sleep(LOOK.mul_f64(self.pace()));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    line = following.next(), if !following.is_empty() => match line {
                        Some(line) => if !sink(&line?) {
                            return Ok(());
                        },
                        None if !follow => return Ok(()),
                        None => break,
                    },
                    () = &mut pause, if follow => break,
                    else => return Ok(()),
                }
            }
            if follow && following.is_empty() {
                pause.await;
            }
        }
    }
}

fn pod_name(pod: &Value) -> String {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// Whether a worker has begun, so that there is something to read.
fn has_log(pod: &Value) -> bool {
    let status = pod.pointer("/status/containerStatuses/0");
    let begun = |status: &Value| {
        status.pointer("/state/running").is_some()
            || status.pointer("/state/terminated").is_some()
            || status.get("restartCount").and_then(Value::as_u64) > Some(0)
    };
    status.is_some_and(begun)
}

/// The lines of a log that may still grow.
fn lines(
    log: reqwest::Response,
    prefix: String,
) -> impl stream::Stream<Item = Result<String, ProvisionError>> {
    stream::unfold(
        (log, Vec::new(), false, prefix),
        |(mut log, mut left, mut ended, prefix)| async move {
            loop {
                if let Some(end) = left.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = left.drain(..=end).collect();
                    let text = String::from_utf8_lossy(&line);
                    return Some((
                        Ok(format!("{prefix}{}", text.trim_end())),
                        (log, left, ended, prefix),
                    ));
                }
                if ended && left.is_empty() {
                    return None;
                }
                if ended {
                    let line = std::mem::take(&mut left);
                    let text = String::from_utf8_lossy(&line).into_owned();
                    return Some((Ok(format!("{prefix}{text}")), (log, left, ended, prefix)));
                }
                match log.chunk().await {
                    Ok(Some(chunk)) => left.extend_from_slice(&chunk),
                    Ok(None) => ended = true,
                    Err(error) => {
                        let error = ProvisionError::Unreachable {
                            platform: super::ID,
                            purpose: "read a worker's log".to_owned(),
                            reason: error.to_string(),
                        };
                        return Some((Err(error), (log, Vec::new(), true, prefix)));
                    }
                }
            }
        },
    )
}
