//! What the worker sends by itself: outputs to object stores, and what a whole process tells its webhook and its gateway.

mod pictures;
mod register;
mod stores;
mod webhook;

use std::process::{Command, Stdio};

/// Variables that platforms and people put secrets into.
const SECRETS: [&str; 14] = [
    "RUNPOD_AI_API_KEY",
    "RUNPOD_API_KEY",
    "HF_TOKEN",
    "API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "BUCKET_ACCESS_KEY_ID",
    "BUCKET_SECRET_ACCESS_KEY",
    "CHANDLER_WEBHOOK_SECRET",
    "VISGATE_INTERNAL_SECRET",
    "PUBLIC_KEY",
    "RUNPOD_WEBHOOK_PING",
    "OPENAI_API_KEY",
];

/// `serve` on the mock, with an environment full of secrets that all begin with `hush`.
fn serve(more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chandler"));
    command
        .args(["serve", "--model", "mock", "--log-level", "debug"])
        .args(["--host", "127.0.0.1", "--port", "0"])
        .args(more)
        .env_clear()
        .envs(SECRETS.map(|name| (name, format!("hush-{name}"))))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
