//! A server of files and ranges that misbehaves on command and writes down what it was asked for; and the source that leads to
//! it. Raw sockets, since no HTTP library would send what is to be tried out here.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chandler::weights::WeightsError;
use chandler::weights::remote::{BoxFuture, Digest, Link, Listing, RemoteFile, Source};
use chandler::weights::transfer::client_builder;
use sha2::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does wrong with one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Answers with a status, and headers.
    Status(u16, &'static str),
    /// Closes the connection without an answer.
    Hangup,
    /// Closes it after so many bytes of the body.
    Cut(u64),
    /// Falls silent after so many bytes of the body.
    Silence(u64),
    /// Gives so many bytes less than asked for, and says so.
    Short(u64),
    /// Gives further bytes, in a chunked body.
    Long,
    /// Says another range in `Content-Range`.
    OtherRange,
    /// Says none.
    NoContentRange,
    /// Says that the file has another size.
    OtherSize,
    /// Gives the whole file with 200.
    Whole,
    /// Says that the body is compressed.
    Gzip,
    /// Gives a wrong byte.
    WrongByte,
    /// Gives another ETag.
    OtherEtag,
}

/// A request for bytes.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub range: Range<u64>,
    /// How many requests for this path came before.
    pub number: usize,
    pub link: u64,
    pub if_match: Option<String>,
}

type Faults = Box<dyn Fn(&Asked) -> Option<Fault> + Send>;

pub struct State {
    files: Mutex<HashMap<String, Arc<Vec<u8>>>>,
    etags: Mutex<HashMap<String, String>>,
    faults: Mutex<Faults>,
    asked: Mutex<Vec<Asked>>,
    /// Bytes of bodies that were sent.
    pub served: AtomicU64,
    /// Links that were given out: the number of the last.
    pub links: AtomicU64,
    /// The first link that still holds.
    pub valid: AtomicU64,
    /// Bytes per second and connection; 0 for as fast as it goes.
    pub rate: AtomicU64,
    /// Requests at once, now and at most.
    pub now: AtomicU64,
    pub peak: AtomicU64,
    /// Connections that were accepted.
    pub connections: AtomicU64,
}

/// Runs until it is dropped, on threads of its own: no blocked test holds it up.
pub struct Server {
    pub address: SocketAddr,
    pub state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Bytes that differ from place to place, and are the same each time.
pub fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// How a file of these bytes is listed.
pub fn listed(path: &str, bytes: &[u8]) -> RemoteFile {
    let digest = Digest::Sha256(sha2::Sha256::digest(bytes).into());
    RemoteFile {
        path: path.to_owned(),
        size: bytes.len() as u64,
        digest: Some(digest),
        blob: digest.to_string(),
        etag: None,
    }
}

impl Server {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            files: Mutex::default(),
            etags: Mutex::default(),
            faults: Mutex::new(Box::new(|_| None)),
            asked: Mutex::default(),
            served: AtomicU64::new(0),
            links: AtomicU64::new(0),
            valid: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            now: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = state.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                state.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move { while_open(stream, &state).await });
            }
        });
        Self {
            address,
            state,
            runtime: Some(runtime),
        }
    }

    /// Serves a file; says how it is listed.
    pub fn add(&self, path: &str, bytes: Vec<u8>) -> RemoteFile {
        let file = listed(path, &bytes);
        let mut files = self.state.files.lock().unwrap();
        files.insert(path.to_owned(), Arc::new(bytes));
        file
    }

    /// Gives a file an ETag.
    pub fn mark(&self, path: &str, etag: &str) {
        let mut etags = self.state.etags.lock().unwrap();
        etags.insert(path.to_owned(), etag.to_owned());
    }

    /// What goes wrong from now on.
    pub fn faults(&self, faults: impl Fn(&Asked) -> Option<Fault> + Send + 'static) {
        *self.state.faults.lock().unwrap() = Box::new(faults);
    }

    /// What was asked for since the last look.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    /// Bytes that were asked for since the last look. What was served is more than was taken where an answer was given up:
    /// the server may still be at it.
    pub fn wanted(&self) -> u64 {
        let asked = self.asked();
        asked.iter().map(|a| a.range.end - a.range.start).sum()
    }

    /// Bytes that were sent since the last look.
    pub fn served(&self) -> u64 {
        self.state.served.swap(0, Ordering::Relaxed)
    }

    pub fn source(&self) -> Arc<dyn Source> {
        source(self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropped by itself it would wait, which an asynchronous test may not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn while_open(mut stream: TcpStream, state: &State) {
    let _ = stream.set_nodelay(true);
    while let Some(head) = head(&mut stream).await {
        let now = state.now.fetch_add(1, Ordering::Relaxed) + 1;
        state.peak.fetch_max(now, Ordering::Relaxed);
        let open = answer(&mut stream, &head, state).await;
        state.now.fetch_sub(1, Ordering::Relaxed);
        if open.is_none() {
            return;
        }
    }
}

/// The request's line and headers, these in lower case.
async fn head(stream: &mut TcpStream) -> Option<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(bytes).unwrap();
    let (line, headers) = text.split_once("\r\n").unwrap();
    let pairs = headers.lines().filter_map(|line| line.split_once(": "));
    let mut head: BTreeMap<String, String> = pairs
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let target = line.split(' ').nth(1).unwrap();
    head.insert("target".to_owned(), target.to_owned());
    Some(head)
}

async fn answer(
    stream: &mut TcpStream,
    head: &BTreeMap<String, String>,
    state: &State,
) -> Option<()> {
    let target = head["target"].as_str();
    if target == "/link" {
        let link = (state.links.fetch_add(1, Ordering::Relaxed) + 1).to_string();
        let text = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{link}",
            link.len()
        );
        return stream.write_all(text.as_bytes()).await.ok();
    }
    let (path, link) = target[1..].split_once("?link=").unwrap();
    let link = link.parse().unwrap();
    let Some(file) = state.files.lock().unwrap().get(path).cloned() else {
        return status(stream, 404, "").await;
    };
    let (first, last) = head["range"]["bytes=".len()..].split_once('-').unwrap();
    let end = (last.parse::<u64>().unwrap() + 1).min(file.len() as u64);
    let asked = Asked {
        path: path.to_owned(),
        range: first.parse().unwrap()..end,
        number: {
            let all = state.asked.lock().unwrap();
            all.iter().filter(|asked| asked.path == path).count()
        },
        link,
        if_match: head.get("if-match").cloned(),
    };
    state.asked.lock().unwrap().push(asked.clone());
    if link < state.valid.load(Ordering::Relaxed) {
        return status(stream, 403, "").await;
    }
    let etag = state.etags.lock().unwrap().get(path).cloned();
    if asked.if_match.is_some() && asked.if_match != etag {
        return status(stream, 412, "").await;
    }
    let fault = (state.faults.lock().unwrap())(&asked);
    give(stream, &file, (asked.range, etag, fault), state).await
}

async fn status(stream: &mut TcpStream, status: u16, headers: &str) -> Option<()> {
    let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n{headers}\r\nno");
    stream.write_all(text.as_bytes()).await.ok()
}

async fn give(
    stream: &mut TcpStream,
    file: &[u8],
    (range, etag, fault): (Range<u64>, Option<String>, Option<Fault>),
    state: &State,
) -> Option<()> {
    let (mut range, mut size) = (range, file.len() as u64);
    let mut headers = etag.map_or_else(String::new, |etag| format!("etag: {etag}\r\n"));
    let mut code = 206;
    let mut sent = u64::MAX;
    match fault {
        Some(Fault::Status(status_code, headers)) => {
            return status(stream, status_code, headers).await;
        }
        Some(Fault::Hangup) => return None,
        Some(Fault::Cut(bytes) | Fault::Silence(bytes)) => sent = bytes,
        Some(Fault::Short(bytes)) => {
            range.end = range.end.saturating_sub(bytes).max(range.start + 1)
        }
        Some(Fault::OtherSize) => size += 1,
        Some(Fault::Gzip) => headers += "content-encoding: gzip\r\n",
        Some(Fault::OtherEtag) => headers = "etag: \"other\"\r\n".to_owned(),
        Some(Fault::Whole) => (code, range) = (200, 0..size),
        _ => {}
    }
    let mut body = file[range.start as usize..range.end as usize].to_vec();
    if fault == Some(Fault::WrongByte) {
        let middle = body.len() / 2;
        body[middle] ^= 1;
    }
    match fault {
        Some(Fault::Whole | Fault::NoContentRange) => {}
        Some(Fault::OtherRange) => {
            headers += &format!(
                "content-range: bytes {}-{}/{size}\r\n",
                range.start + 1,
                range.end
            );
        }
        _ => {
            headers += &format!(
                "content-range: bytes {}-{}/{size}\r\n",
                range.start,
                range.end - 1
            )
        }
    }
    if fault == Some(Fault::Long) {
        body.extend_from_slice(&[7; 1000]);
        headers += "transfer-encoding: chunked\r\n";
    } else {
        headers += &format!("content-length: {}\r\n", body.len());
    }
    let text = format!("HTTP/1.1 {code} X\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.ok()?;
    if fault == Some(Fault::Long) {
        let size = format!("{:x}\r\n", body.len());
        stream.write_all(size.as_bytes()).await.ok()?;
        body.extend_from_slice(b"\r\n0\r\n\r\n");
    }
    body.truncate(sent.min(body.len() as u64) as usize);
    send(stream, &body, state).await?;
    match fault {
        Some(Fault::Cut(_)) => None,
        Some(Fault::Silence(_)) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            None
        }
        _ => Some(()),
    }
}

async fn send(stream: &mut TcpStream, body: &[u8], state: &State) -> Option<()> {
    for part in body.chunks(64 << 10) {
        let rate = state.rate.load(Ordering::Relaxed);
        if rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(part.len() as f64 / rate as f64)).await;
        }
        stream.write_all(part).await.ok()?;
        state.served.fetch_add(part.len() as u64, Ordering::Relaxed);
    }
    Some(())
}

struct Linked {
    address: SocketAddr,
    client: reqwest::Client,
}

/// A source that asks the server for a link first.
pub fn source(address: SocketAddr) -> Arc<dyn Source> {
    let client = client_builder(Duration::from_secs(2)).no_proxy();
    Arc::new(Linked {
        address,
        client: client.build().unwrap(),
    })
}

impl Source for Linked {
    fn name(&self) -> String {
        "test://server".to_owned()
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>> {
        Box::pin(async { Err(WeightsError::NotHere("a listing".to_owned())) })
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>> {
        Box::pin(async move {
            let unreachable = |error: reqwest::Error| WeightsError::Unreachable {
                place: self.name(),
                reason: error.to_string(),
            };
            let asked = self
                .client
                .get(format!("http://{}/link", self.address))
                .send();
            let link = asked.await.map_err(unreachable)?;
            let link = link.text().await.map_err(unreachable)?;
            let url = format!("http://{}/{}?link={link}", self.address, file.path);
            Ok(Link {
                url: url.parse().unwrap(),
                headers: reqwest::header::HeaderMap::new(),
            })
        })
    }

    fn client(&self) -> &reqwest::Client {
        &self.client
    }
}
