//! `/metrics`: the recorder behind the `metrics` facade, its buckets, and the gauges that are read at the scrape.

use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chandler_core::Tally;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::state::Api;
use crate::engine::{BUCKETED_HISTOGRAMS, ColdStart, Status};

/// What renders the metrics of this process.
pub(super) type Exporter = PrometheusHandle;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// vLLM's buckets of time to first token (openai.md section 10), so that dashboards compare.
const SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const ROWS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// Histograms hold their samples until someone tidies them; a worker that nobody scrapes must not grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes the process's recorder on the first call, and gives the same one afterwards.
pub fn install() -> PrometheusHandle {
    static EXPORTER: OnceLock<PrometheusHandle> = OnceLock::new();
    EXPORTER
        .get_or_init(|| {
            let handle = builder().install_recorder().unwrap_or_else(|error| {
                tracing::warn!(%error, "another metrics recorder is in place; /metrics will be empty");
                builder().build_recorder().handle()
            });
            describe();
            let tidied = handle.clone();
            let spawned = std::thread::Builder::new()
                .name("metrics".into())
                .spawn(move || {
                    loop {
                        std::thread::sleep(UPKEEP);
                        tidied.run_upkeep();
                    }
                });
            if let Err(error) = spawned {
                tracing::warn!(%error, "the metrics thread did not start");
            }
            handle
        })
        .clone()
}

fn builder() -> PrometheusBuilder {
    let seconds = BUCKETED_HISTOGRAMS
        .iter()
        .chain(&["http_request_duration_seconds"])
        .map(|name| (*name, SECONDS.as_slice()));
    let all = seconds.chain([("chandler_batch_rows", ROWS.as_slice())]);
    all.fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        let matcher = Matcher::Full(name.to_owned());
        // Why the fallback: the only error is an empty list of buckets, and none of these is empty.
        builder
            .set_buckets_for_metric(matcher, buckets)
            .unwrap_or_else(|_| PrometheusBuilder::new())
    })
}

fn describe() {
    metrics::describe_counter!("http_requests_total", "Answers by route, method and status");
    metrics::describe_histogram!(
        "http_request_duration_seconds",
        "Time to the answer's headers"
    );
    metrics::describe_counter!(
        "chandler_requests_total",
        "Requests to the model by outcome"
    );
    metrics::describe_counter!("chandler_prompt_tokens_total", "Tokens read");
    metrics::describe_counter!("chandler_completion_tokens_total", "Tokens written");
    metrics::describe_counter!("chandler_audio_seconds_total", "Seconds of audio heard");
    metrics::describe_counter!("chandler_images_total", "Pictures drawn");
    metrics::describe_histogram!(
        "chandler_time_to_first_token_seconds",
        "From submission to the first text"
    );
    metrics::describe_histogram!("chandler_inter_token_seconds", "Between two pieces of text");
    metrics::describe_histogram!("chandler_queue_seconds", "From submission to the batch");
    metrics::describe_histogram!("chandler_request_seconds", "From submission to the end");
    metrics::describe_histogram!("chandler_batch_rows", "Rows in a step");
    metrics::describe_gauge!(
        "chandler_queue_depth",
        "Requests that wait for a place in the batch"
    );
    metrics::describe_gauge!("chandler_running", "Requests in the batch");
    metrics::describe_gauge!("chandler_rows", "Rows in the batch");
    metrics::describe_gauge!(
        "chandler_cache_blocks",
        "Cache blocks by state: used, kept for reuse, free"
    );
    metrics::describe_gauge!("chandler_cache_bytes", "Bytes that the cache may take");
    metrics::describe_gauge!("chandler_cache_tokens", "Tokens that the cache holds");
    metrics::describe_counter!(
        "chandler_prefix_lookup_tokens_total",
        "Tokens of prompts that were looked up in the cache"
    );
    metrics::describe_counter!(
        "chandler_prefix_hit_tokens_total",
        "Of these, found: they were not computed again"
    );
    metrics::describe_counter!(
        "chandler_prefix_evicted_blocks_total",
        "Blocks kept for reuse that had to go because room was needed"
    );
    metrics::describe_counter!(
        "chandler_preemptions_total",
        "Requests put back, to be read again, because cache blocks ran out"
    );
    metrics::describe_counter!(
        "chandler_speculation_proposed_tokens_total",
        "Tokens guessed ahead"
    );
    metrics::describe_counter!(
        "chandler_speculation_accepted_tokens_total",
        "Of these, the ones that the model then chose"
    );
    metrics::describe_gauge!("chandler_device_bytes", "Bytes held on the device");
    metrics::describe_gauge!("chandler_host_bytes", "Bytes held on the host");
    metrics::describe_gauge!(
        "chandler_cold_start_seconds",
        "From the process's start until the model could serve, or until now"
    );
    metrics::describe_gauge!("chandler_cold_start_stage_seconds", "Of these, by stage");
    metrics::describe_gauge!(
        "chandler_weights_download_bytes",
        "Bytes of weights that the cold start has to fetch"
    );
    metrics::describe_gauge!("chandler_weights_fetched_bytes", "Of these, here");
    metrics::describe_gauge!(
        "chandler_weights_loaded_bytes",
        "Bytes of weights that were read into memory"
    );
    metrics::describe_gauge!(
        "chandler_parked",
        "1 while the model has left its device, until the next request"
    );
    metrics::describe_histogram!(
        "chandler_wake_seconds",
        "What a parked model took to come back"
    );
    metrics::describe_gauge!("chandler_ready", "1 when a request would be served");
    metrics::describe_gauge!("chandler_info", "1, with the model and version as labels");
}

/// The scrape.
pub(super) async fn scrape(State(api): State<Api>) -> Response {
    let counters = api.engine.counters();
    let ready = api.engine.status() == Status::Ready;
    let (used, kept) = (counters.blocks_used, counters.blocks_kept);
    let free = counters.blocks_total.saturating_sub(used + kept);
    let cache = api.engine.info().and_then(|info| info.cache);
    metrics::gauge!("chandler_queue_depth").set(counters.queued as f64);
    metrics::gauge!("chandler_running").set(counters.running as f64);
    metrics::gauge!("chandler_rows").set(counters.rows as f64);
    metrics::gauge!("chandler_cache_blocks", "state" => "used").set(used as f64);
    metrics::gauge!("chandler_cache_blocks", "state" => "kept").set(kept as f64);
    metrics::gauge!("chandler_cache_blocks", "state" => "free").set(free as f64);
    metrics::gauge!("chandler_device_bytes").set(counters.device_bytes as f64);
    metrics::gauge!("chandler_host_bytes").set(counters.host_bytes as f64);
    metrics::gauge!("chandler_parked").set(f64::from(u8::from(counters.parked)));
    metrics::gauge!("chandler_cache_bytes").set(cache.unwrap_or_default().bytes as f64);
    metrics::gauge!("chandler_cache_tokens").set(cache.unwrap_or_default().tokens as f64);
    // Why here and not where they are heard: a counter is a whole number, and many clips are shorter than a second.
    metrics::counter!("chandler_audio_seconds_total").absolute(counters.audio_ms / 1000);
    for (name, count) in counted(counters.tally) {
        metrics::counter!(name).absolute(count);
    }
    weights(&api.engine.cold_start(), &api.engine.status());
    metrics::gauge!("chandler_ready").set(f64::from(u8::from(ready)));
    let (model, version) = (api.settings.model_id.clone(), api.settings.version.clone());
    metrics::gauge!("chandler_info", "model" => model, "version" => version).set(1.0);
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        api.exporter.render(),
    )
        .into_response()
}

/// The cold start, stage by stage, and what came and comes for it.
fn weights(start: &ColdStart, status: &Status) {
    metrics::gauge!("chandler_cold_start_seconds").set(start.total.as_secs_f64());
    for (stage, took) in &start.stages {
        metrics::gauge!("chandler_cold_start_stage_seconds", "stage" => stage.name())
            .set(took.as_secs_f64());
    }
    metrics::gauge!("chandler_weights_fetched_bytes").set(start.fetched_bytes as f64);
    metrics::gauge!("chandler_weights_loaded_bytes").set(start.weights_bytes as f64);
    let total = match status {
        Status::Loading(loading) => loading.download.total_bytes,
        _ => start.fetched_bytes,
    };
    metrics::gauge!("chandler_weights_download_bytes").set(total as f64);
}

/// What the pipeline counts by itself.
fn counted(tally: Tally) -> [(&'static str, u64); 6] {
    [
        (
            "chandler_prefix_lookup_tokens_total",
            tally.prefix_lookup_tokens,
        ),
        ("chandler_prefix_hit_tokens_total", tally.prefix_hit_tokens),
        (
            "chandler_prefix_evicted_blocks_total",
            tally.prefix_evicted_blocks,
        ),
        ("chandler_preemptions_total", tally.preemptions),
        (
            "chandler_speculation_proposed_tokens_total",
            tally.proposed_tokens,
        ),
        (
            "chandler_speculation_accepted_tokens_total",
            tally.accepted_tokens,
        ),
    ]
}
