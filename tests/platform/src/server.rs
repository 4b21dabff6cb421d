//! Connections: reads a request, lets the fault that is due happen, and hands it to its side. Plain hyper and no router,
//! because a connection must be cut without an answer, before or after its body is read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::answer::{Answer, Handed};
use crate::faults::Fault;
use crate::platform::State;
use crate::route::Route;
use crate::{client_side, control, worker_side};

/// Bodies that are longer than any limit which production has.
const BODY_LIMIT: usize = 256 << 20;

/// The connection ends without an answer.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

pub async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&state)));
                }
                Err(error) => {
                    eprintln!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    // Why: a small answer must not wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { respond(&state, request.map(Body::new)).await }
    });
    // The error is the peer's going away, or a cut of our own.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// One request; with the log on, its body is read before anything else happens.
async fn respond(state: &Arc<State>, request: Request<Body>) -> Result<Response<Body>, Cut> {
    let (parts, mut body) = request.into_parts();
    let logged = match &state.log {
        Some(log) if !parts.uri.path().starts_with("/control/") => {
            let bytes = to_bytes(body, BODY_LIMIT).await.map_err(|_| Cut)?;
            let entry = log.entry(&parts, &bytes);
            body = Body::from(bytes);
            Some((log, entry))
        }
        _ => None,
    };
    let route = Route::of(&parts.method, parts.uri.path(), &state.options.endpoint);
    let fault = route.kind().and_then(|kind| state.faults().draw(kind));
    let name = fault.as_ref().map(Fault::name);
    let outcome = with_fault(state, (&parts, route), body, fault).await;
    if let Some((log, mut entry)) = logged {
        entry.fault = name;
        if let Outcome::Answer(answer) = &outcome {
            entry.status = answer.status;
            let text = answer
                .text()
                .map(|text| String::from_utf8_lossy(text).into_owned());
            entry.answer = text.unwrap_or_default();
        }
        log.write(entry);
    }
    match outcome {
        Outcome::Answer(answer) => Ok(answer.into_response()),
        Outcome::Half(answer) => Ok(half(answer)),
        Outcome::Cut => Err(Cut),
    }
}

enum Outcome {
    Answer(Answer),
    Half(Answer),
    Cut,
}

async fn with_fault(
    state: &Arc<State>,
    (parts, route): (&Parts, Route<'_>),
    body: Body,
    fault: Option<Fault>,
) -> Outcome {
    match fault {
        Some(Fault::CutBefore) => return Outcome::Cut,
        Some(Fault::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return Outcome::Cut;
    };
    match fault {
        Some(Fault::Status(status)) => {
            return Outcome::Answer(Answer::error(status, "a fault on purpose"));
        }
        Some(Fault::Answer { status, body }) => return Outcome::Answer(Answer::new(status, body)),
        Some(Fault::Malformed(which)) => {
            if let Route::Take { worker, batch } = route {
                return Outcome::Answer(worker_side::malformed(state, worker, batch, which));
            }
        }
        _ => {}
    }
    let mut answer = dispatch(state, parts, route, body).await;
    match fault {
        Some(Fault::CutAfter) => {
            undeliver(state, &mut answer);
            Outcome::Cut
        }
        Some(Fault::CutMidway) => {
            undeliver(state, &mut answer);
            Outcome::Half(answer)
        }
        Some(Fault::StatusAfter(status)) => {
            undeliver(state, &mut answer);
            Outcome::Answer(Answer::error(status, "a fault on purpose"))
        }
        _ => Outcome::Answer(answer),
    }
}

/// What was handed out does not arrive.
fn undeliver(state: &State, answer: &mut Answer) {
    match std::mem::take(&mut answer.handed) {
        Handed::Nothing => {}
        Handed::Jobs(ids) => {
            state.book().take_back(ids);
            state.queued.notify_one();
        }
        Handed::Stops(worker, ids) => {
            let mut book = state.book();
            let (_, worker) = book.worker(&worker);
            worker.stops.extend(ids);
            worker.stops_changed.notify_one();
        }
    }
}

/// An answer whose length is announced, and of which the second half does not come.
fn half(answer: Answer) -> Response<Body> {
    let whole = answer.text().cloned().unwrap_or_default();
    let mut response = answer.into_response();
    let part = whole.slice(..whole.len() / 2);
    let pieces = [Ok::<Bytes, Cut>(part), Err(Cut)];
    *response.body_mut() = Body::from_stream(futures_util::stream::iter(pieces));
    let length = HeaderValue::from(whole.len().max(2));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    response
}

async fn dispatch(state: &Arc<State>, parts: &Parts, route: Route<'_>, body: Bytes) -> Answer {
    if route.kind().is_some() {
        let key = parts
            .headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        if key != Some(state.options.worker_key.as_bytes()) {
            return Answer::error(
                401,
                "the worker's key is missing or wrong; it is sent as it is, without Bearer",
            );
        }
    }
    let query = parts.uri.query().unwrap_or_default();
    match route {
        Route::Take { worker, batch } => worker_side::take(state, worker, batch, query).await,
        Route::Stop { worker } => worker_side::stop(state, worker).await,
        Route::Done { worker, job } => worker_side::done(state, (worker, job), query, body),
        Route::Stream { worker, job } => worker_side::stream(state, (worker, job), query, body),
        Route::Ping { worker } => worker_side::ping(state, worker, query),
        Route::Client { operation, rest } => {
            client_side::answer(state, parts, (operation, rest), body).await
        }
        Route::Control { what } => control::answer(state, what, query, body).await,
        Route::OtherEndpoint => Answer::error(404, "there is no such endpoint here"),
        Route::WrongMethod => Answer::error(405, "this path wants another method"),
        Route::Unknown => Answer::error(404, "there is no such path"),
    }
}
