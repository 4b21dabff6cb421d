//! A worker's folder: what it was started with, its process id, its log, and the lock that it holds while it lives.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::provision::{Name, Piece, ProvisionError};

/// The end of a log that is read to see why a worker ended.
const END: u64 = 16 << 10;

/// What a worker was started with; no secret, only the names of those it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub name: Name,
    pub owner: String,
    pub host: String,
    pub port: u16,
    pub environment: BTreeMap<String, String>,
    pub secrets: Vec<String>,
}

impl Worker {
    /// Where it is asked, from this machine.
    pub fn address(&self) -> String {
        let host = match self.host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "::" => "[::1]",
            host => host,
        };
        format!("http://{host}:{}", self.port)
    }
}

/// A worker's folder.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn of(all: &Path, name: &Name) -> Self {
        Self {
            path: all.join(name.as_str()),
        }
    }

    pub fn pid_file(&self) -> PathBuf {
        self.path.join("pid")
    }

    fn worker_file(&self) -> PathBuf {
        self.path.join("worker.json")
    }

    fn fault(&self, purpose: &str, error: &dyn std::fmt::Display) -> ProvisionError {
        ProvisionError::Local {
            purpose: format!("{purpose} in {}", self.path.display()),
            reason: error.to_string(),
        }
    }

    /// What was started, or was going to be.
    pub fn worker(&self) -> Result<Option<Worker>, ProvisionError> {
        let text = match std::fs::read_to_string(self.worker_file()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault("read what was started", &error)),
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| self.fault("read what was started", &error))
    }

    /// Writes what will be started, whole or not at all.
    pub fn write(&self, worker: &Worker) -> Result<(), ProvisionError> {
        let work = || {
            std::fs::create_dir_all(&self.path)?;
            let part = self.path.join("worker.json.part");
            std::fs::write(&part, serde_json::to_vec_pretty(worker)?)?;
            std::fs::rename(part, self.worker_file())
        };
        work().map_err(|error: std::io::Error| self.fault("write what will be started", &error))
    }

    /// The lock that a worker holds.
    pub fn lock_file(&self) -> Result<File, ProvisionError> {
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.join("lock"));
        opened.map_err(|error| self.fault("open the lock", &error))
    }

    /// The log, to write behind its end.
    pub fn log_file(&self) -> Result<File, ProvisionError> {
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path.join("log"));
        opened.map_err(|error| self.fault("open the log", &error))
    }

    /// Whether a worker lives.
    pub fn runs(&self) -> Result<bool, ProvisionError> {
        if !self.path.is_dir() {
            return Ok(false);
        }
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(error)) => Err(self.fault("look at the lock", &error)),
        }
    }

    /// The log, to be read.
    pub fn log(&self) -> Result<Log, ProvisionError> {
        match File::open(self.path.join("log")) {
            Ok(file) => Ok(Log {
                file: BufReader::new(file),
                part: String::new(),
            }),
            Err(error) => Err(self.fault("read the log", &error)),
        }
    }

    /// The log's last lines.
    pub fn last_lines(&self, count: usize) -> Result<Vec<String>, ProvisionError> {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.path.join("log"))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = match read() {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fault("read the log", &error)),
        };
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = lines.iter().skip(lines.len().saturating_sub(count));
        Ok(last.map(|line| (*line).to_owned()).collect())
    }

    /// Removes it; `false` when there was none.
    pub fn remove(&self) -> Result<bool, ProvisionError> {
        match std::fs::remove_dir_all(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.fault("remove what is left", &error)),
        }
    }
}

/// A log that grows.
pub(super) struct Log {
    file: BufReader<File>,
    part: String,
}

impl Log {
    /// The whole lines that have come since.
    pub fn lines(&mut self) -> Result<Vec<String>, ProvisionError> {
        let mut lines = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let read = self.file.read_until(b'\n', &mut bytes);
            read.map_err(|error| ProvisionError::Local {
                purpose: "read the log".to_owned(),
                reason: error.to_string(),
            })?;
            if bytes.is_empty() {
                return Ok(lines);
            }
            self.part.push_str(&String::from_utf8_lossy(&bytes));
            if self.part.ends_with('\n') {
                lines.push(std::mem::take(&mut self.part).trim_end().to_owned());
            }
        }
    }
}

/// Every worker of this machine.
pub(super) fn all(folder: &Path) -> Result<Vec<Piece>, ProvisionError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(ProvisionError::Local {
                purpose: format!("list the workers in {}", folder.display()),
                reason: error.to_string(),
            });
        }
    };
    let names = entries
        .flatten()
        .filter_map(|entry| Name::parse(entry.file_name().to_str()?).ok());
    names
        .map(|name| {
            let own = Folder::of(folder, &name);
            let worker = own.worker()?;
            Ok(Piece {
                kind: "process",
                id: name.to_string(),
                owner: worker.as_ref().map(|worker| worker.owner.clone()),
                orphan: worker.is_none() || !own.runs()?,
                deployment: Some(name),
            })
        })
        .collect()
}
