//! `chandler serve`: the port first, the model behind it, and an orderly end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use indicatif::MultiProgress;

use super::announce::Announcer;
use super::ending::{Ended, Server, Serving};
use super::exit::{DEVICE_LOST, Exit};
use super::flags::{Everything, SettingFlags};
use super::listen::{self, Listeners};
use super::progress::Screen;
use super::queue::Queue;
use super::signals::Signals;
use super::worker::{self, Worker};
use super::{jobs, outward, progress, register, telemetry, threads, version};
use crate::api::{self, ApiKeys, ApiSettings};
use crate::config::{Platform, Resolution, Settings};
use crate::engine::{Engine, Status};
use crate::machine::Machine;

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

impl Serve {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let resolution = self.settings.resolve()?;
        let settings = &resolution.settings;
        threads::settle(settings);
        if let Some(text) = &self.test_input {
            return jobs::test(&resolution, text);
        }
        outward::outputs(settings)?; // said now, not when the first large output has nowhere to go
        let listeners = Listeners::bind(settings)?; // before anything that takes time: whoever probes the port is answered
        let bars = telemetry::start(settings, &resolution.warnings);
        if resolution.platform != Platform::Elsewhere {
            tracing::info!(platform = %resolution.platform, "platform recognised");
        }
        threads::tell(settings);
        outward::tell_about_proxies();
        let worker = worker::start(&resolution, started)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads::for_requests())
            .enable_all()
            .build()?;
        let done = runtime.block_on(serve(&resolution, listeners, worker, &bars, started));
        // A tokenizer that is still at work on somebody's megabytes must not hold up the exit.
        runtime.shutdown_background();
        done
    }
}

async fn serve(
    resolution: &Resolution,
    listeners: Listeners,
    worker: Worker,
    bars: &MultiProgress,
    started: Instant,
) -> anyhow::Result<ExitCode> {
    let settings = &resolution.settings;
    let mut signals = Signals::new()?;
    let listener = tokio::net::TcpListener::from_std(listeners.main)?;
    let bound = listener.local_addr()?;
    let announcer = Announcer::new(settings, bound.port(), &worker.id);
    let engine = worker.engine.clone();
    let webhook = outward::announce(settings, &engine, &worker.id);
    let screen = worker.screen(bars);
    let api = api_settings(settings, worker);
    let write_stall = *settings.stall_timeout;
    let here = register::Here {
        platform: resolution.platform,
        bound,
        variable: &|name| std::env::var(name).ok(),
    };
    let registration = register::start(settings, &here, &api, &engine)?;
    if let Some(health) = listeners.health {
        let router = api::health_router(api.clone(), engine.clone());
        listen::health(health, router, write_stall)?;
    }
    let queue = match resolution.platform {
        Platform::RunPodQueue => {
            let work = Arc::new(jobs::handler(settings, &api, &engine));
            Some(Queue::start(settings, &engine, work, started)?)
        }
        _ => None,
    };
    let more = jobs::local_routes(settings, &api, &engine);
    let router = api::router_with(api, engine.clone(), more);
    let server = Server::start(listener, router, write_stall);
    announcer.listening(bars);
    let mut serving = Serving {
        engine: engine.clone(),
        server,
        queue,
        webhook,
        registration,
    };
    let ended = tokio::select! {
        biased; // the engine's own failure says more than the job loop's end, which follows from it
        name = signals.next() => Ended::Signal(name),
        reason = failure(&engine, &announcer, &screen, started) => Ended::Failure(reason),
        ended = serving.ended() => ended,
    };
    serving
        .end(ended, *settings.drain_grace, &mut signals)
        .await
}

/// Resolves when the engine can serve nobody any more; tells about the model on the way.
async fn failure(
    engine: &Engine,
    announcer: &Announcer,
    screen: &Screen,
    started: Instant,
) -> Exit {
    match progress::until_ready(engine, screen).await {
        Ok(_) => announcer.ready(engine, started.elapsed(), &screen.bars),
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

/// What uploads may take together. The rest is for the model, for what is made of the files, and for the answers.
fn upload_memory(settings: &Settings) -> u64 {
    /// Where the machine does not say what it has.
    const USUAL: u64 = 1 << 30;
    let set = settings.upload_memory.map(|size| size.0);
    set.unwrap_or_else(|| {
        let memory = Machine::here().memory();
        memory.map_or(USUAL, |memory| memory.total / 4)
    })
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
        upload_limit: settings.max_upload.0,
        upload_memory: Some(upload_memory(settings)),
        downloads: outward::guard(settings),
        artifacts: outward::artifacts(settings),
        rate_limit: *settings.rate_limit,
        request_timeout: *settings.request_timeout,
        write_stall: *settings.stall_timeout,
        health_route: settings.health_route.as_ref().map(|route| route.0.clone()),
        ping_route: settings.ping_route.as_ref().map(|route| route.0.clone()),
        predict_route: settings.predict_route.as_ref().map(|route| route.0.clone()),
        version: version::SHORT.to_owned(),
        waiting_jobs: Arc::default(),
    }
}
