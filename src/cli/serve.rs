//! `chandler serve`: the port first, the model behind it, and an orderly end.

use std::io::{self, IsTerminal};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::MultiProgress;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exit::{DEVICE_LOST, Exit, USAGE};
use super::flags::{Everything, SettingFlags};
use super::queue::Queue;
use super::worker::{self, Worker};
use super::{jobs, outward, progress, telemetry, version};
use crate::api::{self, ApiKeys, ApiSettings};
use crate::config::{LogFormat, Platform, Resolution, Settings};
use crate::engine::{Engine, Status};
use crate::webhook::Readiness;

/// Serve a model over HTTP.
///
/// The port is open at once and the model loads behind it: /isalive says 503 with the stage until a request would be
/// answered, and a request that comes early waits up to --load-wait. On SIGTERM or Ctrl-C new requests are told to try
/// elsewhere (503), what runs is finished within --drain-grace, and the exit code is 0; a second signal ends the process
/// at once.
///
/// Where it runs is told from the environment, and `chandler config show` says what follows from it. Vertex AI (AIP_MODE)
/// names port, health and predict route itself. On Cloud Run (K_SERVICE) use /isalive as startup probe and /livez as
/// liveness probe; the port takes HTTP/1.1 and h2c. RunPod's load balancer asks /ping, on PORT_HEALTH if that is set.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Do one RunPod job, print its result as JSON, and end: the job's JSON, or @FILE [without a value: @test_input.json]
    #[arg(
        long,
        alias = "test_input",
        value_name = "JSON",
        num_args = 0..=1,
        default_missing_value = "@test_input.json"
    )]
    test_input: Option<String>,
    #[command(flatten)]
    settings: SettingFlags<Everything>,
}

/// After the engine's end: time for the answers that tell of it to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The engine looks at its grace between two steps, so that it may end a little later.
const LAST_STEP: Duration = Duration::from_millis(250);

/// From the signal or the failure on: time for the webhook to take its last message.
const WEBHOOK_GRACE: Duration = Duration::from_secs(2);

impl Serve {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let resolution = self.settings.resolve()?;
        let settings = &resolution.settings;
        if let Some(text) = &self.test_input {
            return jobs::test(&resolution, text);
        }
        outward::outputs(settings)?; // said now, not when the first large output has nowhere to go
        let listener = bind(settings)?; // before anything that takes time: whoever probes the port is answered
        let bars = telemetry::start(settings, &resolution.warnings);
        outward::tell_about_proxies();
        let worker = worker::start(&resolution)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let done = runtime.block_on(serve(&resolution, listener, worker, &bars, started));
        // A tokenizer that is still at work on somebody's megabytes must not hold up the exit.
        runtime.shutdown_background();
        done
    }
}

fn bind(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.address();
    let listener = TcpListener::bind(address).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; another program has it: choose another with --port, or 0 for any free one"
            }
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need privileges: choose another with --port"
            }
            io::ErrorKind::AddrNotAvailable => {
                "; no interface of this machine has that address: see --host"
            }
            _ => "",
        };
        Exit::new(
            USAGE,
            format!("cannot listen on {address}: {error}{advice}"),
        )
    })?;
    listener
        .set_nonblocking(true)
        .context("cannot set up the listener")?;
    Ok(listener)
}

async fn serve(
    resolution: &Resolution,
    listener: TcpListener,
    worker: Worker,
    bars: &MultiProgress,
    started: Instant,
) -> anyhow::Result<ExitCode> {
    let settings = &resolution.settings;
    let mut signals = Signals::new()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let announcer = Announcer::new(settings, listener.local_addr()?.port(), &worker.id);
    let engine = worker.engine.clone();
    let webhook = outward::announce(settings, &engine, &worker.id, started);
    let api = api_settings(settings, worker);
    let mut queue = match resolution.platform {
        Platform::RunPodQueue => {
            let work = Arc::new(jobs::handler(settings, &api, &engine));
            Some(Queue::start(settings, &engine, work, started)?)
        }
        _ => None,
    };
    let more = jobs::local_routes(settings, &api, &engine);
    let router = api::router_with(api, engine.clone(), more);
    let (stop, stopped) = oneshot::channel::<()>();
    let until = async {
        let _ = stopped.await; // a dropped sender means the same
    };
    let write_stall = *settings.stall_timeout;
    let mut server = tokio::spawn(api::serve(listener, router, write_stall, until));
    announcer.listening(bars);

    let ended = tokio::select! {
        biased; // the engine's own failure says more than the job loop's end, which follows from it
        name = signals.next() => Ended::Signal(name),
        reason = failure(&engine, &announcer, bars, started) => Ended::Failure(reason),
        result = &mut server => Ended::Server(result?),
        done = taken(&mut queue) => Ended::Queue(done),
    };
    match ended {
        Ended::Signal(name) => {
            tracing::info!(
                signal = name,
                grace_s = settings.drain_grace.as_secs_f64(),
                "draining"
            );
            let draining = async {
                // Jobs first: a draining engine would refuse those that have come but not begun.
                let end = Instant::now() + *settings.drain_grace;
                let answered = match queue {
                    Some(queue) => queue.drain(*settings.drain_grace).await,
                    None => true,
                };
                let left = end.saturating_duration_since(Instant::now());
                drain(&engine, server, stop, left).await && answered
            };
            // Together: the webhook's grace must not come on top of a drain that the platform's patience is set for.
            let drained = async { tokio::join!(draining, told(webhook)).0 };
            let drained = tokio::select! {
                drained = drained => drained,
                second = signals.next() => return Ok(ExitCode::from(signal_code(second))),
            };
            if drained {
                tracing::info!("drained");
            } else {
                tracing::warn!("the grace is over; what still ran was cut off");
            }
            Ok(ExitCode::SUCCESS)
        }
        Ended::Failure(exit) => {
            if let Some(queue) = queue {
                queue.report().await;
            }
            drop(stop);
            tokio::join!(finished(server, LAST_WORDS), told(webhook));
            Err(exit.into())
        }
        Ended::Queue(done) => {
            engine.drain(); // nobody else is to begin anything, and the webhook tells of the end
            drop(stop);
            tokio::join!(finished(server, LAST_WORDS), told(webhook));
            Ok(done?)
        }
        Ended::Server(result) => result
            .map(|()| ExitCode::SUCCESS)
            .context("the HTTP server ended"),
    }
}

/// Waits a little for the webhook to take its last message.
async fn told(webhook: Option<Readiness>) {
    if let Some(webhook) = webhook {
        webhook.finish(WEBHOOK_GRACE).await;
    }
}

enum Ended {
    Signal(&'static str),
    Failure(Exit),
    Server(io::Result<()>),
    Queue(Result<ExitCode, Exit>),
}

/// Resolves when the job loop has ended by itself; never where there is none.
async fn taken(queue: &mut Option<Queue>) -> Result<ExitCode, Exit> {
    match queue {
        Some(queue) => queue.ended().await,
        None => std::future::pending().await,
    }
}

/// Lets the engine finish while the port still answers (a client that meets a closed port does not know that it may try
/// again), and then the server. `false` when something was cut off.
async fn drain(
    engine: &Engine,
    server: JoinHandle<io::Result<()>>,
    stop: oneshot::Sender<()>,
    grace: Duration,
) -> bool {
    let end = Instant::now() + grace;
    engine.drain();
    // Nothing runs on a model that has never been there, and its loading is not to be waited for.
    if engine.info().is_some() {
        let _ = tokio::time::timeout(grace + LAST_STEP, engine.stopped()).await;
    }
    let left = end.saturating_duration_since(Instant::now());
    drop(stop);
    finished(server, left.max(LAST_WORDS)).await && !left.is_zero()
}

/// Whether the server came to its end in time.
async fn finished(server: JoinHandle<io::Result<()>>, grace: Duration) -> bool {
    tokio::time::timeout(grace, server).await.is_ok()
}

/// Resolves when the engine can serve nobody any more; tells about the model on the way.
async fn failure(
    engine: &Engine,
    announcer: &Announcer,
    bars: &MultiProgress,
    started: Instant,
) -> Exit {
    match progress::until_ready(engine, bars).await {
        Ok(_) => announcer.ready(engine, started.elapsed(), bars),
        Err(exit) => return exit,
    }
    let mut status = engine.watch();
    loop {
        if let Status::Failed(reason) = status.borrow_and_update().clone() {
            return Exit::new(DEVICE_LOST, reason);
        }
        if status.changed().await.is_err() {
            return Exit::new(DEVICE_LOST, "the engine ended");
        }
    }
}

pub(super) fn api_settings(settings: &Settings, worker: Worker) -> ApiSettings {
    ApiSettings {
        model_id: worker.id,
        aliases: worker.aliases,
        api_keys: ApiKeys::new(settings.api_keys.value.clone()),
        cors_origins: settings
            .cors_origins
            .iter()
            .map(|origin| origin.0.clone())
            .collect(),
        body_limit: usize::try_from(settings.body_limit.0).unwrap_or(usize::MAX),
        rate_limit: *settings.rate_limit,
        request_timeout: *settings.request_timeout,
        write_stall: *settings.stall_timeout,
        health_route: settings.health_route.as_ref().map(|route| route.0.clone()),
        predict_route: settings.predict_route.as_ref().map(|route| route.0.clone()),
        version: version::SHORT.to_owned(),
        waiting_jobs: Arc::default(),
    }
}

/// The two signals that ask a worker to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// 128 and the signal's number, as shells have it.
fn signal_code(name: &str) -> u8 {
    if name == "SIGTERM" { 143 } else { 130 }
}

/// Tells a person on a terminal, or a log elsewhere, where the worker is and how to try it.
struct Announcer {
    url: String,
    model: String,
    curl: String,
    person: bool,
}

impl Announcer {
    fn new(settings: &Settings, port: u16, model: &str) -> Self {
        let host = match settings.host.0 {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        };
        let url = format!("http://{host}:{port}");
        let key = if settings.api_keys.is_empty() {
            ""
        } else {
            " -H \"Authorization: Bearer $API_KEY\""
        };
        let body = serde_json::json!({
            "model": model,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        });
        let curl = format!(
            "curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'"
        );
        let text = matches!(*settings.log_format, LogFormat::Auto | LogFormat::Text);
        Self {
            url,
            model: model.to_owned(),
            curl,
            person: text && io::stderr().is_terminal(),
        }
    }

    fn listening(&self, bars: &MultiProgress) {
        if self.person {
            bars.suspend(|| eprintln!("chandler is listening on {}", self.url));
        } else {
            tracing::info!(url = self.url, model = self.model, "listening");
        }
    }

    fn ready(&self, engine: &Engine, took: Duration, bars: &MultiProgress) {
        let (device, dtype, cache) = engine
            .info()
            .map(|info| (info.device, info.dtype, info.cache))
            .unwrap_or_default();
        let room = cache.map_or_else(String::new, |cache| {
            let size = cache.bytes as f64 / f64::from(1 << 20);
            format!(", with a cache of {} tokens in {size:.1} MiB", cache.tokens)
        });
        if self.person {
            bars.suspend(|| {
                eprintln!(
                    "{} is ready after {took:.2?} on {device} in {dtype}{room}. Try it:\n\n  {}\n",
                    self.model, self.curl
                );
            });
        } else {
            let elapsed_ms = took.as_millis() as u64;
            tracing::info!(
                model = self.model,
                device,
                dtype,
                elapsed_ms,
                r#try = self.curl,
                "model ready"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_a_usage_error_that_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut flags = SettingFlags::<Everything>::default();
        flags.set("host", "127.0.0.1");
        flags.set("port", &taken.local_addr().unwrap().port().to_string());
        let error = bind(&flags.resolve().unwrap().settings).unwrap_err();
        assert_eq!(error.downcast_ref::<Exit>().unwrap().code, USAGE);
        assert!(
            error.to_string().contains("choose another with --port"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_drain_answers_until_its_end_and_its_last_error_arrives() {
        use chandler_core::mock::{MockOptions, MockPipeline};
        let mock = MockOptions {
            step: Duration::from_millis(100), // 16 of them: more than the grace
            ..MockOptions::default()
        };
        let grace = Duration::from_millis(800);
        let options = crate::engine::EngineOptions {
            drain_grace: grace,
            ..Default::default()
        };
        let engine = Engine::start(options, move |_| Ok(MockPipeline::new(mock)));
        let mut status = engine.watch();
        status.wait_for(|s| *s == Status::Ready).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(ApiSettings::default(), engine.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async {
            let _ = stopped.await;
        };
        let stall = Duration::from_secs(60);
        let server = tokio::spawn(api::serve(listener, router, stall, until));
        let ask = || {
            let body = serde_json::json!({"messages": [{"role": "user", "content": "a"}]});
            let request = reqwest::Client::new().post(format!("{url}/v1/chat/completions"));
            tokio::spawn(request.json(&body).send())
        };
        let running = ask();
        while engine.counters().running == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let late = async {
            tokio::time::sleep(grace / 4).await;
            ask().await.unwrap().unwrap()
        };
        let (drained, late) = tokio::join!(drain(&engine, server, stop, grace), late);
        assert!(!drained);
        assert_eq!(late.status(), 503);
        assert!(late.headers().contains_key("retry-after"));
        let cut_off = running.await.unwrap().unwrap();
        assert_eq!(cut_off.status(), 503);
        let said = cut_off.text().await.unwrap();
        assert!(said.contains("the worker is stopping"), "{said}");
    }

    #[test]
    fn the_curl_line_asks_for_a_key_only_where_one_is_needed() {
        let mut flags = SettingFlags::<Everything>::default();
        flags.set("port", "1234");
        let mut settings = flags.resolve().unwrap().settings;
        let open = Announcer::new(&settings, 1234, "demo").curl;
        assert!(
            open.starts_with("curl http://localhost:1234/v1/chat/completions"),
            "{open}"
        );
        assert!(!open.contains("Authorization"));
        settings.api_keys.value = vec!["secret".into()];
        let closed = Announcer::new(&settings, 1234, "demo").curl;
        assert!(
            closed.contains("Bearer $API_KEY") && !closed.contains("secret"),
            "{closed}"
        );
    }
}
