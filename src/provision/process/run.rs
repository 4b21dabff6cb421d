//! Starts a worker that outlives this process, and sends it signals.

use std::fs::{File, TryLockError};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;

use super::folder::{Folder, Worker};
use crate::provision::{ProvisionError, Secrets};

/// Writes its own id before it becomes the worker, so that nobody else has to; and outlives the terminal.
const SCRIPT: &str = r#"trap '' HUP; echo $$ > "$0" && exec "$@""#;
/// How often a lock is tried.
const LOOKS: u32 = 5;
/// How long a worker that was just started may take to write its id.
const ID_COMES: Duration = Duration::from_secs(2);

fn fault(purpose: &str, error: impl std::fmt::Display) -> ProvisionError {
    ProvisionError::Local {
        purpose: purpose.to_owned(),
        reason: error.to_string(),
    }
}

/// A port that nobody listens at.
pub(super) fn free_port(host: &str) -> Result<u16, ProvisionError> {
    let listener =
        TcpListener::bind((host, 0)).map_err(|error| fault(&format!("listen at {host}"), error))?;
    let address = listener
        .local_addr()
        .map_err(|error| fault("find a free port", error))?;
    Ok(address.port())
}

/// The command that becomes a worker.
pub(super) fn command(program: &Path, folder: &Folder) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = command.arg("-c").arg(SCRIPT).arg(folder.pid_file());
    script.arg(program).arg("serve");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null());
    command
}

/// Takes a lock that whoever only looks at it may hold for a moment.
fn hold(lock: &File) -> Result<(), ProvisionError> {
    for _ in 0..LOOKS {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(super::LOOK),
            Err(TryLockError::Error(error)) => {
                return Err(fault("lock the worker's folder", error));
            }
        }
    }
    Err(fault("start a worker", "another one was started meanwhile"))
}

/// Starts a worker. It inherits the lock, and so holds it exactly as long as it lives.
pub(super) fn start(
    mut command: Command,
    folder: &Folder,
    worker: &Worker,
    secrets: &Secrets,
) -> Result<(), ProvisionError> {
    let lock = folder.lock_file()?;
    hold(&lock)?;
    let log = folder.log_file()?;
    let errors = log.try_clone();
    let errors = errors.map_err(|error| fault("open the log", error))?;
    // Inherited from here on, by the worker alone: this process starts nothing else.
    let inherited = fcntl_setfd(&lock, FdFlags::empty());
    inherited.map_err(|error| fault("hand on the lock", error))?;
    match std::fs::remove_file(folder.pid_file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(fault("remove an old process id", error));
        }
        _ => {}
    }
    command.envs(&worker.environment);
    command.env("CHANDLER_HOST", &worker.host);
    command.env("CHANDLER_PORT", worker.port.to_string());
    for name in secrets.names() {
        if let Some(secret) = secrets.get(name) {
            command.env(name, secret.expose_secret());
        }
    }
    command.stdout(log).stderr(errors);
    let started = command.spawn();
    started.map_err(|error| fault("start the worker's program", error))?;
    Ok(())
}

/// The command line, as a person would type it.
pub(super) fn shown(program: &Path, worker: &Worker, port: &str) -> String {
    let quoted = |text: &str| match text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./:@,=+".contains(c))
    {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    };
    let plain = worker
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={}", quoted(value)));
    let secret = worker
        .secrets
        .iter()
        .map(|name| format!("{name}={}", crate::provision::MASK));
    let own = [
        format!("CHANDLER_HOST={}", worker.host),
        format!("CHANDLER_PORT={port}"),
    ];
    let all: Vec<String> = plain.chain(secret).chain(own).collect();
    format!(
        "{} {} serve",
        all.join(" "),
        quoted(&program.display().to_string())
    )
}

/// Sends a worker a signal. One that was just started may not have written its id yet.
pub(super) async fn signal(folder: &Folder, signal: Signal) -> Result<(), ProvisionError> {
    let end = tokio::time::Instant::now() + ID_COMES;
    loop {
        let text = std::fs::read_to_string(folder.pid_file()).unwrap_or_default();
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| text.ends_with('\n')) {
            return match kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(fault("send a signal to the worker", error)),
            };
        }
        if tokio::time::Instant::now() >= end {
            return Err(fault("find the worker's process", "it never wrote its id"));
        }
        tokio::time::sleep(super::LOOK).await;
    }
}
