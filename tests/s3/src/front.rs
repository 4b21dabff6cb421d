//! What stands in front of the server: conditions, anonymous reads and regions, which s3s-fs does not know, and the faults.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderValue, IF_MATCH, RANGE, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use s3s::service::S3Service;

use crate::faults::{Asked, Fault, Faults};
use crate::record::{Record, Records};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) struct Front {
    /// Verifies signatures.
    pub signed: S3Service,
    /// The same data, for whoever is let in.
    pub open: S3Service,
    pub public: bool,
    pub region: Option<String>,
    pub faults: Faults,
    pub records: Records,
    /// Held over a write with a condition.
    pub writing: tokio::sync::Mutex<()>,
}

impl Front {
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let text = |name| {
            let value: Option<&HeaderValue> = request.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let query = request.uri().query().unwrap_or_default().to_owned();
        let mut record = Record {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            presigned: query.contains("X-Amz-Signature="),
            signed: request.headers().contains_key("authorization"),
            range: text(RANGE),
            if_match: text(IF_MATCH),
            status: 0,
            fault: false,
            query,
        };
        let target = format!("{}?{}", record.path, record.query);
        let asked = Asked {
            method: &record.method,
            target: &target,
            presigned: record.presigned,
            object: record.method == "GET" && !record.query.contains("list-type"),
        };
        let fault = self.faults.choose(&asked);
        record.fault = fault.is_some();
        let response = match self.elsewhere(&record, request.headers()) {
            Some(refusal) => refusal,
            None => self.faulty(request, &record, fault).await,
        };
        record.status = response.status().as_u16();
        self.records.add(record);
        Ok(response)
    }

    /// A bucket of another region sends its clients there.
    fn elsewhere(&self, record: &Record, headers: &HeaderMap) -> Option<Response<Body>> {
        let region = self.region.as_ref()?;
        let signed = headers.get("authorization");
        let signed = signed.and_then(|value| value.to_str().ok());
        let scope = signed.unwrap_or(&record.query);
        let right = scope.contains(&format!("/{region}/s3/"))
            || scope.contains(&format!("%2F{region}%2Fs3%2F"));
        if right || !(record.signed || record.presigned) {
            return None;
        }
        let mut refusal = refusal(400, "AuthorizationHeaderMalformed", None);
        let value = HeaderValue::from_str(region).unwrap();
        refusal.headers_mut().insert("x-amz-bucket-region", value);
        Some(refusal)
    }

    async fn faulty(
        &self,
        mut request: Request<Incoming>,
        record: &Record,
        fault: Option<Fault>,
    ) -> Response<Body> {
        match &fault {
            Some(Fault::Refuse(status, code, wait)) => return refusal(*status, code, *wait),
            Some(Fault::Page) => return refusal(200, "InternalError", None),
            Some(Fault::Late(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Whole) => drop(request.headers_mut().remove(RANGE)),
            _ => {}
        }
        let response = self.well(request, record).await;
        match fault {
            Some(fault) if response.status().is_success() => spoilt(response, &fault),
            _ => response,
        }
    }

    /// As it should be.
    async fn well(&self, request: Request<Incoming>, record: &Record) -> Response<Body> {
        let unsigned = !record.signed && !record.presigned;
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        let service = match self.public && unsigned && read {
            true => &self.open,
            false => &self.signed,
        };
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (still, new) = (header("if-match"), header("if-none-match"));
        let condition = !read && (still.is_some() || new.is_some());
        let _alone = match condition {
            true => Some(self.writing.lock().await),
            false => None,
        };
        if condition {
            let now = self.etag(&record.path).await;
            let holds = match (&still, &new, &now) {
                (Some(wanted), _, Some(now)) => wanted == now,
                (Some(_), _, None) => return refusal(404, "NoSuchKey", None),
                (None, _, now) => now.is_none(),
            };
            if !holds {
                return refusal(412, "PreconditionFailed", None);
            }
        }
        let mut request = request.map(s3s::Body::from);
        // Looked at above; what s3s-fs does with them depends on the operation.
        for name in ["if-match", "if-none-match"] {
            if !record.signed {
                request.headers_mut().remove(name);
            }
        }
        let response = match service.call(request).await {
            Ok(response) => response,
            Err(_) => return refusal(500, "InternalError", None),
        };
        let changed = read && response.status().is_success() && {
            let now = response
                .headers()
                .get(ETAG)
                .and_then(|etag| etag.to_str().ok());
            still.is_some_and(|wanted| Some(wanted.as_str()) != now)
        };
        match changed {
            true => refusal(412, "PreconditionFailed", None),
            false => response.map(|body| body.boxed_unsync()),
        }
    }

    async fn etag(&self, path: &str) -> Option<String> {
        let request = Request::head(format!("http://localhost{path}"));
        let request = request.body(s3s::Body::empty()).unwrap();
        let response = self.open.call(request).await.ok()?;
        let etag = response.headers().get(ETAG)?.to_str().ok()?;
        Some(etag.to_owned())
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, body: Bytes) {
        let key: String = key
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let request = Request::put(format!("http://localhost/{bucket}/{key}"))
            .header(CONTENT_LENGTH, body.len())
            .body(s3s::Body::from(body))
            .unwrap();
        let response = self.open.call(request).await.unwrap();
        assert!(response.status().is_success(), "{key}: {response:?}");
    }
}

fn refusal(status: u16, code: &str, wait: Option<u64>) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>a fault</Message></Error>"
    );
    let mut response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/xml");
    if let Some(seconds) = wait {
        response = response.header(RETRY_AFTER, seconds);
    }
    let body = Full::new(Bytes::from(body)).map_err(BoxError::from);
    response.body(body.boxed_unsync()).unwrap()
}

/// An answer whose body is not what it should be.
fn spoilt(response: Response<Body>, fault: &Fault) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Fault::Short(less) = fault {
        let length = head.headers.get(CONTENT_LENGTH);
        let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(length) = length {
            let value = HeaderValue::from(length.saturating_sub(*less));
            head.headers.insert(CONTENT_LENGTH, value);
            return Response::from_parts(head, kept(body, length.saturating_sub(*less), End::Ends));
        }
        return Response::from_parts(head, body);
    }
    let body = match fault {
        Fault::Cut(bytes) => kept(body, *bytes, End::Breaks),
        Fault::Stall(bytes) => kept(body, *bytes, End::Hangs),
        Fault::Slow(rate) => slowed(body, *rate),
        Fault::Wrong(at) => changed(body, *at),
        _ => body,
    };
    Response::from_parts(head, body)
}

#[derive(Clone, Copy)]
enum End {
    Ends,
    Breaks,
    Hangs,
}

/// A body's first bytes, and then an end of this kind.
fn kept(body: Body, bytes: u64, end: End) -> Body {
    let frames = body.into_data_stream();
    let state = (frames, bytes, false);
    let stream = futures_util::stream::unfold(state, move |(mut frames, left, over)| async move {
        if over {
            return None;
        }
        if left == 0 {
            return match end {
                End::Ends => None,
                End::Breaks => Some((Err(BoxError::from("a cut")), (frames, 0, true))),
                End::Hangs => std::future::pending().await,
            };
        }
        match frames.next().await? {
            Err(error) => Some((Err(error), (frames, left, true))),
            Ok(mut chunk) => {
                chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - chunk.len() as u64;
                Some((Ok(Frame::data(chunk)), (frames, left, false)))
            }
        }
    });
    StreamBody::new(stream).boxed_unsync()
}

fn slowed(body: Body, rate: u64) -> Body {
    let stream = body.into_data_stream().then(move |chunk| async move {
        let chunk = chunk?;
        let time = chunk.len() as f64 / rate.max(1) as f64;
        tokio::time::sleep(Duration::from_secs_f64(time)).await;
        Ok::<_, BoxError>(Frame::data(chunk))
    });
    StreamBody::new(stream).boxed_unsync()
}

fn changed(body: Body, at: u64) -> Body {
    let mut seen = 0_u64;
    let stream = body.into_data_stream().map(move |chunk| {
        let chunk = chunk?;
        let begins = seen;
        seen += chunk.len() as u64;
        let mut bytes = chunk.to_vec();
        let place = at
            .checked_sub(begins)
            .and_then(|place| usize::try_from(place).ok());
        if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
            *byte ^= 1;
        }
        Ok::<_, BoxError>(Frame::data(Bytes::from(bytes)))
    });
    StreamBody::new(stream).boxed_unsync()
}
