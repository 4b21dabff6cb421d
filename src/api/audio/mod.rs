//! OpenAI's routes of speech: a form with a file, or JSON, becomes a request to a speech recogniser. What is asked of the audio, the
//! audio itself and the forms of an answer are files of their own, since Vertex's instances have the same.

mod activity;
pub(super) mod answer;
pub(super) mod fields;
mod search;
pub(super) mod source;
mod stream;
mod upload;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chandler_core::{Audio, Collected, ErrorKind, Input, RequestError, SpeechTask, Task};
use serde_json::{Map, Value};

use self::fields::Wish;
pub(super) use self::upload::{AROUND, Sorts, over_limit};
use self::upload::{Next, Upload};
use super::dialogue::renamed;
use super::error::Dialect;
use super::json::{self, Fields, Spellings};
use super::limits;
use super::multipart::{self, Multipart};
use super::observe::RequestId;
use super::openai::{or_error, terms};
use super::sse;
use super::state::Api;

/// As everywhere, and what these routes and Groq's call the audio.
const SPELLINGS: &Spellings = &[
    ("prompt", &["initial_prompt"]),
    ("log_prob_threshold", &["logprob_threshold"]),
    ("vad_filter", &["enable_vad"]),
    ("audio", &["file"]),
    ("audio_url", &["audioUrl", "url"]),
];
const CONTENT: &str = "send the audio as multipart/form-data with a `file` (curl -F file=@speech.wav), or as application/json with \
    `audio` (base64) or `audio_url`";

/// `POST /v1/audio/transcriptions`
pub(super) async fn transcriptions(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(&api, id, SpeechTask::Transcribe, (&headers, body)).await
}

/// `POST /v1/audio/translations`
pub(super) async fn translations(
    State(api): State<Api>,
    Extension(id): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    respond(&api, id, SpeechTask::Translate, (&headers, body)).await
}

/// What the body is said to be.
enum Content {
    /// A form with this boundary.
    Form(String),
    Json,
}

async fn respond(
    api: &Api,
    id: RequestId,
    task: SpeechTask,
    (headers, body): (&HeaderMap, Body),
) -> Response {
    let mut body = body.into_data_stream();
    let content = match hears(api).await {
        Ok(()) => content(headers),
        Err(error) => Err((None, error)),
    };
    let content = match content {
        Ok(content) => content,
        Err((status, error)) => {
            // Who asks before sending is answered before; others are halfway through, and read no answer until they are done.
            if !headers.contains_key(header::EXPECT) {
                limits::drain(&mut body).await;
            }
            return match status {
                Some(status) => Dialect::OpenAi.error_with(status, error).into_response(),
                None => Dialect::OpenAi.error(error).into_response(),
            };
        }
    };
    let request = match &content {
        Content::Form(boundary) => of_form(api, task, &mut body, boundary).await,
        Content::Json => of_json(api, task, &mut body, headers).await,
    };
    // What follows the last part, and what is left of a body that was refused.
    limits::drain(&mut body).await;
    let answer = match request {
        Ok(request) => serve(api, id, request, answer::response).await,
        Err(error) => Err(error),
    };
    or_error(answer.map_err(|error| match content {
        Content::Form(_) => renamed(error, &[("audio", "file")]),
        Content::Json => error,
    }))
}

/// That the model hears, and somebody's audio has a place, before any of it is taken in.
async fn hears(api: &Api) -> Result<(), RequestError> {
    let does = api.engine.loaded().await?.task;
    if does != Task::AutomaticSpeechRecognition {
        let message = format!(
            "this route is for {}; the model loaded here does {:?}",
            Task::AutomaticSpeechRecognition.tag(),
            does.tag()
        );
        return Err(RequestError::unsupported("model", message));
    }
    api.engine.has_place()
}

fn content(headers: &HeaderMap) -> Result<Content, (Option<StatusCode>, RequestError)> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok()).unwrap_or("");
    if let Some(boundary) = multipart::boundary(given) {
        return boundary.map(Content::Form).map_err(|error| (None, error));
    }
    let kind = given.split(';').next().unwrap_or("").trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(Content::Json);
    }
    let said = match kind {
        "" => "the body has no content type".to_owned(),
        kind => format!("the body's content type is {kind:?}"),
    };
    let error = RequestError::new(ErrorKind::BadInput, format!("{said}; {CONTENT}"));
    let error = error.with_code("unsupported_media_type");
    Err((Some(StatusCode::UNSUPPORTED_MEDIA_TYPE), error))
}

type Request = (Audio, Wish);

async fn of_form(
    api: &Api,
    task: SpeechTask,
    body: &mut BodyDataStream,
    boundary: &str,
) -> Result<Request, RequestError> {
    let mut form = Multipart::new(body, boundary);
    let mut upload = Upload::default();
    while let Next::File = upload.texts(&mut form).await? {
        // What is wrong with the fields before the file is told before the file is read.
        let early = fields::read(&Fields::new(&upload.fields).spelled(SPELLINGS))?;
        api.serves(early.model.as_deref()).await?;
        upload.bytes(&mut form, api.settings.upload_limit).await?;
    }
    let file = upload.file.take();
    let wish = wish(api, task, &upload.fields).await?;
    let Some(bytes) = file else {
        let audio = elsewhere(api, &upload.fields).await?;
        return Ok((audio, wish));
    };
    if bytes.is_empty() {
        let message = "file is empty; it must be an audio file";
        return Err(RequestError::field("file", message));
    }
    Ok((Audio::bytes(bytes), wish))
}

async fn of_json(
    api: &Api,
    task: SpeechTask,
    body: &mut BodyDataStream,
    headers: &HeaderMap,
) -> Result<Request, RequestError> {
    let limit = api.json_limit(headers).await?;
    let value = json::parse(&limits::read_chunks(body, limit).await?)?;
    let fields = json::object(&value)?;
    let wish = wish(api, task, fields).await?;
    Ok((elsewhere(api, fields).await?, wish))
}

/// What is asked, by a model that is served.
async fn wish(
    api: &Api,
    task: SpeechTask,
    fields: &Map<String, Value>,
) -> Result<Wish, RequestError> {
    let fields = Fields::new(fields).spelled(SPELLINGS);
    let mut wish = fields::read(&fields)?;
    fields::agree(&wish, &fields)?;
    fields::agree_on_times(&wish, &fields)?;
    api.serves(wish.model.as_deref()).await?;
    if task == SpeechTask::Translate {
        wish.input.task = task;
    }
    Ok(wish)
}

/// Audio that is no file of a form.
async fn elsewhere(api: &Api, fields: &Map<String, Value>) -> Result<Audio, RequestError> {
    let fields = Fields::new(fields).spelled(SPELLINGS);
    let Some(source) = source::read(&fields, api.settings.upload_limit)? else {
        let wanted = "an audio file, as a part of the form (curl -F file=@speech.wav)";
        return Err(fields.missing("file", wanted));
    };
    let mut all = source::bring(api, vec![source]).await?;
    all.pop()
        .ok_or_else(|| RequestError::internal("the audio was lost on its way"))
}

/// Runs a request and writes its answer, whole or streamed.
pub(super) async fn serve(
    api: &Api,
    id: RequestId,
    (audio, mut wish): Request,
    whole: impl FnOnce(Collected, &Wish) -> Response,
) -> Result<Response, RequestError> {
    let mut input = wish.input.clone();
    input.audio = audio;
    wish.input.audio = Audio::default();
    let subscription = api.engine.submit(Input::Speech(input)).await?;
    if wish.stream {
        let writer = stream::Events::new(wish);
        let streamed = sse::respond(vec![subscription], writer, terms(api, id)).await;
        return streamed.map_err(|(_, error)| error);
    }
    Ok(whole(subscription.collect().await?, &wish))
}
