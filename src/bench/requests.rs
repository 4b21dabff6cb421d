//! Prompts as requests in the endpoint's own words, made once before anything is measured. How the answers are read is `ask`'s.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chandler_core::Task;
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::address::{Kind, below};
use super::finding::Endpoint;
use super::prompts::{File, Prompt, What};
use super::{BenchError, wav};

const JSON: &str = "application/json";
/// RunPod's bounds of a job's time to run and to live, in milliseconds (its documentation of `policy`).
const EXECUTION: (u64, u64) = (5_000, 604_800_000);
const LIFE: (u64, u64) = (10_000, 604_800_000);
/// How long `/runsync` may hold a request, in milliseconds (same place).
const WAIT: (u64, u64) = (1_000, 300_000);

/// How jobs are handed to a RunPod queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Submit {
    /// `/runsync`, which answers when the job is done.
    #[default]
    RunSync,
    /// `/run`, and then `/status` until the job is done.
    Run,
}

/// What all requests have in common.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tokens of an answer at most, where the prompt does not say.
    pub max_tokens: u32,
    /// Denoising steps; the model's own where not given.
    pub steps: Option<u32>,
    /// Width and height of pictures.
    pub size: Option<(u32, u32)>,
    /// How jobs are handed in.
    pub submit: Submit,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Whether to wait as long as `Retry-After` says.
    pub patient: bool,
}

/// A request that only has to be sent.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) url: Url,
    pub(super) content_type: String,
    pub(super) body: Bytes,
    /// Denoising steps that it asks for.
    pub(super) steps: Option<u64>,
    /// Seconds of sound in it, as far as its header says.
    pub(super) audio_s: Option<f64>,
}

/// What a model does, as far as requests differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Writes,
    Hears,
    Draws,
}

impl Does {
    pub(super) fn of(task: Task) -> Result<Self, BenchError> {
        match task {
            Task::TextGeneration => Ok(Self::Writes),
            Task::AutomaticSpeechRecognition => Ok(Self::Hears),
            Task::TextToImage | Task::ImageToImage | Task::ImageInpainting => Ok(Self::Draws),
            other => Err(BenchError::Task {
                task: other.tag(),
                known: "text-generation, automatic-speech-recognition, text-to-image and image-to-image",
            }),
        }
    }
}

/// Makes requests out of prompts.
pub(super) struct Maker<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) does: Does,
    pub(super) options: &'a Options,
}

impl Maker<'_> {
    /// The request for a prompt; `number` is for errors.
    ///
    /// # Errors
    /// [`BenchError::Prompt`].
    pub(super) fn ready(&self, number: usize, prompt: &Prompt) -> Result<Ready, BenchError> {
        let refuse = |is, wanted| BenchError::Prompt {
            number,
            is,
            task: self.endpoint.task.tag(),
            wanted,
        };
        match (self.does, &prompt.what) {
            (Does::Writes, What::Text(_) | What::Chat(_))
            | (Does::Hears, What::Audio(_))
            | (Does::Draws, What::Text(_) | What::Picture(..)) => {}
            (Does::Writes, _) => return Err(refuse("a file", "give a prompt or messages")),
            (Does::Hears, _) => return Err(refuse("no audio file", "give the path of one")),
            (Does::Draws, _) => {
                return Err(refuse("no prompt", "give a prompt, or prompt and image"));
            }
        }
        let (url, content_type, body) = match self.endpoint.kind {
            Kind::OpenAi => self.openai(prompt),
            Kind::Predict => {
                let body = json!({"instances": [self.instance(prompt)]});
                (self.endpoint.base.clone(), JSON.to_owned(), text(&body))
            }
            Kind::RunPod => self.job(prompt),
        };
        Ok(Ready {
            url,
            content_type,
            body,
            steps: self.options.steps.map(u64::from),
            audio_s: match &prompt.what {
                What::Audio(file) => wav::seconds(&file.bytes),
                _ => None,
            },
        })
    }

    fn max_tokens(&self, prompt: &Prompt) -> u32 {
        prompt.max_tokens.unwrap_or(self.options.max_tokens)
    }

    fn openai(&self, prompt: &Prompt) -> (Url, String, Bytes) {
        let at = |route| below(&self.endpoint.base, route);
        let model = self.endpoint.model.as_deref().unwrap_or("default");
        match &prompt.what {
            What::Audio(file) => {
                let fields = [
                    ("model", model.to_owned()),
                    ("response_format", "verbose_json".into()),
                ];
                let (kind, body) = form(&fields, ("file", file));
                (at("/audio/transcriptions"), kind, body)
            }
            What::Picture(words, file) => {
                let mut fields = vec![("model", model.to_owned()), ("prompt", words.clone())];
                if let Some((width, height)) = self.options.size {
                    fields.push(("size", format!("{width}x{height}")));
                }
                if let Some(steps) = self.options.steps {
                    fields.push(("steps", steps.to_string()));
                }
                let (kind, body) = form(&fields, ("image", file));
                (at("/images/edits"), kind, body)
            }
            What::Text(words) if self.does == Does::Draws => {
                let mut body = json!({"model": model, "prompt": words, "n": 1});
                if let Some((width, height)) = self.options.size {
                    body["size"] = format!("{width}x{height}").into();
                }
                if let Some(steps) = self.options.steps {
                    body["steps"] = steps.into();
                }
                (at("/images/generations"), JSON.to_owned(), text(&body))
            }
            What::Text(_) | What::Chat(_) => {
                let body = json!({
                    "model": model,
                    "messages": messages(&prompt.what),
                    "max_tokens": self.max_tokens(prompt),
                    "temperature": 0,
                    "stream": true,
                    "stream_options": {"include_usage": true},
                });
                (at("/chat/completions"), JSON.to_owned(), text(&body))
            }
        }
    }

    /// An instance of `/predict`'s, with its parameters in it: the words that Vertex's public containers share.
    fn instance(&self, prompt: &Prompt) -> Value {
        let mut map = self.input(prompt);
        if self.does == Does::Writes {
            map.insert("max_tokens".into(), self.max_tokens(prompt).into());
            map.insert("temperature".into(), 0.into());
        }
        Value::Object(map)
    }

    /// A job: the inputs of RunPod's own workers. It is not to outlive the patience for it.
    fn job(&self, prompt: &Prompt) -> (Url, String, Bytes) {
        let mut input = self.input(prompt);
        if self.does == Does::Writes {
            let sampling = json!({"max_tokens": self.max_tokens(prompt), "temperature": 0});
            input.insert("sampling_params".into(), sampling);
        }
        let millis = u64::try_from(self.options.timeout.as_millis()).unwrap_or(u64::MAX);
        let within = |(low, high): (u64, u64)| millis.clamp(low, high);
        let body = json!({
            "input": input,
            "policy": {"executionTimeout": within(EXECUTION), "ttl": within(LIFE)},
        });
        let mut url = match self.options.submit {
            Submit::RunSync => below(&self.endpoint.base, "/runsync"),
            Submit::Run => below(&self.endpoint.base, "/run"),
        };
        if self.options.submit == Submit::RunSync {
            let wait = within(WAIT).to_string();
            url.query_pairs_mut().append_pair("wait", &wait);
        }
        (url, JSON.to_owned(), text(&body))
    }

    fn input(&self, prompt: &Prompt) -> Map<String, Value> {
        let mut map = Map::new();
        match &prompt.what {
            What::Text(words) => {
                map.insert("prompt".into(), words.as_str().into());
            }
            What::Chat(list) => {
                map.insert("messages".into(), list.clone().into());
            }
            What::Audio(file) => {
                map.insert("audio_base64".into(), STANDARD.encode(&file.bytes).into());
            }
            What::Picture(words, file) => {
                map.insert("prompt".into(), words.as_str().into());
                map.insert("image_base64".into(), STANDARD.encode(&file.bytes).into());
            }
        }
        if self.does == Does::Draws {
            if let Some((width, height)) = self.options.size {
                map.insert("width".into(), width.into());
                map.insert("height".into(), height.into());
            }
            if let Some(steps) = self.options.steps {
                map.insert("num_inference_steps".into(), steps.into());
            }
        }
        map
    }
}

fn messages(what: &What) -> Value {
    match what {
        What::Text(words) => json!([{"role": "user", "content": words}]),
        What::Chat(messages) => messages.clone().into(),
        What::Audio(_) | What::Picture(..) => json!([]),
    }
}

fn text(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

/// A form with a file in it, and its content type.
fn form(fields: &[(&str, String)], (field, file): (&str, &File)) -> (String, Bytes) {
    let boundary = format!("chandler-{}", uuid::Uuid::new_v4().simple());
    let mut body = Vec::with_capacity(file.bytes.len() + 1024);
    for (name, value) in fields {
        let part = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    // A name that would end its own quotes, or the line, is no name to send.
    let name: String = file
        .name
        .chars()
        .filter(|c| !"\"\\\r\n".contains(*c))
        .collect();
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(&file.bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (
        format!("multipart/form-data; boundary={boundary}"),
        body.into(),
    )
}
