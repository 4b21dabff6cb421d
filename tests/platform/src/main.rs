//! The platform as a process, for scripts in other languages. It prints its address as a line of JSON, and ends on SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use runpod_platform::{Options, Platform};
use serde_json::json;

/// A RunPod platform on loopback.
#[derive(Parser)]
struct Arguments {
    /// Port to listen on; 0 chooses a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// File for every wire message, a line of JSON each.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Keep every wire message in memory for /control/wire.
    #[arg(long)]
    keep_wire: bool,
    /// The endpoint's id.
    #[arg(long, default_value = "fake-endpoint")]
    endpoint: String,
    /// The key that clients must send.
    #[arg(long, default_value = "client-key")]
    client_key: String,
    /// The key that workers must send.
    #[arg(long, default_value = "worker-key")]
    worker_key: String,
    /// Milliseconds that a poll is held when there is nothing.
    #[arg(long, default_value_t = 5000)]
    hold_ms: u64,
    /// Milliseconds between a worker's pings.
    #[arg(long, default_value_t = 10_000)]
    ping_ms: u64,
    /// Bytes that a result may have.
    #[arg(long, default_value_t = 20 << 20)]
    result_limit: usize,
    /// The answer to a longer one.
    #[arg(long, default_value_t = 400)]
    too_large_status: u16,
    /// Seed of the faults and the job ids.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let given = Arguments::parse();
    let options = Options {
        port: given.port,
        endpoint: given.endpoint,
        client_key: given.client_key,
        worker_key: given.worker_key,
        hold: Duration::from_millis(given.hold_ms),
        result_limit: given.result_limit,
        too_large_status: given.too_large_status,
        ping_interval: Duration::from_millis(given.ping_ms),
        keep_wire: given.keep_wire,
        log_file: given.log,
        seed: given.seed,
        ..Options::default()
    };
    let started = Platform::start(options).await;
    let platform = match started {
        Ok(platform) => platform,
        Err(error) => {
            eprintln!("the platform could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "{}",
        json!({"address": platform.address().to_string(), "url": platform.url()})
    );
    if let Err(error) = until_signal().await {
        eprintln!("signals cannot be watched: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn until_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
