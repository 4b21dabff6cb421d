//! Carries messages to one address: in order, with patience, and off everybody's way.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::SecretString;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::notice::Notice;
use super::signature::{SIGNATURE, sign};
use crate::reach::{self, ReachError};

const EVENT_ID: &str = "x-chandler-event-id";
/// Between attempts when the worker ends.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
const ATTEMPT: &str = "x-chandler-attempt";

/// Where messages go.
#[derive(Clone)]
pub struct Target {
    /// Who is there, for the log.
    pub name: &'static str,
    /// The address.
    pub url: Url,
    /// What they are signed with.
    pub secret: Option<SecretString>,
}

// Why by hand: the address may hold a token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("host", &reach::place(&self.url))
            .finish_non_exhaustive()
    }
}

/// How often, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Attempts in all.
    pub tries: u32,
    /// Before the second attempt; doubles with each.
    pub pause: Duration,
    /// Each attempt's time.
    pub time: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_secs(1),
            time: Duration::from_secs(10),
        }
    }
}

/// One body on its way.
pub(super) struct Letter {
    pub id: String,
    pub body: Bytes,
    pub errand: Errand,
}

/// What is to be done with a letter.
pub(super) enum Errand {
    /// Posted, until it is taken.
    Post,
    /// Posted, unless a later letter waits: it tells how things are, and they have changed.
    News,
    /// Takes what has this name, below the address, away from there (`DELETE`); posted to a receiver that does not know that.
    Farewell(String),
}

impl Errand {
    fn is_news(&self) -> bool {
        matches!(self, Self::News)
    }
}

/// A queue of messages and the task that sends them.
pub struct Courier {
    name: &'static str,
    letters: mpsc::UnboundedSender<Letter>,
    hurry: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Courier {
    /// Starts the task, on the runtime that this is called on.
    pub fn start(target: Target, patience: Patience) -> Self {
        let (letters, queue) = mpsc::unbounded_channel();
        let (hurry, hurried) = watch::channel(false);
        let name = target.name;
        let round = Round {
            client: reach::Client::unguarded(), // the operator's own address
            target: Arc::new(target),
            patience,
            hurried,
            queue,
            next: None,
        };
        let task = tokio::spawn(round.run());
        Self {
            name,
            letters,
            hurry,
            task,
        }
    }

    /// Queues a worker's message.
    pub fn send(&self, notice: &Notice) {
        self.post(notice.id.clone(), notice, Errand::Post);
    }

    /// Queues a message that has this id.
    pub fn send_as(&self, id: &str, message: &impl Serialize) {
        self.post(id.to_owned(), message, Errand::Post);
    }

    /// Queues anything.
    pub(super) fn post(&self, id: String, message: &impl Serialize, errand: Errand) {
        let to = self.name;
        let body = match serde_json::to_vec(message) {
            Ok(body) => Bytes::from(body),
            Err(error) => return tracing::warn!(to, %error, "a message could not be written"),
        };
        if self.letters.send(Letter { id, body, errand }).is_err() {
            tracing::warn!(to, "a message was lost: its task has ended");
        }
    }

    /// Waits for what is queued, without pauses between attempts, and for `grace` at most. `false` when something was not
    /// delivered.
    pub async fn finish(self, grace: Duration) -> bool {
        self.hurry.send_replace(true);
        drop(self.letters);
        let mut task = self.task;
        let done = tokio::time::timeout(grace, &mut task).await.is_ok();
        if !done {
            task.abort();
            let to = self.name;
            tracing::warn!(to, "the worker ends before every message was taken");
        }
        done
    }
}

/// The task's own side.
struct Round {
    client: reach::Client,
    target: Arc<Target>,
    patience: Patience,
    hurried: watch::Receiver<bool>,
    queue: mpsc::UnboundedReceiver<Letter>,
    /// Came while another was on its way.
    next: Option<Letter>,
}

impl Round {
    async fn run(mut self) {
        let to = self.target.name;
        while let Some(mut letter) = self.take().await {
            let started = std::time::Instant::now();
            match self.deliver(&mut letter).await {
                Ok(attempts) => {
                    let elapsed_ms = started.elapsed().as_millis() as u64;
                    tracing::debug!(
                        to,
                        event = letter.id,
                        attempts,
                        elapsed_ms,
                        "message delivered"
                    );
                }
                Err(error) => {
                    tracing::warn!(to, event = letter.id, %error, "a message was not taken");
                }
            }
        }
    }

    /// The next letter; news that are old by now are left out, but not for a farewell: who drains says so first.
    async fn take(&mut self) -> Option<Letter> {
        let mut letter = match self.next.take() {
            Some(letter) => letter,
            None => self.queue.recv().await?,
        };
        while letter.errand.is_news() {
            match self.queue.try_recv() {
                Ok(newer) if newer.errand.is_news() => letter = newer,
                other => {
                    self.next = other.ok();
                    break;
                }
            }
        }
        Some(letter)
    }

    /// The attempts that it took.
    async fn deliver(&mut self, letter: &mut Letter) -> Result<u32, ReachError> {
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let error = match self.attempt(letter, attempt).await {
                Ok(()) => return Ok(attempt),
                Err(error) => error,
            };
            let is_unknown = matches!(
                error,
                ReachError::Status {
                    status: 404 | 405 | 501,
                    ..
                }
            );
            if is_unknown && matches!(letter.errand, Errand::Farewell(_)) {
                letter.errand = Errand::Post;
                attempt += 1;
                continue;
            }
            if attempt >= self.patience.tries || !error.is_transient() {
                return Err(error);
            }
            tracing::debug!(to = self.target.name, event = letter.id, attempt, %error, "an attempt failed");
            if !self.wait(pause, letter.errand.is_news()).await {
                return Err(error);
            }
            pause *= 2;
            attempt += 1;
        }
    }

    async fn attempt(&self, letter: &Letter, attempt: u32) -> Result<(), ReachError> {
        let (method, url) = match &letter.errand {
            Errand::Post | Errand::News => (Method::POST, self.target.url.clone()),
            Errand::Farewell(name) => (Method::DELETE, below(&self.target.url, name)),
        };
        let headers = headers(&self.target, letter, attempt);
        let (body, time) = (letter.body.clone(), self.patience.time);
        self.client
            .request(method, url.as_str(), headers, body, time)
            .await
    }

    /// A pause, cut short when the worker ends; even then a receiver that is down is not hammered. `false` when there is a
    /// later letter, and this one was news.
    async fn wait(&mut self, pause: Duration, is_news: bool) -> bool {
        if is_news && self.next.is_some() {
            return false;
        }
        let (hurried, queue) = (&mut self.hurried, &mut self.queue);
        let hurried = async {
            // Why ignored: a courier that is gone is in no hurry, and the pause goes on.
            if hurried.wait_for(|hurried| *hurried).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => return true,
            () = hurried => {}
            newer = queue.recv(), if is_news => if newer.is_some() {
                self.next = newer;
                return false;
            },
        }
        tokio::time::sleep(pause.min(LEAST_PAUSE)).await;
        true
    }
}

/// The address of something below another; what stands in its query stays.
fn below(url: &Url, name: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().push(name);
    }
    url
}

fn headers(target: &Target, letter: &Letter, attempt: u32) -> HeaderMap {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let signature = target
        .secret
        .as_ref()
        .and_then(|secret| sign(secret, seconds, &letter.body));
    let values = [
        (EVENT_ID, Some(letter.id.clone())),
        (ATTEMPT, Some(attempt.to_string())),
        (SIGNATURE, signature),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in values {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}
