//! The heartbeat: which jobs this worker has in hand, told on a thread of its own with a runtime and a connection of its own,
//! so that nothing the model or the loop does can hold it up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::backoff::Backoff;
use super::client::Client;
use super::deliver::chain;
use super::environment::Environment;
use super::fitness::Unfit;
use super::hand::Hand;
use super::report::PROTOCOL_VERSION;
use super::template::Template;

/// Tries of one beat, and the waits between them.
const TRIES: u32 = 4;
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// The last word of a worker that will not do; the SDK gives it as long.
const LAST_WORD: Duration = Duration::from_secs(2);
const REASON: usize = 256;

/// Beats until it is dropped.
#[derive(Debug)]
pub(super) struct Heart {
    _alive: oneshot::Sender<()>,
}

struct Beat {
    client: Client,
    address: Template,
    interval: Duration,
    hand: Arc<Hand>,
}

impl Heart {
    /// Starts it; `None` where the platform could not know whose heart it is.
    pub(super) fn start(environment: &Environment, hand: Arc<Hand>) -> io::Result<Option<Self>> {
        let Some(address) = environment.ping.clone() else {
            return Ok(None);
        };
        let (interval, key) = (environment.ping_interval, environment.api_key.clone());
        let (alive, ended) = oneshot::channel();
        let body = move || -> Result<(), String> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let client = Client::new(key.as_ref()).map_err(|error| error.to_string())?;
            let beat = Beat {
                client,
                address,
                interval,
                hand,
            };
            runtime.block_on(async {
                tokio::select! {
                    () = beat.go_on() => {}
                    _ = ended => {}
                }
            });
            Ok(())
        };
        std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || {
                if let Err(error) = body() {
                    tracing::error!(error, "there is no heartbeat");
                }
            })?;
        Ok(Some(Self { _alive: alive }))
    }
}

impl Beat {
    async fn go_on(&self) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0u32;
        loop {
            ticks.tick().await; // the first at once
            match self.beat().await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    metrics::counter!("chandler_heartbeats_failed_total").increment(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(failures, why, "the heartbeat did not arrive");
                    }
                }
            }
        }
    }

    async fn beat(&self) -> Result<(), String> {
        let mut backoff = Backoff::new(WAIT.0, WAIT.1);
        let mut tries = 0;
        loop {
            tries += 1;
            let (why, again) = match self.client.get(self.url(), self.interval * 2).await {
                Ok(response) => {
                    let status = response.status();
                    drop(response.bytes().await); // so that the connection is free for the next
                    if status.is_success() {
                        return Ok(());
                    }
                    (
                        format!("HTTP {status}"),
                        status.is_server_error() || status.as_u16() == 429,
                    )
                }
                Err(error) => (chain(&error.without_url()), true),
            };
            if !again || tries == TRIES {
                return Err(why);
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    fn url(&self) -> String {
        let ids = self.hand.ids().join(",");
        let version = ("runpod_version", PROTOCOL_VERSION);
        if ids.is_empty() {
            self.address.url("", &[version])
        } else {
            self.address.url("", &[("job_id", &ids), version])
        }
    }
}

/// Tells the platform once that this worker will not do.
pub(super) async fn report_unfit(client: &Client, address: Option<&Template>, unfit: &Unfit) {
    let Some(address) = address else {
        return;
    };
    let reason: String = unfit.reason.chars().take(REASON).collect();
    let url = address.url(
        "",
        &[
            ("status", "unhealthy"),
            ("check", unfit.check),
            ("reason", &reason),
            ("runpod_version", PROTOCOL_VERSION),
        ],
    );
    if let Err(error) = client.get(url, LAST_WORD).await {
        tracing::warn!(error = %error.without_url(), "the platform was not told that this worker is unfit");
    }
}
