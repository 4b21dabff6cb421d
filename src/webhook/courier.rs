//! Carries messages to one address: in order, with patience, and off everybody's way.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
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
    /// The address.
    pub url: Url,
    /// What they are signed with.
    pub secret: Option<SecretString>,
}

// Why by hand: the address may hold a token.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
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
}

/// A queue of messages and the task that sends them.
pub struct Courier {
    letters: mpsc::UnboundedSender<Letter>,
    hurry: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Courier {
    /// Starts the task, on the runtime that this is called on.
    pub fn start(target: Target, patience: Patience) -> Self {
        let (letters, queue) = mpsc::unbounded_channel();
        let (hurry, hurried) = watch::channel(false);
        let round = Round {
            client: reach::Client::unguarded(), // the operator's own address
            target: Arc::new(target),
            patience,
            hurried,
        };
        let task = tokio::spawn(round.run(queue));
        Self {
            letters,
            hurry,
            task,
        }
    }

    /// Queues a worker's message.
    pub fn send(&self, notice: &Notice) {
        self.send_as(&notice.id, notice);
    }

    /// Queues a message that has this id.
    pub fn send_as(&self, id: &str, message: &impl Serialize) {
        let body = match serde_json::to_vec(message) {
            Ok(body) => Bytes::from(body),
            Err(error) => return tracing::warn!(%error, "a webhook message could not be written"),
        };
        let letter = Letter {
            id: id.to_owned(),
            body,
        };
        if self.letters.send(letter).is_err() {
            tracing::warn!("a webhook message was lost: its task has ended");
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
            tracing::warn!("the worker ends before its webhook took every message");
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
}

impl Round {
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Letter>) {
        while let Some(letter) = queue.recv().await {
            let started = std::time::Instant::now();
            match self.deliver(&letter).await {
                Ok(attempts) => {
                    let elapsed_ms = started.elapsed().as_millis() as u64;
                    tracing::debug!(event = letter.id, attempts, elapsed_ms, "webhook delivered");
                }
                Err(error) => {
                    tracing::warn!(event = letter.id, %error, "the webhook did not take a message");
                }
            }
        }
    }

    /// The attempts that it took.
    async fn deliver(&mut self, letter: &Letter) -> Result<u32, ReachError> {
        let mut pause = self.patience.pause;
        let mut attempt = 1;
        loop {
            let sent = self.client.post(
                self.target.url.as_str(),
                headers(&self.target, letter, attempt),
                letter.body.clone(),
                self.patience.time,
            );
            match sent.await {
                Ok(()) => return Ok(attempt),
                Err(error) if attempt >= self.patience.tries || !error.is_transient() => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(event = letter.id, attempt, %error, "webhook attempt failed");
                }
            }
            self.wait(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    /// A pause, cut short when the worker ends; even then a receiver that is down is not hammered.
    async fn wait(&mut self, pause: Duration) {
        let hurried = async {
            // Why ignored: a courier that is gone is in no hurry, and the pause goes on.
            if self.hurried.wait_for(|hurried| *hurried).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => return,
            () = hurried => {}
        }
        tokio::time::sleep(pause.min(LEAST_PAUSE)).await;
    }
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
