//! The double itself: two listeners on a thread of their own, so that tests with and without an async runtime can have it,
//! and what a test does with it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::faults::{Fault, Faults, Kind, Rates};
use crate::links::{LinkRules, Links};
use crate::record::{Seen, Side};
use crate::repo::Repo;
use crate::server;

/// A user and the token that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The token.
    pub token: String,
}

impl User {
    /// A user and the token that proves it.
    pub fn new(name: &str, token: &str) -> Self {
        Self {
            name: name.to_owned(),
            token: token.to_owned(),
        }
    }
}

/// What may differ between two doubles.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who has a token.
    pub users: Vec<User>,
    /// Entries of a tree that are sent at once.
    pub page_size: usize,
    /// Seed of faults and signatures.
    pub seed: u64,
    /// The hub's port; 0 chooses a free one.
    pub hub_port: u16,
    /// The CDN's port; 0 chooses a free one.
    pub cdn_port: u16,
    /// Threads that serve.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: vec![User::new("alice", "hf_alice"), User::new("bob", "hf_bob")],
            page_size: 1000,
            seed: 1,
            hub_port: 0,
            cdn_port: 0,
            threads: 2,
        }
    }
}

pub struct State {
    pub options: Options,
    pub hub_url: String,
    pub cdn_url: String,
    repos: Mutex<HashMap<String, Repo>>,
    links: Mutex<Links>,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
    page_size: AtomicUsize,
    /// Bytes a second of one answer from the CDN; 0 for as fast as it goes.
    throttle: AtomicU64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub fn repos(&self) -> MutexGuard<'_, HashMap<String, Repo>> {
        lock(&self.repos)
    }
    pub fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }
    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }
    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.seen)
    }
    pub fn page_size(&self) -> usize {
        self.page_size.load(Ordering::Relaxed)
    }
    pub fn throttle(&self) -> u64 {
        self.throttle.load(Ordering::Relaxed)
    }
    pub fn set_throttle(&self, bytes_per_second: u64) {
        self.throttle.store(bytes_per_second, Ordering::Relaxed);
    }
    pub fn put(&self, repo: Repo) {
        let repo = repo.whole();
        self.repos().insert(repo.id.clone(), repo);
    }
}

/// A hub and its CDN; both end when it is dropped.
pub struct Double {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    /// Starts both on loopback.
    ///
    /// # Errors
    /// Where a port cannot be had.
    pub fn start(options: Options) -> io::Result<Self> {
        let bind = |port| {
            let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            io::Result::Ok((listener, port))
        };
        let (hub, hub_port) = bind(options.hub_port)?;
        let (cdn, cdn_port) = bind(options.cdn_port)?;
        let state = Arc::new(State {
            hub_url: format!("http://127.0.0.1:{hub_port}"),
            cdn_url: format!("http://localhost:{cdn_port}"),
            repos: Mutex::default(),
            links: Mutex::new(Links::new(options.seed)),
            faults: Mutex::new(Faults::new(options.seed)),
            seen: Mutex::default(),
            page_size: AtomicUsize::new(options.page_size),
            throttle: AtomicU64::new(0),
            options,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(state.options.threads.max(1))
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("hub-double".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = server::serve(hub, Side::Hub, Arc::clone(&served)) => {}
                        () = server::serve(cdn, Side::Cdn, served) => {}
                        _ = stopped => {}
                    }
                });
                runtime.shutdown_background();
            })?;
        Ok(Self {
            state,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The hub's address, for `HF_ENDPOINT`: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.state.hub_url
    }

    /// The CDN's address: `http://localhost:PORT`.
    pub fn cdn_url(&self) -> &str {
        &self.state.cdn_url
    }

    /// Adds a repository, or puts it in the place of the one by that name. Without a commit it gets one on `main`.
    pub fn put(&self, repo: Repo) {
        self.state.put(repo);
    }

    /// Takes a repository away.
    pub fn remove(&self, id: &str) {
        self.state.repos().remove(id);
    }

    /// The id of a commit by a name of it.
    pub fn commit(&self, id: &str, revision: &str) -> Option<String> {
        let repos = self.state.repos();
        repos.get(id)?.find(revision).map(str::to_owned)
    }

    /// What goes wrong with the next requests of a kind, one each.
    pub fn script(&self, kind: Kind, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults().script(kind, "", faults);
    }

    /// The same, of those requests only whose path contains a text (on the CDN: the file's SHA-256).
    pub fn script_for(&self, kind: Kind, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults().script(kind, path, faults);
    }

    /// What goes wrong by chance from now on.
    pub fn rates(&self, rates: Rates) {
        self.state.faults().set(rates);
    }

    /// No more faults, scripted or by chance.
    pub fn heal(&self) {
        self.state.faults().forget();
    }

    /// How often each fault happened.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.state.faults().injected.clone()
    }

    /// How long links are good that are issued from now on.
    pub fn link_rules(&self, rules: LinkRules) {
        self.state.links().rules = rules;
    }

    /// Every link that was issued so far is good no more.
    pub fn expire_links(&self) {
        self.state.links().expire();
    }

    /// Bytes a second of one answer from the CDN; 0 for as fast as it goes.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.state.set_throttle(bytes_per_second);
    }

    /// Entries of a tree that are sent at once.
    pub fn page_size(&self, entries: usize) {
        self.state.page_size.store(entries, Ordering::Relaxed);
    }

    /// Every request so far, in the order of their coming.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen().clone()
    }

    /// Every request to one of the two hosts.
    pub fn seen_by(&self, side: Side) -> Vec<Seen> {
        let seen = self.state.seen();
        seen.iter()
            .filter(|seen| seen.side == side)
            .cloned()
            .collect()
    }

    /// Bytes of bodies that the CDN has handed to its connections.
    pub fn cdn_bytes(&self) -> u64 {
        self.seen_by(Side::Cdn).iter().map(Seen::sent).sum()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state.seen().clear();
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been printed
        }
    }
}
