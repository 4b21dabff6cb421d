//! Instances for a speech recogniser: all are read and their audio is fetched before any is heard; and the same of one body without
//! instances. Apart from `instance`, which reads requests for text.

use axum::Json;
use axum::response::{IntoResponse, Response};
use chandler_core::{Input, RequestError, Task};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use super::predictions::of_instance;
use super::{grouped, task, transcripts};
use crate::api::audio::fields::{self, SPELLINGS, Wish};
use crate::api::audio::{self, answer, source};
use crate::api::json::Fields;
use crate::api::observe::RequestId;
use crate::api::openai::sampling::refuse;
use crate::api::openai::terms;
use crate::api::sse;
use crate::api::state::Api;
use crate::kinds::kind_of;

const DOES: Task = Task::AutomaticSpeechRecognition;

/// How the predictions of instances are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// All at the end.
    Whole,
    /// The same as lists of texts.
    Grouped,
    /// Segments as they are final, and the predictions at the end.
    Streamed {
        /// Whether it is told how far each is.
        progress: bool,
    },
}

impl Manner {
    /// What a body with instances asks for, beside them.
    pub(super) fn of(body: &Fields<'_>, is_grouped: bool) -> Result<Self, RequestError> {
        let streams = body.boolean("stream")?.unwrap_or(false);
        let progress = body.boolean("progress")?.unwrap_or(false);
        match (is_grouped, streams) {
            (true, true) => {
                let message = "stream is true beside grouped, whose answer is whole; leave out one";
                Err(RequestError::unsupported("stream", message))
            }
            (_, false) if progress => {
                let message = "progress is true, and only a stream tells how far it is: set stream to true, or leave out progress";
                Err(RequestError::field("progress", message))
            }
            (true, false) => Ok(Self::Grouped),
            (false, true) => Ok(Self::Streamed { progress }),
            (false, false) => Ok(Self::Whole),
        }
    }
}

/// The predictions of instances.
pub(super) async fn predictions(
    api: &Api,
    id: &RequestId,
    (list, parameters): (&[Value], Option<&Map<String, Value>>),
    manner: Manner,
) -> Result<Response, RequestError> {
    let is_grouped = manner == Manner::Grouped;
    let (mut wishes, mut sources) = (Vec::new(), Vec::new());
    for (number, value) in list.iter().enumerate() {
        let (wish, source) = instance(api, number, value, parameters)?;
        if is_grouped && wish.input.only_language {
            let name = format!("instances[{number}].detect_language");
            let message = format!("{name} has no place in a grouped answer, which has texts only");
            return Err(RequestError::unsupported(name, message));
        }
        wishes.push(wish);
        sources.push(source);
    }
    for (number, wish) in wishes.iter().enumerate() {
        let served = api.serves(wish.model.as_deref()).await;
        served.map_err(|error| of_instance(number, false, error))?;
    }
    let audio = source::bring(api, sources).await?;
    let inputs = wishes.iter().zip(audio).map(|(wish, audio)| {
        let mut input = wish.input.clone();
        input.audio = audio;
        Input::Speech(input)
    });
    let submitted = api.engine.submit_all(inputs.collect()).await;
    let subscriptions = submitted.map_err(|(number, error)| of_instance(number, false, error))?;
    if let Manner::Streamed { progress } = manner {
        let writer = transcripts::Events::new(wishes, progress);
        let streamed = sse::respond(subscriptions, writer, terms(api, id.clone())).await;
        return streamed.map_err(|(number, error)| of_instance(number, false, error));
    }
    // Why together: an answer that nobody reads is stalled by the engine.
    let answers = subscriptions
        .into_iter()
        .enumerate()
        .map(|(number, one)| async move {
            let answer = one.collect().await;
            answer.map_err(|error| of_instance(number, false, error))
        });
    let answers = try_join_all(answers).await?.into_iter().zip(&wishes);
    let predictions = answers.map(|(answer, wish)| answer::prediction(answer, wish));
    if is_grouped {
        let texts = predictions.map(|mut prediction| prediction["text"].take());
        return Ok(Json(grouped::transcripts(texts.collect())).into_response());
    }
    let predictions: Vec<Value> = predictions.collect();
    Ok(Json(json!({"predictions": predictions})).into_response())
}

fn instance(
    api: &Api,
    number: usize,
    value: &Value,
    parameters: Option<&Map<String, Value>>,
) -> Result<(Wish, source::Source), RequestError> {
    let name = format!("instances[{number}]");
    let Value::Object(own) = value else {
        let message = format!(
            "{name} is {}; the model loaded here does {:?}: it must be an object with {}",
            kind_of(value),
            DOES.tag(),
            source::WANTED
        );
        return Err(RequestError::unsupported(name, message));
    };
    let nested = own.get("parameters").and_then(Value::as_object);
    let fields = Fields::within(name.clone(), own)
        .or(&format!("{name}.parameters"), nested)
        .or("parameters", parameters)
        .spelled(SPELLINGS);
    task::check(&fields, DOES)?;
    let whole_only = "an instance does not stream by itself; set stream beside the instances, or send the instance's object alone to \
         this path";
    refuse(&fields, "stream", |v| v == false, whole_only)?;
    request(api, &name, &fields)
}

/// What is asked, and of which audio; `name` is what an error calls the whole.
fn request(
    api: &Api,
    name: &str,
    fields: &Fields<'_>,
) -> Result<(Wish, source::Source), RequestError> {
    let wish = fields::read(fields)?;
    fields::agree(&wish, fields)?;
    let Some(source) = source::read(fields, api.settings.upload_limit)? else {
        let message = format!(
            "{name} has no audio; the model loaded here does {:?}: it must have {}",
            DOES.tag(),
            source::WANTED
        );
        return Err(RequestError::unsupported(name, message));
    };
    Ok((wish, source))
}

/// A body without instances: its prediction, or OpenAI's events of it where it asks for a stream.
pub(super) async fn raw(
    api: &Api,
    id: RequestId,
    body: &Map<String, Value>,
) -> Result<Response, RequestError> {
    let fields = Fields::new(body).spelled(SPELLINGS);
    task::check(&fields, api.engine.loaded().await?.task)?;
    let (wish, source) = request(api, "the body", &fields)?;
    api.serves(wish.model.as_deref()).await?;
    let mut brought = source::bring(api, vec![source]).await?;
    let audio = brought.pop();
    let audio = audio.ok_or_else(|| RequestError::internal("the audio was lost on its way"))?;
    audio::serve(api, id, (audio, wish), |answer, wish| {
        Json(answer::prediction(answer, wish)).into_response()
    })
    .await
}
