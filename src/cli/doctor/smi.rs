//! What NVIDIA's own tools say of the cards: nvidia-smi, which the container runtime brings along, and the driver's file in
//! /proc. Asked in every build, so that a CPU build on a machine with a GPU is noticed.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A driver that hangs must not hang us.
const PATIENCE: Duration = Duration::from_secs(8);
const QUERY: &str =
    "--query-gpu=name,memory.total,memory.free,driver_version,compute_cap,mig.mode.current";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cards {
    /// One for each GPU.
    pub cards: Vec<Card>,
    /// The version of the kernel's driver.
    pub driver: Option<String>,
    /// The newest CUDA that the driver serves.
    pub cuda: Option<String>,
    /// Why nvidia-smi, which is there, said nothing of use.
    pub failure: Option<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Bytes in all.
    pub memory_bytes: Option<u64>,
    /// Bytes that nobody uses.
    pub free_bytes: Option<u64>,
    /// `9.0`.
    pub compute_capability: Option<String>,
    /// Whether it is cut into instances.
    pub mig: bool,
}

/// Asks.
pub fn ask() -> Cards {
    let mut found = Cards {
        driver: std::fs::read_to_string("/proc/driver/nvidia/version")
            .ok()
            .and_then(|text| kernel_driver(&text)),
        ..Cards::default()
    };
    match run(&[QUERY, "--format=csv,noheader,nounits"]) {
        None => {}
        Some(Ok(text)) => {
            let rows: Vec<_> = text.lines().filter_map(row).collect();
            found.driver = rows
                .first()
                .map(|(_, driver)| driver.clone())
                .or(found.driver);
            found.cards = rows.into_iter().map(|(card, _)| card).collect();
            found.cuda = run(&[])
                .and_then(Result::ok)
                .and_then(|text| cuda_version(&text));
        }
        Some(Err(reason)) => found.failure = Some(reason),
    }
    found
}

/// nvidia-smi's output; `None` when there is no such program.
fn run(arguments: &[&str]) -> Option<Result<String, String>> {
    let mut child = Command::new("nvidia-smi")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                // It may be stuck in the driver, where it cannot be ended; then nobody waits for it.
                let _ = child.kill();
                return Some(Err(format!(
                    "nvidia-smi did not answer within {PATIENCE:?}"
                )));
            }
            Err(error) => return Some(Err(error.to_string())),
        }
    };
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take()
        && let Err(error) = out.read_to_string(&mut text)
    {
        return Some(Err(error.to_string()));
    }
    let said = text.lines().find(|line| !line.trim().is_empty());
    Some(match status.success() {
        true => Ok(text),
        // Its failures are told on standard output.
        false => Err(said.map_or_else(|| format!("nvidia-smi ended with {status}"), str::to_owned)),
    })
}

/// A row of the query: the card, and the driver's version.
fn row(line: &str) -> Option<(Card, String)> {
    let mut fields = line.split(", ").map(str::trim);
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let mut bytes = || fields.next()?.parse::<u64>().ok().map(|mib| mib << 20);
    let (memory_bytes, free_bytes) = (bytes(), bytes());
    let driver = fields.next()?.to_owned();
    let capability = fields.next().filter(|text| text.parse::<f32>().is_ok());
    let card = Card {
        name,
        memory_bytes,
        free_bytes,
        compute_capability: capability.map(str::to_owned),
        mig: fields.next() == Some("Enabled"),
    };
    Some((card, driver))
}

/// The version in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu …`.
fn kernel_driver(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM"))?;
    let version =
        |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    line.split_whitespace().find(version).map(str::to_owned)
}

/// The version in the frame that nvidia-smi draws: `CUDA Version: 12.2`, or `CUDA UMD Version: 13.0`.
fn cuda_version(text: &str) -> Option<String> {
    let (_, rest) = text
        .split_once("CUDA Version:")
        .or_else(|| text.split_once("CUDA UMD Version:"))?;
    rest.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read_as_the_query_prints_them() {
        let (card, driver) = row("NVIDIA H200, 143771, 143155, 580.95.05, 9.0, Disabled").unwrap();
        assert_eq!(
            (card.name.as_str(), driver.as_str()),
            ("NVIDIA H200", "580.95.05")
        );
        assert_eq!(
            (card.memory_bytes, card.free_bytes),
            (Some(143_771 << 20), Some(143_155 << 20))
        );
        assert_eq!(
            (card.compute_capability.as_deref(), card.mig),
            (Some("9.0"), false)
        );
        let (card, _) = row("NVIDIA A100, [N/A], [N/A], 535.1, [N/A], Enabled").unwrap();
        assert_eq!(
            (card.memory_bytes, card.compute_capability, card.mig),
            (None, None, true)
        );
        assert_eq!(row("No devices were found"), None);
    }

    #[test]
    fn versions_are_found_in_the_drivers_own_words() {
        let text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version: 12.2.0\n";
        assert_eq!(kernel_driver(text).as_deref(), Some("535.129.03"));
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n";
        assert_eq!(kernel_driver(open).as_deref(), Some("580.95.05"));
        let frame =
            "| NVIDIA-SMI 535.129.03   Driver Version: 535.129.03   CUDA Version: 12.2     |";
        assert_eq!(cuda_version(frame).as_deref(), Some("12.2"));
        assert_eq!(
            cuda_version("CUDA UMD Version: 13.0 |").as_deref(),
            Some("13.0")
        );
    }
}
