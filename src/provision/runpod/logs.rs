//! The workers' logs, which RunPod streams as server-sent events that never end by themselves.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use serde::Deserialize;
use tokio::time::timeout;

use super::{ID, RunPod, calls};
use crate::provision::{Call, LogSink, Name, ProvisionError, Reply, Secrets};

/// Lines from before, the most that RunPod gives.
const LINES: u32 = 5000;
/// Without a line for so long, what there was has been told.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks for new workers.
const LOOK: Duration = Duration::from_secs(10);
/// A longer line is no line of a log.
const LONGEST: usize = 1 << 20;

#[derive(Deserialize)]
struct Event {
    line: String,
}

/// Where lines go, and whether any more are wanted.
struct Out<'a> {
    sink: LogSink<'a>,
    done: AtomicBool,
}

impl Out<'_> {
    /// Says whether more are wanted.
    fn tell(&self, worker: &str, line: &str) -> bool {
        if !self.is_done() && !(self.sink)(&format!("[{worker}] {line}")) {
            self.done.store(true, Ordering::Relaxed);
        }
        !self.is_done()
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

/// Server-sent events, as far as RunPod uses them.
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
    last_id: Option<String>,
}

impl Events {
    /// The lines that a piece of the stream completes.
    fn take(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut lines = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', &self.rest) {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if let Some(id) = line.strip_prefix("id:") {
                self.last_id = Some(id.trim().to_owned());
            } else if let Some(data) = line.strip_prefix("data:") {
                let told = serde_json::from_str(data).map(|event: Event| event.line);
                lines.push(told.unwrap_or_else(|_| data.trim().to_owned()));
            }
        }
        if self.rest.len() > LONGEST {
            self.rest.clear();
        }
        lines
    }
}

impl RunPod {
    pub(super) async fn read_logs(
        &self,
        name: &Name,
        follow: bool,
        sink: LogSink<'_>,
    ) -> Result<(), ProvisionError> {
        let endpoint = self.existing(name).await?;
        let out = Out {
            sink,
            done: AtomicBool::new(false),
        };
        let mut known = HashSet::new();
        let mut streams = FuturesUnordered::new();
        loop {
            for worker in self.workers(&endpoint.id).await?.workers {
                if known.insert(worker.id.clone()) {
                    streams.push(self.read_worker(&endpoint.id, worker.id, follow, &out));
                }
            }
            if !follow {
                while let Some(end) = streams.next().await {
                    end?;
                }
                return Ok(());
            }
            let pause = tokio::time::sleep(LOOK.mul_f64(self.api.patience().pace));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    Some(end) = streams.next() => end?,
                    () = &mut pause => break,
                }
                if out.is_done() {
                    return Ok(());
                }
            }
            if out.is_done() {
                return Ok(());
            }
        }
    }

    /// One worker's; goes on after a broken connection where the last line was, until the worker is gone.
    async fn read_worker(
        &self,
        endpoint: &str,
        worker: String,
        follow: bool,
        out: &Out<'_>,
    ) -> Result<(), ProvisionError> {
        let mut events = Events::default();
        loop {
            let Some(mut stream) = self.open(endpoint, &worker, &events).await? else {
                return Ok(());
            };
            loop {
                let next = stream.chunk();
                let quiet = QUIET.mul_f64(self.api.patience().pace.max(0.1));
                let piece = match follow {
                    true => next.await,
                    false => match timeout(quiet, next).await {
                        Ok(piece) => piece,
                        Err(_) => return Ok(()),
                    },
                };
                let Ok(Some(piece)) = piece else {
                    break;
                };
                for line in events.take(&piece) {
                    if !out.tell(&worker, &line) {
                        return Ok(());
                    }
                }
            }
            if !follow || out.is_done() {
                return Ok(());
            }
            tokio::time::sleep(QUIET.mul_f64(self.api.patience().pace)).await;
        }
    }

    /// The stream; none when the worker is gone.
    async fn open(
        &self,
        endpoint: &str,
        worker: &str,
        events: &Events,
    ) -> Result<Option<reqwest::Response>, ProvisionError> {
        let call: Call = calls::worker_logs(&self.options.api, endpoint, worker, LINES);
        let mut request = self
            .api
            .client()
            .get(&call.url)
            .header(ACCEPT, "text/event-stream");
        if let Some(key) = self.api.authorization().await? {
            request = request.header(AUTHORIZATION, key);
        }
        if let Some(last) = &events.last_id {
            request = request.header("last-event-id", last);
        }
        let response = request
            .send()
            .await
            .map_err(|error| ProvisionError::Unreachable {
                platform: ID,
                purpose: call.purpose.clone(),
                reason: error.without_url().to_string(),
            })?;
        match response.status().as_u16() {
            200 => Ok(Some(response)),
            404 | 410 => Ok(None),
            _ => {
                let reply = Reply {
                    status: response.status(),
                    body: response.json().await.unwrap_or_default(),
                };
                Err(self
                    .api
                    .refusal(&call, &self.hidden(&Secrets::default()), &reply))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_stream_is_cut() {
        let text = "id: 2026-06-01T12:05:04Z/42\ndata: {\"ts\":\"x\",\"source\":\"container\",\"line\":\"zwölf\"}\n\ndata: plain\n";
        for cut in 0..text.len() {
            let mut events = Events::default();
            let (first, second) = text.as_bytes().split_at(cut);
            let mut lines = events.take(first);
            lines.extend(events.take(second));
            assert_eq!(lines, ["zwölf", "plain"], "cut at {cut}");
            assert_eq!(events.last_id.as_deref(), Some("2026-06-01T12:05:04Z/42"));
        }
    }
}
