//! Jobs of RunPod's kind without RunPod: `serve --test-input`, and the local API beside the worker's own routes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use axum::Router;

use super::exit::{Exit, FAILED};
use super::serve::api_settings;
use super::worker;
use super::{output, outward, progress, telemetry};
use crate::api::{self, ApiSettings};
use crate::config::{Resolution, Settings, Switch};
use crate::engine::Engine;
use crate::runpod::local::{self, LocalOptions};
use crate::runpod::{Growth, Handler, Streaming};

/// Does jobs on the worker's own routes.
pub fn handler(settings: &Settings, api: &ApiSettings, engine: &Engine) -> Handler {
    let inner = api::inner_router(api.clone(), engine.clone());
    Handler::new(inner, streaming(settings))
}

fn streaming(settings: &Settings) -> Streaming {
    Streaming {
        growth: Growth {
            first: settings.stream_chunk_first.get(),
            factor: settings.stream_chunk_growth.0,
            most: settings.stream_chunk.get(),
        },
        raw_openai: *settings.raw_openai_output == Switch::On,
    }
}

/// The local API's routes, none where it is off.
pub fn local_routes(settings: &Settings, api: &ApiSettings, engine: &Engine) -> Router {
    if *settings.local_api == Switch::Off {
        return Router::new();
    }
    let work = Arc::new(handler(settings, api, engine));
    let inner = api::inner_router(api.clone(), engine.clone());
    let options = LocalOptions {
        concurrency: settings.max_rows.get(),
        body_limit: api.body_limit,
        hook: Some(outward::deliver_results(settings)),
        waiting: api.waiting_jobs.clone(),
    };
    local::routes(work, engine.clone(), inner, options)
}

/// Does one job and prints how it ended: `{"output": …}`, or `{"error": …}` with an exit code of failure.
///
/// # Errors
/// When there is no job, or no model to do it.
pub fn test(resolution: &Resolution, text: &str) -> anyhow::Result<ExitCode> {
    let settings = &resolution.settings;
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the test input {path}"))?,
        None => text.to_owned(),
    };
    let job = local::test_job(&text).map_err(|message| Exit::new(FAILED, message))?;
    let bars = telemetry::start_quiet(settings, &resolution.warnings);
    let worker = worker::start(resolution, Instant::now())?;
    let engine = worker.engine.clone();
    let screen = worker.screen(&bars);
    let handler = handler(settings, &api_settings(settings, worker), &engine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        progress::until_ready(&engine, &screen).await?;
        anyhow::Ok(local::run_once(&handler, job).await)
    });
    runtime.shutdown_background();
    let outcome = outcome?;
    output::print(&format!("{}\n", outcome.body)).context("cannot write the result")?;
    Ok(ExitCode::from(if outcome.error().is_some() {
        FAILED
    } else {
        0
    }))
}
