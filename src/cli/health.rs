//! `chandler health`: asks a worker whether it would serve, for health checks of containers whose image has no other client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::Url;
use serde_json::Value;

use super::exit::FAILED;
use super::flags::{Listening, SettingFlags};
use super::output;
use crate::config::Settings;
use crate::reach::{self, AllowedHosts, Limits};

/// Where a worker says that a request would be served now.
pub(super) const READY: &str = "/isalive";
/// Where it says that it is there at all.
pub(super) const ALIVE: &str = "/livez";

/// Ask a worker whether it would serve a request now; exit code 0 when it would, 1 when not.
///
/// Without --url the worker of this container is asked, on the port that the environment gives it. It prints one line: the
/// worker's state, with the stage while the model loads.
#[derive(Debug, clap::Args)]
pub struct Health {
    /// The worker's address, such as http://127.0.0.1:8080; a path in it is asked as it stands
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Ask only whether the process answers, also while the model loads
    #[arg(long)]
    live: bool,
    /// How long the answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    timeout: f64,
    #[command(flatten)]
    settings: SettingFlags<Listening>,
}

impl Health {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let path = if self.live { ALIVE } else { READY };
        let url = match self.url {
            Some(mut url) => {
                if url.path() == "/" {
                    url.set_path(path);
                }
                url
            }
            None => own(&self.settings.resolve()?.settings, path)?,
        };
        let timeout = Duration::try_from_secs_f64(self.timeout).context("--timeout")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (well, line) = runtime.block_on(ask(&url, timeout));
        output::print(&format!("{line}\n"))?;
        Ok(match well {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(FAILED),
        })
    }
}

/// The address of the worker that has these settings, seen from the same machine.
pub(super) fn own(settings: &Settings, path: &str) -> anyhow::Result<Url> {
    let address = settings.address();
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = std::net::SocketAddr::new(ip, address.port());
    Url::parse(&format!("http://{address}{path}")).context("the worker's address")
}

/// Whether the worker says yes, and a line about it.
pub(super) async fn ask(url: &Url, timeout: Duration) -> (bool, String) {
    let everything = AllowedHosts {
        everything: true,
        ..AllowedHosts::default()
    };
    // No proxy: one that the environment names for the worker's own requests would be asked for this machine, too.
    let client = reach::Client::new(everything, Limits::default());
    let request = match client.connection(url) {
        Ok(client) => client.get(url.clone()).timeout(timeout),
        Err(error) => return (false, error.to_string()),
    };
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => {
            return (false, format!("no answer from {url} within {timeout:?}"));
        }
        Err(error) => return (false, reach::explain(url, &error).to_string()),
    };
    let status = response.status();
    // A body that does not come says nothing more than the status does.
    let body = response.json::<Value>().await.unwrap_or_default();
    (status.is_success(), described(status.as_u16(), &body))
}

/// `healthy`, or `loading: reading weights, 40 %`.
fn described(status: u16, body: &Value) -> String {
    let Some(state) = body["status"].as_str() else {
        return format!("HTTP status {status}");
    };
    let mut line = state.to_owned();
    for more in ["stage", "error"] {
        if let Some(text) = body[more].as_str() {
            line = format!("{line}: {text}");
        }
    }
    let (done, total) = (body["loaded_bytes"].as_u64(), body["total_bytes"].as_u64());
    if let (Some(done), Some(total @ 1..)) = (done, total) {
        line = format!("{line}, {} %", done.min(total) * 100 / total);
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::{Given, resolve};

    #[test]
    fn the_state_is_one_line() {
        assert_eq!(described(200, &json!({"status": "healthy"})), "healthy");
        let loading = json!({"status": "loading", "stage": "reading weights", "loaded_bytes": 2, "total_bytes": 5});
        assert_eq!(described(503, &loading), "loading: reading weights, 40 %");
        let nothing_yet =
            json!({"status": "loading", "stage": "starting", "loaded_bytes": 0, "total_bytes": 0});
        assert_eq!(described(503, &nothing_yet), "loading: starting");
        let failed = json!({"status": "unhealthy", "error": "the device is gone"});
        assert_eq!(described(503, &failed), "unhealthy: the device is gone");
        assert_eq!(described(502, &Value::Null), "HTTP status 502");
    }

    #[test]
    fn the_containers_own_worker_is_where_the_environment_puts_it() {
        let url = |environment: &[(&str, &str)]| {
            let given = Given::in_environment(environment);
            own(&resolve(&given).unwrap().settings, READY)
                .unwrap()
                .to_string()
        };
        assert_eq!(url(&[]), "http://127.0.0.1:8080/isalive");
        let vertex = [("AIP_MODE", "PREDICTION"), ("AIP_HTTP_PORT", "9001")];
        assert_eq!(url(&vertex), "http://127.0.0.1:9001/isalive");
        assert_eq!(
            url(&[("CHANDLER_HOST", "::"), ("PORT", "81")]),
            "http://[::1]:81/isalive"
        );
        assert_eq!(
            url(&[("CHANDLER_HOST", "10.1.2.3")]),
            "http://10.1.2.3:8080/isalive"
        );
    }

    /// Answers one request with a status line and a body.
    async fn once(answer: &'static str, body: &'static str) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/isalive", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let text = format!(
                "HTTP/1.1 {answer}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.unwrap();
        });
        url.parse().unwrap()
    }

    #[tokio::test]
    async fn only_a_success_is_well() {
        let wait = Duration::from_secs(5);
        let url = once("200 OK", r#"{"status":"healthy"}"#).await;
        assert_eq!(ask(&url, wait).await, (true, "healthy".to_owned()));
        let url = once("503 Service Unavailable", r#"{"status":"draining"}"#).await;
        assert_eq!(ask(&url, wait).await, (false, "draining".to_owned()));
        let url = once("204 No Content", "").await;
        assert_eq!(ask(&url, wait).await, (true, "HTTP status 204".to_owned()));
        // Nobody listens there any more.
        let (well, line) = ask(&url, wait).await;
        assert!(!well && line.contains("127.0.0.1"), "{line}");
    }

    #[tokio::test]
    async fn a_worker_that_says_nothing_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (well, line) = ask(&url.parse().unwrap(), Duration::from_millis(50)).await;
        assert!(!well && line.contains("within 50ms"), "{line}");
    }
}
