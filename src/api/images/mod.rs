//! OpenAI's routes of pictures: JSON, or a form with files, becomes a request to an image model. What is asked, the pictures to begin
//! with and the forms of an answer are files of their own, since Vertex's instances have the same.

pub(super) mod answer;
mod delivery;
mod drawing;
pub(super) mod fields;
mod loras;
pub(super) mod sources;
mod stream;
mod upload;

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chandler_core::{ErrorKind, Input, Picture, RequestError, Task};
use serde_json::{Map, Value};

use self::answer::Asked;
use self::delivery::Delivery;
use self::fields::{SPELLINGS, Wish};
use self::sources::{Brought, Files};
use super::artifacts;
use super::dialogue::renamed;
use super::error::Dialect;
use super::json::{self, Fields};
use super::limits;
use super::multipart;
use super::observe::RequestId;
use super::openai::{or_error, terms};
use super::sse;
use super::state::Api;
use crate::engine::Subscription;
use crate::pictures;

/// Bytes that a form with pictures may have: two of them, and what is around.
pub(super) const MOST_OF_A_FORM: u64 = 102 << 20;
const CONTENT: &str = "send the picture as multipart/form-data with an `image` (curl -F image=@picture.png), or as application/json \
    with `image` (base64, a data URL or an address)";

/// What a route makes of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Generation,
    Edit,
    Variation,
}

impl Route {
    /// What the events of its stream begin with.
    fn event(self) -> &'static str {
        match self {
            Self::Generation => GENERATION,
            Self::Edit | Self::Variation => "image_edit",
        }
    }
}

/// What the events of a picture that is drawn anew begin with.
pub(super) const GENERATION: &str = "image_generation";

/// `POST /v1/images/generations`
pub(super) async fn generations(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(&api, id, Route::Generation, (&headers, body)).await
}

/// `POST /v1/images/edits`
pub(super) async fn edits(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(&api, id, Route::Edit, (&headers, body)).await
}

/// `POST /v1/images/variations`
pub(super) async fn variations(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(&api, id, Route::Variation, (&headers, body)).await
}

async fn respond(
    api: &Api,
    id: RequestId,
    route: Route,
    (headers, body): (&HeaderMap, Body),
) -> Response {
    let mut body = body.into_data_stream();
    let request = match read(api, route, headers, &mut body).await {
        Ok(request) => Ok(request),
        Err(Refusal(status, error)) => Err((status, error)),
    };
    // What follows the last part, and what is left of a body that was refused. Who asks before sending is answered before.
    if request.is_ok() || !headers.contains_key(header::EXPECT) {
        limits::drain(&mut body).await;
    }
    match request {
        Ok((wish, brought)) => or_error(serve(api, id, route.event(), (wish, brought)).await),
        Err((Some(status), error)) => Dialect::OpenAi.error_with(status, error).into_response(),
        Err((None, error)) => Dialect::OpenAi.error(error).into_response(),
    }
}

/// An error, and its status where the kind alone does not give it.
struct Refusal(Option<StatusCode>, RequestError);

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self(None, error)
    }
}

async fn read(
    api: &Api,
    route: Route,
    headers: &HeaderMap,
    body: &mut BodyDataStream,
) -> Result<(Wish, Brought), Refusal> {
    draws(api).await?;
    match boundary(route, headers)? {
        Some(boundary) => {
            let mut form = upload::read(&sources::kind(api), body, &boundary).await?;
            let files = (form.image.take(), form.mask.take());
            let (image, mask) = (files.0.map(Picture::new), files.1.map(Picture::new));
            for (name, file) in [("image", &image), ("mask", &mask)] {
                if file.is_some() && form.fields.contains_key(name) {
                    let message = format!("{name} is given twice, as a file and as a text");
                    return Err(RequestError::field(name, message).into());
                }
            }
            Ok(request(api, route, &form.fields, (image, mask)).await?)
        }
        None => {
            let limit = api.json_limit(headers).await?;
            let value = json::parse(&limits::read_chunks(body, limit).await?)?;
            Ok(request(api, route, json::object(&value)?, (None, None)).await?)
        }
    }
}

/// Whether the model draws, as far as its task says.
pub(super) fn is_image(task: Task) -> bool {
    matches!(
        task,
        Task::TextToImage | Task::ImageToImage | Task::ImageInpainting
    )
}

/// That the model draws, and a request has a place, before any picture is taken in.
async fn draws(api: &Api) -> Result<(), RequestError> {
    let does = api.engine.loaded().await?.task;
    if !is_image(does) {
        let message = format!(
            "this route is for {}; the model loaded here does {:?}",
            Task::TextToImage.tag(),
            does.tag()
        );
        return Err(RequestError::unsupported("model", message));
    }
    api.engine.has_place()
}

/// The boundary of a form; `None` of JSON, which is all that some clients of generations say nothing about.
fn boundary(route: Route, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok()).unwrap_or("");
    if let Some(boundary) = multipart::boundary(given) {
        return Ok(Some(boundary?));
    }
    let kind = given.split(';').next().unwrap_or("").trim();
    if route == Route::Generation || kind.eq_ignore_ascii_case("application/json") {
        return Ok(None);
    }
    let said = match kind {
        "" => "the body has no content type".to_owned(),
        kind => format!("the body's content type is {kind:?}"),
    };
    let error = RequestError::new(ErrorKind::BadInput, format!("{said}; {CONTENT}"));
    let error = error.with_code("unsupported_media_type");
    Err(Refusal(Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), error))
}

async fn request(
    api: &Api,
    route: Route,
    map: &Map<String, Value>,
    (image, mask): (Option<Picture>, Option<Picture>),
) -> Result<(Wish, Brought), RequestError> {
    let fields = Fields::new(map).spelled(SPELLINGS);
    let wish = fields::read(&fields)?;
    let prompt = wish.input.prompt.first.as_deref().unwrap_or_default();
    if route != Route::Variation && prompt.trim().is_empty() {
        return Err(fields.missing("prompt", "a text that says what is to be seen"));
    }
    let came = Files {
        image: image.is_some(),
        mask: mask.is_some(),
    };
    let sources = sources::read_beside(&sources::kind(api), &fields, came)?;
    let mut all = sources::bring(api, vec![sources]).await?;
    let mut brought = all.pop().unwrap_or_default();
    brought.image = image.or(brought.image);
    brought.mask = mask.or(brought.mask);
    if brought.image.is_none() && (route != Route::Generation || brought.mask.is_some()) {
        return Err(fields.missing("image", "the picture to begin with"));
    }
    if let Some(mask) = brought.mask.take() {
        brought.mask = Some(of_transparency(mask, &fields::name(&fields, "mask")).await?);
    }
    Ok((wish, brought))
}

/// OpenAI's mask as the model's.
async fn of_transparency(mask: Picture, name: &str) -> Result<Picture, RequestError> {
    let name = name.to_owned();
    let made = tokio::task::spawn_blocking(move || pictures::of_transparency(mask.bytes()));
    let made = made
        .await
        .map_err(|_| RequestError::internal("the mask could not be read"))?;
    let made = made.map_err(|error| RequestError::field(name.clone(), format!("{name}: {error}")));
    made.map(Picture::new)
}

/// Queues a request, once all is known to be there that its answer needs.
///
/// # Errors
/// The request's own, in its own words.
pub(super) async fn submit(
    api: &Api,
    id: &RequestId,
    (wish, brought): (Wish, Brought),
) -> Result<(Arc<Asked>, Subscription), RequestError> {
    let input = input(api, &wish, brought).await?;
    let submitted = api.engine.submit(Input::Image(Box::new(input))).await;
    let subscription = submitted.map_err(|error| in_its_words(error, &wish))?;
    Ok((Arc::new(asked(api, id, wish)), subscription))
}

/// What the model is asked.
pub(super) async fn input(
    api: &Api,
    wish: &Wish,
    brought: Brought,
) -> Result<chandler_core::ImageInput, RequestError> {
    let served = api.serves(wish.model.as_deref()).await?;
    let refuse = |message: String| Err(RequestError::unsupported("response_format", message));
    match wish.delivery {
        Delivery::Base64 => {}
        _ if wish.stream => {
            return refuse(
                "response_format must be b64_json in a stream, or leave it out".to_owned(),
            );
        }
        Delivery::Url if api.settings.artifacts.is_none() => {
            return refuse(format!(
                "response_format is url; {}; or set response_format to b64_json",
                artifacts::WANTED
            ));
        }
        Delivery::DataUrl | Delivery::Url => {}
    }
    let mut input = wish.with(brought.image, brought.mask);
    input.controls = brought.controls;
    if let Some(adapter) = served.adapter {
        input.loras.insert(0, (adapter, 1.0));
    }
    Ok(input)
}

/// What those need who write the answer.
pub(super) fn asked(api: &Api, id: &RequestId, wish: Wish) -> Asked {
    Asked {
        wish,
        model: api.settings.model_id.clone(),
        id: id.0.clone(),
        store: api.settings.artifacts.clone(),
    }
}

/// An error of the model with the names that the request has for its fields.
pub(super) fn in_its_words(error: RequestError, wish: &Wish) -> RequestError {
    let names: Vec<(&str, &str)> = wish
        .names
        .iter()
        .map(|(ours, theirs)| (*ours, theirs.as_str()))
        .collect();
    renamed(error, &names)
}

async fn serve(
    api: &Api,
    id: RequestId,
    event: &'static str,
    request: (Wish, Brought),
) -> Result<Response, RequestError> {
    let (asked, subscription) = submit(api, &id, request).await?;
    if asked.wish.stream {
        return streamed(api, id, event, (asked, subscription)).await;
    }
    let answer = subscription.collect().await;
    let answer = answer.map_err(|error| in_its_words(error, &asked.wish))?;
    Ok(Json(answer::body(&asked, answer).await?).into_response())
}

/// The events of a request.
pub(super) async fn streamed(
    api: &Api,
    id: RequestId,
    event: &'static str,
    (asked, subscription): (Arc<Asked>, Subscription),
) -> Result<Response, RequestError> {
    let writer = stream::Events::new(asked.clone(), event);
    let streamed = sse::respond(vec![subscription], writer, terms(api, id)).await;
    streamed.map_err(|(_, error)| in_its_words(error, &asked.wish))
}
