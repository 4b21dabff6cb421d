//! How a job's output gets to its client: inline, or as an object in a store with a signed address in its place.
//!
//! - A file in the output (a `data:` URI) goes to the store wherever there is one, as RunPod's image workers have it: its
//!   text becomes the signed address, and an output that is an object gets `artifact` (and `artifacts`, when there are several).
//! - A job that names a store of its own (`s3Config`) gets its output there. One without files is uploaded as JSON; it stays
//!   inline, too, with `artifact` added, so that a client that reads the answer itself is as well served.
//! - What is larger than may be sent inline becomes `{"artifact": {…}}`, or an error that says what to set up.

mod media;

use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Job, OutputError, Outputs};
use crate::storage::{
    Artifact, Destination, Object, Operator, StorageError, Uploader, from_job, object_key,
};

/// What the platform takes as a result (contract, section 4) of jobs of `/run`, and of those of `/runsync`, whose ids say so.
const RUN: usize = 10_000_000;
const RUNSYNC: usize = 20_000_000;
const SYNCHRONOUS: &str = "sync-";
/// Room for what is added to a body afterwards, such as `stopPod`.
const MARGIN: usize = 100;

/// Sends inline what fits and uploads the rest.
#[derive(Debug)]
pub struct OutputStore {
    uploader: Uploader,
    operator: Operator,
    /// Whether the operator has set up a store.
    own: bool,
    /// Bytes above which an output is uploaded, where there is a store; `None` is what the platform takes.
    inline: Option<usize>,
}

impl OutputStore {
    /// Checks what the operator has set up; reaches nothing.
    ///
    /// # Errors
    /// [`StorageError::Config`], naming what is missing.
    pub fn new(
        uploader: Uploader,
        operator: Operator,
        inline: Option<usize>,
    ) -> Result<Self, StorageError> {
        let own = operator.destination(SystemTime::now())?.is_some();
        Ok(Self {
            uploader,
            operator,
            own,
            inline,
        })
    }

    async fn fit(&self, job: &Job, mut body: Value) -> Result<Value, OutputError> {
        let Some(output) = body.get_mut("output") else {
            return Ok(body); // an error is sent as it is
        };
        let asked = from_job(&job.rest, &job.input)?;
        let own = match (&asked, self.own) {
            (None, true) => self.operator.destination(SystemTime::now())?,
            _ => None,
        };
        let Some(to) = asked.as_ref().or(own.as_ref()) else {
            let (bytes, limit) = (length(&body)?, limit(job));
            return match bytes > limit {
                true => Err(OutputError::TooLarge { bytes, limit }),
                false => Ok(body),
            };
        };
        let files = self.lift(to, job, output).await?;
        if files.is_empty() && asked.is_some() {
            self.add_copy(to, job, output).await?;
        } else {
            add_files(output, files)?;
        }
        let limit = limit(job);
        if length(&body)? > self.inline.map_or(limit, |inline| inline.min(limit))
            && let Some(output) = body.get_mut("output")
        {
            // After a failure nothing else would do: the platform does not take it as it is.
            let artifact = self.store_json(to, job, output).await?;
            *output = json!({ "artifact": artifact });
        }
        Ok(body)
    }

    /// Uploads the files in an output and puts their addresses in their places. The same file twice is one object.
    async fn lift(
        &self,
        to: &Destination,
        job: &Job,
        output: &mut Value,
    ) -> Result<Vec<Artifact>, OutputError> {
        let mut texts = Vec::new();
        media::find(output, &mut texts);
        let mut done: Vec<(String, Artifact)> = Vec::new();
        for text in texts {
            let again = done.iter().find(|(known, _)| known == text);
            if let Some((_, artifact)) = again {
                text.clone_from(&artifact.url);
                continue;
            }
            let Some(file) = media::decode(text) else {
                continue;
            };
            let artifact = self.store(to, job, file).await?;
            let known = std::mem::replace(text, artifact.url.clone());
            done.push((known, artifact));
        }
        Ok(done.into_iter().map(|(_, artifact)| artifact).collect())
    }

    /// Uploads an output that has no files, because its job asks for that, and says where it lies.
    async fn add_copy(
        &self,
        to: &Destination,
        job: &Job,
        output: &mut Value,
    ) -> Result<(), OutputError> {
        if !holds_fields(output) {
            return Ok(()); // A list of chunks or a plain text has no place for it, and stays what its client expects.
        }
        let artifact = self.store_json(to, job, output).await?;
        add_files(output, vec![artifact])
    }

    async fn store_json(
        &self,
        to: &Destination,
        job: &Job,
        output: &Value,
    ) -> Result<Artifact, OutputError> {
        let file = media::Media {
            content_type: "application/json".to_owned(),
            bytes: Bytes::from(serde_json::to_vec(output)?),
        };
        self.store(to, job, file).await
    }

    async fn store(
        &self,
        to: &Destination,
        job: &Job,
        file: media::Media,
    ) -> Result<Artifact, OutputError> {
        let extension = media::extension(&file.content_type);
        let object = Object {
            key: object_key(to.prefix(), &job.id, extension),
            body: file.bytes,
            content_type: file.content_type,
        };
        let artifact = self.uploader.upload(to, object).await?;
        tracing::info!(
            job = job.id,
            bytes = artifact.bytes,
            bucket = artifact.bucket_name,
            key = artifact.key,
            "output uploaded"
        );
        Ok(artifact)
    }
}

impl Outputs for OutputStore {
    fn deliver<'a>(
        &'a self,
        job: &'a Job,
        body: Value,
    ) -> BoxFuture<'a, Result<Value, OutputError>> {
        Box::pin(self.fit(job, body))
    }
}

/// The object that fields can be added to: the output, or the only element of a list, as OpenAI's route has it.
fn fields(output: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    match output {
        Value::Object(fields) => Some(fields),
        Value::Array(items) => match items.as_mut_slice() {
            [Value::Object(fields)] => Some(fields),
            _ => None,
        },
        _ => None,
    }
}

fn holds_fields(output: &mut Value) -> bool {
    fields(output).is_some_and(|fields| !fields.is_empty() && !fields.contains_key("artifact"))
}

fn add_files(output: &mut Value, files: Vec<Artifact>) -> Result<(), OutputError> {
    let (Some(first), Some(fields)) = (files.first(), fields(output)) else {
        return Ok(());
    };
    if !fields.contains_key("artifact") {
        fields.insert("artifact".to_owned(), serde_json::to_value(first)?);
    }
    if files.len() > 1 && !fields.contains_key("artifacts") {
        fields.insert("artifacts".to_owned(), serde_json::to_value(&files)?);
    }
    Ok(())
}

fn limit(job: &Job) -> usize {
    let limit = if job.id.starts_with(SYNCHRONOUS) {
        RUNSYNC
    } else {
        RUN
    };
    limit - MARGIN
}

/// Bytes of a value as JSON, without writing it anywhere.
fn length(value: &Value) -> Result<usize, serde_json::Error> {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value)?;
    Ok(counter.0)
}

#[cfg(test)]
mod tests;
