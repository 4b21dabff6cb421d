//! A real S3 server (s3s-fs) in this process on loopback, which verifies signatures, and what goes wrong between it and its
//! clients: cuts, slowness, refusals, wrong lengths and wrong bytes, by script or by a seeded rate, with a record of all
//! requests. Data lies in a temporary directory and goes with the server.
//!
//! What s3s-fs does not do is done in front of it: `If-Match` and `If-None-Match`, anonymous reads, regions.

// Why: what goes wrong while a test's server is set up should end the test there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod front;
mod record;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub use faults::{Fault, Faults, Match, Rule};
pub use record::Record;

/// What a server is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// 0 chooses a free one.
    pub port: u16,
    /// The id of the only key.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// The region that signatures must be for; `None` takes any.
    pub region: Option<String>,
    /// Whether objects may be read without a signature.
    pub public: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            access_key: "AKIADOUBLE".to_owned(),
            secret_key: "double/secret+key".to_owned(),
            region: None,
            public: false,
        }
    }
}

/// A server that runs until it is dropped.
pub struct S3Double {
    options: Options,
    address: SocketAddr,
    front: Arc<front::Front>,
    directory: TempDir,
    accepting: JoinHandle<()>,
}

impl Drop for S3Double {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl S3Double {
    /// Starts a server without buckets.
    pub async fn start(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let build = |auth: Option<SimpleAuth>| -> S3Service {
            let files = FileSystem::new(directory.path()).unwrap();
            let mut builder = S3ServiceBuilder::new(files);
            if let Some(auth) = auth {
                builder.set_auth(auth);
            }
            builder.build()
        };
        let auth = SimpleAuth::from_single(&options.access_key, options.secret_key.as_str());
        let front = front::Front {
            signed: build(Some(auth)),
            open: build(None),
            public: options.public,
            region: options.region.clone(),
            faults: Faults::default(),
            records: record::Records::default(),
            writing: tokio::sync::Mutex::new(()),
        };
        let front = Arc::new(front);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", options.port));
        let listener = listener.await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, front.clone()));
        Self {
            options,
            address,
            front,
            directory,
            accepting,
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        std::fs::create_dir_all(self.directory.path().join(name)).unwrap();
    }

    /// Puts an object, whatever faults there are. By the protocol, since the server keeps more of an object than its bytes.
    pub async fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>) {
        self.front.put(bucket, key, body.into()).await;
    }

    /// Lays an object there behind the server's back: quick, and with an ETag that is computed at each request.
    pub fn lay(&self, bucket: &str, key: &str, body: &[u8]) {
        let path = self.path(bucket, key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }

    /// An object's bytes, whatever faults there are.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(bucket, key)).ok()
    }

    /// Takes an object away.
    pub fn remove(&self, bucket: &str, key: &str) {
        std::fs::remove_file(self.path(bucket, key)).unwrap();
    }

    /// The keys of a bucket, in order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let root = self.directory.path().join(bucket);
        let mut open = vec![root.clone()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    keys.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        keys.sort();
        keys
    }

    fn path(&self, bucket: &str, key: &str) -> std::path::PathBuf {
        self.directory.path().join(bucket).join(Path::new(key))
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.front.faults
    }

    /// All requests so far, and what they got.
    pub fn requests(&self) -> Vec<Record> {
        self.front.records.all()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.front.records.clear();
    }
}

async fn accept(listener: tokio::net::TcpListener, front: Arc<front::Front>) {
    // With its connections, so that a server that is dropped is gone.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let _ = socket.set_nodelay(true);
        let front = front.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let front = front.clone();
                async move { front.answer(request).await }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is none of our business.
            let _ = server.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
