//! Connections: reads a request, lets the fault that is due happen, and hands it to its side. Plain hyper and no router,
//! because a connection must be cut without an answer, or in the middle of one.

use std::fmt;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::answer::{Answer, Payload};
use crate::double::State;
use crate::faults::{Fault, Kind};
use crate::record::{Seen, Side};
use crate::route::Route;
use crate::{cdn, control, hub};

/// Forms and scripts are short.
const BODY_LIMIT: usize = 16 << 20;
/// What is sent at once where time counts.
const PACED: u64 = 16 << 10;
/// Long enough for what comes before a cut to be written.
const FLUSH: Duration = Duration::from_millis(5);

/// The connection ends here.
#[derive(Debug)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

pub async fn serve(listener: StdListener, side: Side, state: Arc<State>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("the double cannot listen: {error}"),
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, side, Arc::clone(&state)));
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

async fn connection(stream: TcpStream, side: Side, state: Arc<State>) {
    // Why: a small answer must not wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { respond(&state, side, request.map(Body::new)).await }
    });
    // The error is the peer's going away, or a cut of our own.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn kind(side: Side, route: &Route) -> Option<Kind> {
    match (side, route) {
        (Side::Cdn, _) => Some(Kind::Cdn),
        (_, Route::Resolve { .. } | Route::ResolveCache { .. }) => Some(Kind::Resolve),
        (_, Route::Control(_)) => None,
        _ => Some(Kind::Api),
    }
}

async fn respond(state: &State, side: Side, request: Request<Body>) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|_| Cut)?;
    let route = match side {
        Side::Hub => Route::of(parts.uri.path()),
        Side::Cdn => Route::Unknown,
    };
    let Some(kind) = kind(side, &route) else {
        let Route::Control(what) = route else {
            return Err(Cut);
        };
        let answer = control::answer(state, &what, &body);
        return Ok(write(answer, &parts, Sending::default()));
    };
    let fault = state.faults().draw(kind, parts.uri.path());
    let mut seen = Seen::of(side, &parts);
    seen.fault = fault.as_ref().map(Fault::name);
    let sent = Arc::clone(&seen.sent);
    let at = {
        let mut all = state.seen();
        all.push(seen);
        all.len() - 1
    };
    match fault {
        Some(Fault::CutBefore) => return Err(Cut),
        Some(Fault::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let asked = hub::Asked {
        parts: &parts,
        body: &body,
        fault: fault.as_ref(),
    };
    let answer = match (instead(fault.as_ref()), side) {
        (Some(answer), _) => answer,
        (None, Side::Cdn) => cdn::answer(state, &parts, fault.as_ref()),
        (None, Side::Hub) => limited(hub::answer(state, route, &asked), kind),
    };
    // Why looked up again: a test may have cleared the list meanwhile.
    if let Some(seen) = state.seen().get_mut(at) {
        seen.status = answer.status;
    }
    let throttle = if side == Side::Cdn {
        state.throttle()
    } else {
        0
    };
    Ok(write(
        answer,
        &parts,
        Sending {
            sent,
            fault,
            throttle,
        },
    ))
}

/// What the hub says of the rate limit with every answer.
fn limited(answer: Answer, kind: Kind) -> Answer {
    let bucket = if kind == Kind::Api {
        "api"
    } else {
        "resolvers"
    };
    answer
        .with("ratelimit", format!("\"{bucket}\";r=499;t=300"))
        .with(
            "ratelimit-policy",
            format!("\"fixed window\";\"{bucket}\";q=500;w=300"),
        )
        .with("x-request-id", "Root=1-double")
}

/// Answers that have nothing to do with the request.
fn instead(fault: Option<&Fault>) -> Option<Answer> {
    match fault? {
        Fault::Status(status) => {
            let page = format!("<html><body><h1>{status}</h1>a fault on purpose</body></html>");
            Some(Answer::new(*status, "text/html", page))
        }
        Fault::TooMany { retry_after, reset } => {
            let message = "We had to rate limit you, you hit the quota of 500 api requests per 5 minutes period.";
            let mut answer = Answer::error(429, None, message);
            if let Some(seconds) = retry_after {
                answer = answer.with("retry-after", seconds.to_string());
            }
            if let Some(seconds) = reset {
                answer = answer
                    .with("ratelimit", format!("\"api\";r=0;t={seconds}"))
                    .with("ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300");
            }
            Some(answer)
        }
        Fault::Answer {
            status,
            headers,
            body,
        } => {
            let mut answer = Answer::new(*status, "text/plain", body.clone());
            for (name, value) in headers {
                answer = answer.with(name, value);
            }
            Some(answer)
        }
        Fault::Page => {
            let page = "<html><body>Please log in to the network first.</body></html>";
            Some(Answer::new(200, "text/html", page))
        }
        _ => None,
    }
}

#[derive(Default)]
struct Sending {
    sent: Arc<AtomicU64>,
    fault: Option<Fault>,
    throttle: u64,
}

fn write(answer: Answer, parts: &Parts, sending: Sending) -> Response<Body> {
    let size = answer.body.size();
    let announced = match sending.fault {
        Some(Fault::Less(few)) => size.saturating_sub(few),
        Some(Fault::Longer(few)) => size + few,
        _ => size,
    };
    let body = if parts.method == "HEAD" || matches!(answer.status, 204 | 304) {
        Body::empty()
    } else {
        stream(answer.body, announced, sending)
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    if !matches!(answer.status, 204 | 304) {
        headers.insert("content-length", HeaderValue::from(announced));
    }
    response
}

/// A body on its way.
struct Flow {
    payload: Payload,
    /// Bytes of it that are out.
    at: u64,
    /// Bytes that come before the end, by purpose or by nature.
    end: u64,
    /// Whether the end is a cut.
    cut: bool,
    sending: Sending,
    began: Instant,
    stalled: bool,
}

fn stream(payload: Payload, announced: u64, sending: Sending) -> Body {
    let (end, cut) = match sending.fault {
        Some(Fault::Cut(after)) => (after.min(announced.saturating_sub(1)), true),
        Some(Fault::Short(few)) => (announced.saturating_sub(few), true),
        _ => (announced, false),
    };
    let flow = Flow {
        payload,
        at: 0,
        end,
        cut,
        sending,
        began: Instant::now(),
        stalled: false,
    };
    Body::from_stream(futures_util::stream::unfold(Some(flow), |flow| async {
        let mut flow = flow?;
        match flow.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(flow))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Flow {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.at >= self.end {
            if !self.cut {
                return Ok(None);
            }
            // Why: hyper drops what it has not written yet when a body fails; while this waits it writes.
            tokio::time::sleep(FLUSH).await;
            return Err(io::Error::other(Cut));
        }
        let mut most = self.end - self.at;
        let pace = match self.sending.fault {
            Some(Fault::Slow(bytes)) => bytes.max(1),
            _ => self.sending.throttle,
        };
        if pace > 0 {
            most = most.min(PACED);
            let due = Duration::from_secs_f64(self.at as f64 / pace as f64);
            tokio::time::sleep_until(self.began + due).await;
        }
        if let Some(Fault::Stall { after, ms }) = self.sending.fault {
            if self.at < after {
                most = most.min(after - self.at);
            } else if !self.stalled {
                self.stalled = true;
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        }
        let piece = self.piece(most)?;
        self.at += piece.len() as u64;
        self.sending
            .sent
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(Some(piece))
    }

    fn piece(&self, most: u64) -> io::Result<Bytes> {
        let piece = match &self.payload {
            Payload::Text(text) => {
                let from = (self.at as usize).min(text.len());
                text.slice(from..text.len().min(from.saturating_add(most as usize)))
            }
            Payload::File(content, range) => {
                let left = (range.end - range.start).saturating_sub(self.at);
                if left == 0 {
                    Bytes::new()
                } else {
                    content.piece(range.start + self.at, most.min(left))?
                }
            }
        };
        if piece.is_empty() {
            return Ok(Bytes::from(vec![0x5A; most.min(PACED) as usize])); // longer than it should be
        }
        let size = self.payload.size();
        if let Some(Fault::Flip(at)) = self.sending.fault {
            let at = at.min(size.saturating_sub(1));
            if let Some(within) = at
                .checked_sub(self.at)
                .filter(|within| *within < piece.len() as u64)
            {
                let mut changed = BytesMut::from(&piece[..]);
                changed[within as usize] ^= 0x40;
                return Ok(changed.freeze());
            }
        }
        Ok(piece)
    }
}
