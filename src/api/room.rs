//! Memory that what callers send may take, all of them together: bodies of the routes that take files, and what these name by
//! address. Apart from `limits`, which bounds one caller. A body's bytes count from when they come until its request has ended,
//! since a long recording is read again as it is heard; a fetched file's as long as somebody holds it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chandler_core::{ErrorKind, RequestError};
use futures_util::StreamExt;

use super::error::Dialect;
use super::limits;
use super::state::Api;

/// When it is worth while to come again: what is heard or drawn takes seconds.
const WAIT: u32 = 5;
const SETTING: &str = "(--upload-memory, CHANDLER_UPLOAD_MEMORY)";

/// The memory, and how much of it is taken.
#[derive(Debug)]
pub(super) struct Room {
    limit: u64,
    used: AtomicU64,
}

impl Room {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicU64::new(0),
        })
    }

    /// Nothing yet, for one request or file.
    pub(super) fn hold(self: &Arc<Self>) -> Arc<Held> {
        Arc::new(Held {
            room: Arc::clone(self),
            bytes: AtomicU64::new(0),
            refusal: OnceLock::new(),
        })
    }

    /// Whether so many bytes have room now. None is kept: what a request announces costs it nothing.
    fn fits(&self, bytes: u64) -> Result<(), RequestError> {
        if bytes > self.limit {
            return Err(self.too_large());
        }
        let used = self.used.load(Ordering::Relaxed);
        match used.saturating_add(bytes) <= self.limit {
            true => Ok(()),
            false => Err(self.full(used)),
        }
    }

    fn too_large(&self) -> RequestError {
        let message = format!(
            "the request is over the {} bytes that all uploads together may take in memory {SETTING}",
            self.limit
        );
        RequestError::new(ErrorKind::TooLarge, message).with_code("request_too_large")
    }

    fn full(&self, used: u64) -> RequestError {
        let message = format!(
            "uploads that are worked on take {used} of the {} bytes that all of them together may {SETTING}; try again in {WAIT} s",
            self.limit
        );
        RequestError::new(ErrorKind::Busy, message)
            .with_code("uploads_busy")
            .with_retry_after(WAIT)
    }
}

/// What one request or file takes of it; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    bytes: AtomicU64,
    /// Why there was no more.
    refusal: OnceLock<RequestError>,
}

impl Held {
    /// Takes more. After a refusal nothing is counted: it is thrown away.
    pub(super) fn take(&self, more: u64) -> bool {
        if self.refusal.get().is_some() {
            return false;
        }
        let own = self.bytes.load(Ordering::Relaxed).saturating_add(more);
        let room = &self.room;
        let fits = |used: u64| Some(used.saturating_add(more)).filter(|used| *used <= room.limit);
        let (order, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let refusal = match room.used.fetch_update(order, fetch, fits) {
            Ok(_) => {
                self.bytes.fetch_add(more, Ordering::Relaxed);
                return true;
            }
            Err(_) if own > room.limit => room.too_large(),
            Err(used) => room.full(used),
        };
        self.refusal.get_or_init(|| refusal);
        false
    }

    /// Why there was no more, where there was none.
    pub(super) fn refusal(&self) -> Option<&RequestError> {
        self.refusal.get()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.room.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// A file, and the room that it takes.
pub(super) struct Kept {
    file: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.file
    }
}

impl Kept {
    /// The file's bytes, which give the room back when the last of them is dropped.
    pub(super) fn bytes(file: Bytes, held: Arc<Held>) -> Bytes {
        Bytes::from_owner(Self { file, _held: held })
    }
}

/// Why a body ends in the middle; the caller is told by [`bound`].
#[derive(Debug, thiserror::Error)]
#[error("there is no room for more of it")]
struct NoRoom;

/// Counts what comes in on the routes that take files, and answers in the place of a handler that there was no room for.
pub(super) async fn bound(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let Some(room) = api.room.as_ref().filter(|_| limits::takes_files(&path)) else {
        return next.run(request).await;
    };
    let refused = |error: RequestError| Dialect::of_path(&path).error(error).into_response();
    let announced = limits::length(request.headers()).unwrap_or(0);
    if let Err(error) = room.fits(announced) {
        if !asks_before_sending(request.headers()) {
            limits::drain(&mut request.into_body().into_data_stream()).await;
        }
        return refused(error);
    }
    let held = room.hold();
    let response = next
        .run(request.map(|body| counted(body, held.clone())))
        .await;
    if let Some(error) = held.refusal() {
        return refused(error.clone());
    }
    // A whole answer has its length, and then all work for it is done; a stream's goes on.
    match response.body().size_hint().exact() {
        Some(_) => response,
        None => response.map(|body| keeping(body, held)),
    }
}

fn asks_before_sending(headers: &HeaderMap) -> bool {
    headers.contains_key(header::EXPECT)
}

fn counted(body: Body, held: Arc<Held>) -> Body {
    let mut told = false;
    let chunks = body.into_data_stream().map(move |chunk| {
        let chunk = chunk.map_err(axum::BoxError::from)?;
        if held.take(chunk.len() as u64) || told {
            return Ok(chunk);
        }
        // Said once: what is left is read and thrown away, so that the caller gets to read the answer.
        told = true;
        Err(axum::BoxError::from(NoRoom))
    });
    Body::from_stream(chunks)
}

fn keeping(body: Body, held: Arc<Held>) -> Body {
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let _held = &held;
        chunk
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back_and_never_passes_the_limit() {
        let room = Room::new(100);
        let (one, two) = (room.hold(), room.hold());
        assert!(one.take(60) && two.take(40));
        assert!(!two.take(1));
        let busy = two.refusal().unwrap();
        assert_eq!((busy.kind, busy.retry_after), (ErrorKind::Busy, Some(WAIT)));
        assert!(busy.message.contains("take 100 of the 100 bytes"), "{busy}");
        drop(one);
        assert!(!two.take(1), "a request that was refused takes no more");
        assert_eq!(room.used.load(Ordering::Relaxed), 40);
        assert!(room.fits(60).is_ok());
        assert_eq!(room.fits(61).unwrap_err().kind, ErrorKind::Busy);
        assert_eq!(room.fits(101).unwrap_err().kind, ErrorKind::TooLarge);
        drop(two);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
        let alone = room.hold();
        assert!(alone.take(100) && !alone.take(1));
        let kind = alone.refusal().map(|error| error.kind);
        assert_eq!(kind, Some(ErrorKind::TooLarge));
    }

    #[test]
    fn a_file_holds_its_room_as_long_as_any_part_of_it_is_there() {
        let room = Room::new(10);
        let held = room.hold();
        assert!(held.take(4));
        let file = Kept::bytes(Bytes::from_static(b"abcd"), held);
        let part = file.slice(1..2);
        drop(file);
        assert_eq!(room.used.load(Ordering::Relaxed), 4);
        drop(part);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }
}
