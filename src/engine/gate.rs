//! The door between front doors and one model's thread: the typed side of the erased handle, and the reader's end of a request.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use chandler_core::{
    Collected, Event, Input, ModelInfo, Prepare, Prepared, RequestError, RequestId, Ticket,
};

use super::handle::not_ready;
use super::mailbox::{Mailbox, Outbox};
use super::parking::Reply;
use super::stats::{Stats, Timeline};
use super::status::Status;
use super::worker::{Command, Job};

/// The generic part behind the erased handle.
pub(super) trait Door: Send + Sync {
    fn info(&self) -> ModelInfo;
    fn vocabulary(&self) -> Vec<String>;
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError>;
    fn count_tokens(&self, input: &Input) -> Result<u32, RequestError>;
    /// Prepares all, then queues all. Blocking: called off the async threads.
    fn enqueue(
        &self,
        inputs: Vec<Input>,
        places: Vec<Place>,
    ) -> Result<Vec<Subscription>, (usize, RequestError)>;
    /// Takes nothing new; what is here is finished.
    fn drain(&self);
    /// Asks for the model to leave its device when nothing runs, or to come back to it.
    fn park(&self, parked: bool, reply: Reply);
}

/// What a reader tells the engine's thread.
pub(super) enum Signal {
    /// It has left.
    Cancel(RequestId),
    /// It has caught up.
    CaughtUp,
}

type Signals = Arc<dyn Fn(Signal) + Send + Sync>;

/// A place in the queue, given back on drop.
pub(super) struct Place(pub(super) Arc<Stats>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The door of a model whose prepared requests are `T`.
pub(super) struct Gate<T> {
    preparer: Arc<dyn Prepare<Prepared = T>>,
    sender: Sender<Command<T>>,
    stats: Arc<Stats>,
    signals: Signals,
    next: AtomicU64,
}

impl<T: Prepared> Gate<T> {
    pub(super) fn new(
        preparer: Arc<dyn Prepare<Prepared = T>>,
        sender: Sender<Command<T>>,
        stats: Arc<Stats>,
    ) -> Self {
        let signaller = sender.clone();
        Self {
            preparer,
            sender,
            // Why ignored: a thread that has ended needs no signal.
            signals: Arc::new(move |signal| drop(signaller.send(Command::Signal(signal)))),
            stats,
            next: AtomicU64::new(0),
        }
    }
}

impl<T: Prepared> Door for Gate<T> {
    fn drain(&self) {
        // Why ignored: a thread that has ended has drained.
        let _ = self.sender.send(Command::Drain);
    }

    fn park(&self, parked: bool, reply: Reply) {
        let command = match parked {
            true => Command::Park(reply),
            false => Command::Wake(reply),
        };
        // Why ignored: the answer's sender goes with the command, which its reader sees.
        let _ = self.sender.send(command);
    }

    fn info(&self) -> ModelInfo {
        self.preparer.info()
    }

    fn vocabulary(&self) -> Vec<String> {
        self.preparer.vocabulary()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, RequestError> {
        self.preparer.tokenize(text)
    }

    fn count_tokens(&self, input: &Input) -> Result<u32, RequestError> {
        self.preparer.count_tokens(input)
    }

    fn enqueue(
        &self,
        inputs: Vec<Input>,
        places: Vec<Place>,
    ) -> Result<Vec<Subscription>, (usize, RequestError)> {
        let mut prepared = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            prepared.push(self.preparer.prepare(input).map_err(|e| {
                self.stats.refused();
                (index, e)
            })?);
        }
        let mut subscriptions = Vec::with_capacity(prepared.len());
        for (prepared, place) in prepared.into_iter().zip(places) {
            let ticket = Ticket::new(self.next.fetch_add(1, Ordering::Relaxed));
            let mailbox = Arc::new(Mailbox::default());
            subscriptions.push(Subscription {
                ticket: ticket.clone(),
                mailbox: mailbox.clone(),
                signals: self.signals.clone(),
            });
            let job = Job {
                ticket,
                prepared,
                outbox: Outbox::new(mailbox),
                timeline: Timeline::start(),
                place: Some(place),
                strikes: 0,
            };
            self.sender
                .send(Command::Submit(Box::new(job)))
                .map_err(|_| (0, not_ready(&Status::Stopped)))?;
        }
        Ok(subscriptions)
    }
}

/// The reader's end of a request. Dropping it cancels the request within one step.
pub struct Subscription {
    ticket: Ticket,
    mailbox: Arc<Mailbox>,
    signals: Signals,
}

impl Subscription {
    /// The next event; `None` after the terminal one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let (event, eased) = self.mailbox.take().await;
        if eased {
            (self.signals)(Signal::CaughtUp);
        }
        event
    }

    /// The whole answer.
    ///
    /// # Errors
    /// The request's own error.
    pub async fn collect(mut self) -> Result<Collected, RequestError> {
        let mut collected = Collected::default();
        while let Some(event) = self.next().await {
            if collected.add(event)? {
                return Ok(collected);
            }
        }
        Err(RequestError::internal(
            "the answer ended without its last event",
        ))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.mailbox.close() {
            self.ticket.cancelled.raise();
            (self.signals)(Signal::Cancel(self.ticket.id));
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.ticket.id)
            .finish_non_exhaustive()
    }
}
