//! Does a job's work on the worker's own HTTP routes: the input becomes one request, handed to the router as a service,
//! and the answer becomes the job's pieces. Apart from the dialects, which know shapes and no HTTP machinery.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use tower::ServiceExt;

use super::answer;
use super::dialect::{self, Call, Known, Served};
use super::growth::Growth;
use super::job::Job;
use super::work::{Outcome, Piece, Work};

/// How streamed answers are handed on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Streaming {
    /// Sizes of chunks where the job names none.
    pub growth: Growth,
    /// Whether OpenAI's routes stream events as they are, and not as the objects that they hold.
    pub raw_openai: bool,
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            growth: Growth::default(),
            raw_openai: true,
        }
    }
}

/// Does jobs on a router. Cheap to clone.
#[derive(Clone)]
pub struct Handler {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    streaming: Streaming,
    served: Arc<OnceLock<Served>>,
}

impl Handler {
    /// A handler of a router that asks for no keys: who has the job has been let in already.
    pub fn new(router: Router, streaming: Streaming) -> Self {
        let shared = Shared {
            router,
            streaming,
            served: Arc::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

impl Work for Handler {
    fn start(&self, job: Job) -> BoxStream<'static, Piece> {
        let shared = self.shared.clone();
        stream::once(async move { shared.answer(job).await })
            .flatten()
            .boxed()
    }
}

impl Shared {
    async fn answer(&self, job: Job) -> BoxStream<'static, Piece> {
        self.look().await;
        let known = Known {
            served: self.served.clone(),
            streaming: self.streaming,
        };
        let call = match dialect::recognise(job.input, &known) {
            Ok(call) => call,
            Err(refusal) => return only(Outcome::failed(refusal)),
        };
        let Call {
            method,
            path,
            body,
            shape,
            growth,
        } = call;
        let mut request = Request::builder().method(method).uri(&path);
        // Why the job's id: log lines and answers then carry it. The routes take another where it will not do.
        if let Ok(id) = HeaderValue::from_str(&job.id) {
            request = request.header("x-request-id", id);
        }
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        match request {
            Ok(request) => {
                let response = self.send(request).await;
                // Why again: a job that came while the model loaded has an answer now, which may name the model.
                self.look().await;
                answer::pieces(response, shape, growth).await
            }
            Err(_) => only(Outcome::failed(format!(
                "the route {path:?} is not a path that a request can have"
            ))),
        }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }

    /// Asks what the loaded model is, until there is one.
    async fn look(&self) {
        if self.served.get().is_none()
            && let Some(served) = self.served_now().await
        {
            self.served.get_or_init(|| served);
        }
    }

    async fn served_now(&self) -> Option<Served> {
        let health = Request::builder().uri("/health").body(Body::empty()).ok()?;
        let body = self.send(health).await.into_body();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.ok()?;
        let health: Value = serde_json::from_slice(&bytes).ok()?;
        let text = |key: &str| Some(health.get(key)?.as_str()?.to_owned());
        Some(Served {
            task: text("task")?,
            model: text("model")?,
            device: text("device")?,
            refiner: health.get("refiner") == Some(&Value::Bool(true)),
        })
    }
}

fn only(outcome: Outcome) -> BoxStream<'static, Piece> {
    stream::once(std::future::ready(Piece::Done(outcome))).boxed()
}
