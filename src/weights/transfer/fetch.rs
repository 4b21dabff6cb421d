//! One range, from its first request to its last byte: attempts, pauses between them, new links. Ends only when all bytes are
//! in the file, or with a reason that trying again would not remove.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderValue, IF_MATCH, RANGE};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Options;
use super::active::{Active, Unwritten};
use super::answer::{Answer, Asked, Kind, Trouble, judge};
use super::links::Links;
use super::pause;
use super::piece::Piece;
use crate::reach;
use crate::weights::WeightsError;
use crate::weights::remote::{Link, Source};

/// How long the end of a body may take, when all its bytes are here.
const END: Duration = Duration::from_millis(500);

/// What all ranges of a transfer have in common.
pub(super) struct Shared {
    pub source: Arc<dyn Source>,
    pub options: Options,
    /// Bytes that have come from the network.
    pub received: AtomicU64,
    /// What [`super::gauge::Window`] calls complaints.
    pub complaints: AtomicU64,
    /// The transfer is over; for what runs on threads of its own.
    pub over: AtomicBool,
    /// The source is left alone until then.
    quiet: Mutex<Option<Instant>>,
}

/// Why a range was not fetched.
pub(super) enum Failure {
    /// The file is closed; nobody waits for this range.
    Closed,
    /// The file is another one than was listed.
    Changed(String),
    /// The server gives whole files only.
    NoRanges,
    /// For the user.
    Told(WeightsError),
}

impl From<Unwritten> for Failure {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Closed => Self::Closed,
            Unwritten::Disk(error) => Self::Told(error),
        }
    }
}

/// How one attempt ended that did not bring everything.
enum Broken {
    Later(Trouble),
    Refused(reqwest::StatusCode),
    Failed(Failure),
}

impl From<Unwritten> for Broken {
    fn from(unwritten: Unwritten) -> Self {
        Self::Failed(unwritten.into())
    }
}

impl Shared {
    pub fn new(source: Arc<dyn Source>, options: Options) -> Self {
        Self {
            source,
            options,
            received: AtomicU64::new(0),
            complaints: AtomicU64::new(0),
            over: AtomicBool::new(false),
            quiet: Mutex::new(None),
        }
    }

    /// All ranges leave the source alone for a while.
    fn hush(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        *quiet = Some(quiet.map_or(until, |before| before.max(until)));
    }

    async fn quiet(&self) {
        let until = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }
}

/// One range's work.
pub(super) struct Fetch {
    pub shared: Arc<Shared>,
    pub links: Arc<Links>,
    pub active: Arc<Active>,
    pub range: Range<u64>,
}

impl Fetch {
    /// Fetches the range.
    pub async fn run(self) -> Result<(), Failure> {
        let mut piece = Piece::new(&self.active, &self.range);
        // Attempts in a row that brought nothing.
        let mut failures = 0;
        // Links in a row that were refused.
        let mut refusals = 0;
        // The number of the link that was refused last; cleared by every byte.
        let mut refused: Option<u64> = None;
        loop {
            self.shared.quiet().await;
            let before = piece.rest().start;
            let (number, broken) = match self.link(refused).await {
                Err(broken) => (0, broken),
                Ok((number, link)) => match self.attempt(&link, &mut piece).await {
                    Ok(()) => return Ok(()),
                    Err(broken) => (number, broken),
                },
            };
            piece.settle()?;
            if piece.rest().start > before {
                (failures, refusals, refused) = (0, 0, None);
            }
            match broken {
                Broken::Failed(failure) => return Err(failure),
                Broken::Refused(status) => {
                    refusals += 1;
                    if refusals >= self.refusals() {
                        return Err(Failure::Told(self.denied(status)));
                    }
                    if refusals > 1 {
                        sleep(pause::backoff(&self.shared.options, refusals)).await;
                    }
                    refused = Some(number);
                }
                Broken::Later(trouble) => {
                    failures += 1;
                    self.pause(trouble, failures).await?;
                }
            }
        }
    }

    async fn link(&self, stale: Option<u64>) -> Result<(u64, Arc<Link>), Broken> {
        let source = self.shared.source.as_ref();
        let file = &self.active.job.file;
        let link = self.links.get(source, file, stale).await;
        link.map_err(|error| match error {
            WeightsError::Unreachable { reason, .. } => {
                Broken::Later(Trouble::new(Kind::Failing, reason))
            }
            WeightsError::RateLimited { wait, .. } => Broken::Later(Trouble {
                wait,
                ..Trouble::new(Kind::Limited, "too many requests")
            }),
            other => Broken::Failed(Failure::Told(other)),
        })
    }

    async fn attempt(&self, link: &Link, piece: &mut Piece<'_>) -> Result<(), Broken> {
        let file = &self.active.job.file;
        let unmarked = self.active.manner.unmarked;
        let asked = Asked {
            range: piece.rest(),
            size: file.size,
            etag: file.etag.as_deref().filter(|_| !unmarked),
            whole: self.active.manner.whole,
        };
        let sent = self.request(link, &asked).send();
        let answered = timeout(self.shared.options.read_timeout, sent).await;
        let response = match answered {
            Err(_) => return Err(self.silence()),
            Ok(Err(error)) => return Err(failing(link, &error)),
            Ok(Ok(response)) => response,
        };
        match judge(response.status(), response.headers(), &asked) {
            Answer::Bytes { skip } => {
                // Now, and not when all is here: meanwhile it may expire for another range.
                self.links.praise();
                self.body(link, response, skip, piece).await
            }
            Answer::Later(trouble) => Err(Broken::Later(trouble)),
            Answer::Refused(status) => Err(Broken::Refused(status)),
            Answer::Changed(how) => Err(Broken::Failed(Failure::Changed(how))),
            Answer::NoRanges => Err(Broken::Failed(Failure::NoRanges)),
            Answer::Missing => Err(Broken::Failed(Failure::Told(WeightsError::NotFound {
                place: self.shared.source.name(),
                what: format!("{} is not there", file.path),
                wanted: "it was listed a moment ago: start again for a new listing".to_owned(),
            }))),
        }
    }

    fn request(&self, link: &Link, asked: &Asked<'_>) -> reqwest::RequestBuilder {
        let range = format!("bytes={}-{}", asked.range.start, asked.range.end - 1);
        let client = self.shared.source.client();
        let request = client
            .get(link.url.clone())
            .headers(link.headers.clone())
            // Why: compressed on the way, the bytes would be others.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(RANGE, range);
        match asked.etag {
            // A weak mark never matches, by definition; it is compared when the answer is here.
            Some(etag) if !etag.starts_with("W/") => request.header(IF_MATCH, etag),
            _ => request,
        }
    }

    async fn body(
        &self,
        link: &Link,
        mut response: reqwest::Response,
        mut skip: u64,
        piece: &mut Piece<'_>,
    ) -> Result<(), Broken> {
        let patience = self.shared.options.read_timeout;
        let mut silence = std::pin::pin!(sleep_until(Instant::now() + patience));
        while !piece.rest().is_empty() {
            let chunk = tokio::select! {
                biased;
                chunk = response.chunk() => chunk.map_err(|error| failing(link, &error))?,
                () = silence.as_mut() => return Err(self.silence()),
            };
            let Some(mut chunk) = chunk else {
                let reason = format!("the answer ended {} bytes early", rest(piece) + skip);
                return Err(Broken::Later(Trouble::new(Kind::Failing, reason)));
            };
            silence.as_mut().reset(Instant::now() + patience);
            if skip > 0 {
                let passed = skip.min(chunk.len() as u64);
                skip -= passed;
                chunk = chunk.slice(passed as usize..);
            }
            let taken = piece.take(chunk)?;
            self.shared
                .received
                .fetch_add(taken as u64, Ordering::Relaxed);
        }
        // The body's end is to be seen too: only then does the connection serve the next range. An answer that goes on is not
        // worth waiting for.
        let _ = timeout(END, response.chunk()).await;
        Ok(())
    }

    fn silence(&self) -> Broken {
        let seconds = self.shared.options.read_timeout.as_secs_f32();
        Broken::Later(Trouble::new(
            Kind::Overloaded,
            format!("not a byte for {seconds} s"),
        ))
    }

    /// How many links in a row must be refused until the file is. Two where none was ever any good: the door is shut. More
    /// where one was: links expire, and a short-lived one may do so before it is this range's turn.
    fn refusals(&self) -> u32 {
        if self.links.was_good() { 5 } else { 2 }
    }

    /// Waits before the next attempt, or says that there were enough of them.
    async fn pause(&self, trouble: Trouble, failures: u32) -> Result<(), Failure> {
        let options = &self.shared.options;
        let path = &self.active.job.file.path;
        if matches!(trouble.kind, Kind::Limited | Kind::Overloaded) {
            self.shared.complaints.fetch_add(1, Ordering::Relaxed);
        }
        let too_long = trouble.wait.is_some_and(|wait| wait > options.longest_wait);
        if failures >= options.tries || too_long {
            return Err(Failure::Told(self.give_up(trouble, failures)));
        }
        tracing::debug!(file = %path, failures, reason = %trouble.reason, "a range will be asked for again");
        match trouble.wait {
            Some(wait) => {
                let wait = pause::asked(wait);
                // It holds for whoever asks this source, not for this range alone.
                self.shared.hush(wait);
                sleep(wait).await;
            }
            None => sleep(pause::backoff(options, failures)).await,
        }
        Ok(())
    }

    fn give_up(&self, trouble: Trouble, failures: u32) -> WeightsError {
        let place = self.shared.source.name();
        let path = &self.active.job.file.path;
        let reason = format!("{path}: {} ({failures} times)", trouble.reason);
        match trouble.kind {
            Kind::Limited => WeightsError::RateLimited {
                place,
                wait: trouble.wait,
            },
            Kind::Senseless => WeightsError::Malformed { place, reason },
            Kind::Overloaded | Kind::Failing => WeightsError::Unreachable { place, reason },
        }
    }

    fn denied(&self, status: reqwest::StatusCode) -> WeightsError {
        let place = self.shared.source.name();
        let path = &self.active.job.file.path;
        if !matches!(status.as_u16(), 400 | 401 | 403) {
            let reason = format!("{path}: HTTP status {status} where its bytes should be");
            return WeightsError::Malformed { place, reason };
        }
        WeightsError::Denied {
            place,
            what: format!("{path} is refused (HTTP status {status}), also with a new link"),
            wanted:
                "look whether the token or the keys may read it, and whether the clock is right"
                    .to_owned(),
        }
    }
}

fn rest(piece: &Piece<'_>) -> u64 {
    let rest = piece.rest();
    rest.end - rest.start
}

/// Why no URL in it: reqwest's own text would name it, signature and all.
fn failing(link: &Link, error: &reqwest::Error) -> Broken {
    let reason = reach::explain(&link.url, error).to_string();
    Broken::Later(Trouble::new(Kind::Failing, reason))
}
