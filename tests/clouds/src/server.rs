//! Connections: reads a request, lets the fault that is due happen, and hands it to the double. Plain hyper and no router,
//! because a connection must be cut without an answer. It runs on a thread of its own, so that a test may block.

use std::fmt;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request as HttpRequest, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;

use crate::{Fault, Reply, Request, When};

const BODY_LIMIT: usize = 32 << 20;

/// A platform.
pub trait Cloud: Send + Sync + 'static {
    /// Carries out a request.
    fn answer(&self, request: &Request) -> Reply;
}

/// A double that listens.
pub struct Server {
    /// `http://127.0.0.1:PORT`, or `unix://PATH`.
    pub url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    cloud: Arc<dyn Cloud>,
    faults: Mutex<Vec<(When, Fault)>>,
    seen: Mutex<Vec<Request>>,
    held: Mutex<usize>,
    changed: Condvar,
}

enum Listener {
    Tcp(StdListener),
    Unix(PathBuf),
}

impl Server {
    /// Listens on a free port of loopback.
    pub fn start(cloud: Arc<dyn Cloud>) -> Self {
        Self::listen(cloud, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Listens on an address.
    pub fn listen(cloud: Arc<dyn Cloud>, address: SocketAddr) -> Self {
        let listener = StdListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::run(cloud, url, Listener::Tcp(listener))
    }

    /// Listens on a Unix socket.
    pub fn start_unix(cloud: Arc<dyn Cloud>, path: &Path) -> Self {
        let url = format!("unix://{}", path.display());
        Self::run(cloud, url, Listener::Unix(path.to_owned()))
    }

    fn run(cloud: Arc<dyn Cloud>, url: String, listener: Listener) -> Self {
        let shared = Arc::new(Shared {
            cloud,
            faults: Mutex::default(),
            seen: Mutex::default(),
            held: Mutex::new(0),
            changed: Condvar::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let accepting = accept(listener, of_thread, ready);
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            url,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Lets something go wrong.
    pub fn fault(&self, when: When, fault: Fault) {
        self.shared.faults.lock().unwrap().push((when, fault));
    }

    /// All requests so far, those that faults swallowed among them.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until a request is held for ever; `false` when none was within this time.
    pub fn wait_held(&self, time: Duration) -> bool {
        let held = self.shared.held.lock().unwrap();
        let (held, _) = self
            .shared
            .changed
            .wait_timeout_while(held, time, |held| *held == 0)
            .unwrap();
        *held > 0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, ready: std::sync::mpsc::Sender<()>) {
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener).unwrap();
            ready.send(()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        }
        Listener::Unix(path) => {
            let listener = UnixListener::bind(path).unwrap();
            ready.send(()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        }
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { respond(&shared, request).await }
    });
    // The error is the peer's going away, or a cut of our own.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The connection ends here.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

async fn respond(shared: &Shared, request: HttpRequest<Incoming>) -> Result<Response<Body>, Cut> {
    let request = read(request).await?;
    let number = {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    match shared.due(number, &request) {
        None => Ok(written(shared.cloud.answer(&request))),
        Some(Fault::Status(status, after)) => {
            let body = serde_json::json!({"error": {"code": status, "message": "on purpose", "status": "UNAVAILABLE"}});
            let reply = Reply::json(status, &body);
            Ok(written(match after {
                Some(seconds) => reply.with("retry-after", seconds.to_string()),
                None => reply,
            }))
        }
        Some(Fault::CutBefore) => Err(Cut),
        Some(Fault::CutAfter) => {
            shared.cloud.answer(&request);
            Err(Cut)
        }
        Some(held @ (Fault::HoldBefore | Fault::HoldAfter)) => {
            if held == Fault::HoldAfter {
                shared.cloud.answer(&request);
            }
            *shared.held.lock().unwrap() += 1;
            shared.changed.notify_all();
            std::future::pending().await
        }
    }
}

impl Shared {
    fn due(&self, number: usize, request: &Request) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let due = |(when, fault): &mut (When, Fault)| {
            let now = when.is_now(number, &request.method, &request.path);
            now.then(|| fault.clone())
        };
        faults.iter_mut().find_map(due)
    }
}

async fn read(request: HttpRequest<Incoming>) -> Result<Request, Cut> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(Body::new(body), BODY_LIMIT)
        .await
        .map_err(|_| Cut)?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (
            decode(&key.replace('+', " ")),
            decode(&value.replace('+', " ")),
        )
    };
    let query = parts.uri.query().unwrap_or_default();
    Ok(Request {
        method: parts.method.to_string(),
        path: decode(parts.uri.path()),
        query: query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(pair)
            .collect(),
        headers: parts.headers,
        bytes,
    })
}

fn written(reply: Reply) -> Response<Body> {
    let mut response = Response::builder().status(reply.status);
    if !reply.pieces.is_empty() {
        response = response.header("content-type", reply.content_type);
    }
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let body = match <[(Duration, Bytes); 1]>::try_from(reply.pieces) {
        Ok([(Duration::ZERO, bytes)]) => Body::from(bytes),
        Ok(one) => Body::from_stream(paced(one.into())),
        Err(pieces) => Body::from_stream(paced(pieces)),
    };
    response.body(body).unwrap()
}

fn paced(pieces: Vec<(Duration, Bytes)>) -> impl futures_util::Stream<Item = Result<Bytes, Cut>> {
    unfold(pieces.into_iter(), |mut pieces| async {
        let (pause, bytes) = pieces.next()?;
        tokio::time::sleep(pause).await;
        Some((Ok(bytes), pieces))
    })
}
