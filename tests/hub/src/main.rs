//! The double as a process, for scripts in other languages. It prints its addresses as a line of JSON, and ends on SIGTERM.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hub_double::{Double, Options, Spec, User};
use serde_json::json;

/// A Hugging Face hub and its CDN on loopback.
#[derive(Parser)]
struct Arguments {
    /// The hub's port; 0 chooses a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The CDN's port; 0 chooses a free one.
    #[arg(long, default_value_t = 0)]
    cdn_port: u16,
    /// A file with a JSON list of repositories; more can be put by /control/put.
    #[arg(long)]
    spec: Option<PathBuf>,
    /// A user who has a token, as NAME=TOKEN.
    #[arg(long, value_parser = user, default_values = ["alice=hf_alice", "bob=hf_bob"])]
    user: Vec<User>,
    /// Entries of a tree that are sent at once.
    #[arg(long, default_value_t = 1000)]
    page_size: usize,
    /// Seed of faults and signatures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads that serve.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn user(text: &str) -> Result<User, String> {
    let (name, token) = text.split_once('=').ok_or("give NAME=TOKEN")?;
    Ok(User::new(name, token))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hub-double: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let given = Arguments::parse();
    let double = Double::start(Options {
        users: given.user,
        page_size: given.page_size,
        seed: given.seed,
        hub_port: given.port,
        cdn_port: given.cdn_port,
        threads: given.threads,
    })?;
    if let Some(path) = given.spec {
        let specs: Vec<Spec> = serde_json::from_slice(&std::fs::read(path)?)?;
        for spec in specs {
            double.put(spec.repo()?);
        }
    }
    println!(
        "{}",
        json!({"url": double.url(), "cdn_url": double.cdn_url()})
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_signal())?;
    Ok(())
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
