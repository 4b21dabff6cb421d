//! Every wire message, in memory or in a file, for comparing two workers. Off unless asked for: it costs more than the rest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::http::request::Parts;
use bytes::Bytes;
use serde::Serialize;

use crate::options::Options;

/// One request, and how it was answered.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Milliseconds since the platform's start.
    pub at_ms: f64,
    /// GET or POST.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// As it stood on the wire.
    pub query: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The request's body.
    pub body: String,
    /// The answer's status; 0 when the connection was cut.
    pub status: u16,
    /// What was answered, unless it was streamed.
    pub answer: String,
    /// The fault that was injected.
    pub fault: Option<&'static str>,
}

pub struct WireLog {
    started: Instant,
    sink: Mutex<Sink>,
}

struct Sink {
    kept: Option<Vec<Entry>>,
    file: Option<BufWriter<File>>,
}

impl WireLog {
    /// `None` when nothing is to be logged.
    pub fn new(options: &Options) -> io::Result<Option<Self>> {
        if !options.keep_wire && options.log_file.is_none() {
            return Ok(None);
        }
        let file = options.log_file.as_ref().map(File::create).transpose()?;
        Ok(Some(Self {
            started: Instant::now(),
            sink: Mutex::new(Sink {
                kept: options.keep_wire.then(Vec::new),
                file: file.map(BufWriter::new),
            }),
        }))
    }

    /// A request that has come, not answered yet.
    pub fn entry(&self, parts: &Parts, body: &Bytes) -> Entry {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = parts.headers.iter();
        Entry {
            at_ms: self.started.elapsed().as_secs_f64() * 1000.0,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body: text(body),
            status: 0,
            answer: String::new(),
            fault: None,
        }
    }

    pub fn write(&self, entry: Entry) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut sink.file {
            // A line is written whole and at once: whoever reads the file while the platform runs sees whole lines.
            let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
            let written = file.write_all(line.as_bytes()).and_then(|()| file.flush());
            if let Err(error) = written {
                eprintln!("the wire log cannot be written, and ends here: {error}");
                sink.file = None;
            }
        }
        if let Some(kept) = &mut sink.kept {
            kept.push(entry);
        }
    }

    pub fn kept(&self) -> Vec<Entry> {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.kept.clone().unwrap_or_default()
    }

    pub fn forget(&self) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = &mut sink.kept {
            kept.clear();
        }
    }
}
