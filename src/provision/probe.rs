//! A real prediction, and whether its answer is one. A 200 whose body is an error is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chandler_core::Task;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::{Api, Patience};
use super::bearer::Bearer;
use super::{Access, Call, Door, Passage, ProvisionError, Secrets};

/// Between two looks at a queued job.
const LOOK: Duration = Duration::from_secs(2);

/// What came of a probe.
#[derive(Debug)]
pub enum Probed {
    /// A prediction, and how long it took.
    Good(Duration),
    /// No worker serves yet; what it said.
    NotYet(String),
    /// An answer that is no prediction.
    Wrong(String),
}

/// Asks for one prediction of a task, once, for `time` at most, and looks at the answer. A queued one is taken back when
/// `stop` is set.
///
/// # Errors
/// When the endpoint does not let us in, or this machine cannot ask at all.
pub async fn probe(
    access: &Access,
    task: Task,
    (patience, time): (Patience, Duration),
    stop: &AtomicBool,
) -> Result<Probed, ProvisionError> {
    let patience = Patience {
        tries: 1,
        time,
        ..patience
    };
    let api = match &access.passage {
        Some(passage) => passage.api.clone().patient(patience),
        None => Api::new(
            "the endpoint",
            std::sync::Arc::new(Bearer {
                key: access.bearer.clone(),
                remedy: "the key must be allowed to call the endpoint",
            }),
            patience,
        )?,
    };
    let began = tokio::time::Instant::now();
    let input = input(task);
    let answer = match (access.door, &access.passage) {
        (Door::Http, Some(passage)) => through(&api, passage, input).await,
        (Door::Http, None) => {
            let url = format!("{}/predict", access.url);
            predict(&api, url, input).await
        }
        (Door::Vertex, _) => predict(&api, format!("{}:predict", access.url), input).await,
        (Door::RunPodQueue, _) => queued(&api, access, input, stop).await,
    }?;
    let prediction = match answer {
        Ok(prediction) => prediction,
        Err(not_yet_or_wrong) => return Ok(not_yet_or_wrong),
    };
    Ok(match flaw(task, &prediction) {
        None => Probed::Good(began.elapsed()),
        Some(flaw) => Probed::Wrong(flaw),
    })
}

type Prediction = Result<Value, Probed>;

/// One instance through a platform, with the worker's own key beside the platform's login.
async fn through(api: &Api, passage: &Passage, input: Value) -> Result<Prediction, ProvisionError> {
    let mut call = prediction(format!("{}/predict", passage.url), input);
    let mut secrets = Secrets::default();
    if let Some(key) = &passage.key {
        call = call.header("x-api-key", Secrets::placeholder("worker key"));
        secrets.insert("worker key", key.clone());
    }
    predicted(api, &call, &secrets).await
}

/// One instance to a route of `/predict`'s kind.
async fn predict(api: &Api, url: String, input: Value) -> Result<Prediction, ProvisionError> {
    predicted(api, &prediction(url, input), &Secrets::default()).await
}

fn prediction(url: String, input: Value) -> Call {
    Call::new("make a prediction", Method::POST, url).with(json!({"instances": [input]}))
}

async fn predicted(
    api: &Api,
    call: &Call,
    secrets: &Secrets,
) -> Result<Prediction, ProvisionError> {
    let reply = match asked(api, call, secrets).await? {
        Ok(reply) => reply,
        Err(not_yet) => return Ok(Err(not_yet)),
    };
    let prediction = reply
        .pointer("/predictions/0")
        .filter(|_| reply.get("error").is_none());
    Ok(prediction
        .cloned()
        .ok_or_else(|| Probed::Wrong(format!("it holds no prediction: {}", short(&reply)))))
}

/// A job to RunPod's queue: one, looked at until it ends, and cancelled when it does not.
async fn queued(
    api: &Api,
    access: &Access,
    input: Value,
    stop: &AtomicBool,
) -> Result<Prediction, ProvisionError> {
    let time = api.patience().time;
    let end = tokio::time::Instant::now() + time;
    let run = Call::new(
        "queue a prediction",
        Method::POST,
        format!("{}/run", access.url),
    )
    .with(json!({"input": input}));
    let mut job = match asked(api, &run, &Secrets::default()).await? {
        Ok(job) => job,
        Err(not_yet) => return Ok(Err(not_yet)),
    };
    let Some(id) = job.get("id").and_then(Value::as_str).map(str::to_owned) else {
        return Ok(Err(Probed::Wrong(format!(
            "the queue gave no job id: {}",
            short(&job)
        ))));
    };
    loop {
        match job.get("status").and_then(Value::as_str) {
            Some("COMPLETED") => return Ok(completed(&job)),
            Some("FAILED" | "CANCELLED" | "TIMED_OUT") => {
                return Ok(Err(Probed::Wrong(format!(
                    "the job ended as {}",
                    short(&job)
                ))));
            }
            _ if tokio::time::Instant::now() >= end || stop.load(Ordering::Relaxed) => {
                let url = format!("{}/cancel/{id}", access.url);
                let cancel = Call::new("cancel the queued prediction", Method::POST, url);
                api.send(&cancel, &Secrets::default()).await?;
                return Ok(Err(Probed::NotYet(format!(
                    "no worker took the job in {} s",
                    time.as_secs()
                ))));
            }
            _ => tokio::time::sleep(LOOK.mul_f64(api.patience().pace)).await,
        }
        let url = format!("{}/status/{id}", access.url);
        let status = Call::new("look at the queued prediction", Method::GET, url);
        // One lost answer is no reason to queue another job.
        if let Ok(seen) = asked(api, &status, &Secrets::default()).await? {
            job = seen;
        }
    }
}

/// The output of a job that ended well, as far as RunPod is concerned.
fn completed(job: &Value) -> Prediction {
    let output = job.get("output").unwrap_or(&Value::Null);
    match output.get("error").or_else(|| output.get("Error")) {
        Some(error) => Err(Probed::Wrong(format!(
            "the worker answers with an error: {}",
            short(error)
        ))),
        None => Ok(output.clone()),
    }
}

/// The body of a 200; what is said meanwhile when there is none yet.
async fn asked(
    api: &Api,
    call: &Call,
    secrets: &Secrets,
) -> Result<Result<Value, Probed>, ProvisionError> {
    let reply = match api.ask(call, secrets).await {
        Ok(reply) => reply,
        Err(
            error @ (ProvisionError::Busy { .. }
            | ProvisionError::Unreachable { .. }
            | ProvisionError::Ambiguous { .. }),
        ) => return Ok(Err(Probed::NotYet(error.to_string()))),
        Err(error) => return Err(error),
    };
    // RunPod's load balancer, with a status that its documents do not tell.
    if reply.at("/error") == "no workers available" {
        return Ok(Err(Probed::NotYet("no worker came in time".to_owned())));
    }
    Ok(match reply.status {
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => Ok(reply.body),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(api.refusal(call, secrets, &reply));
        }
        // A route that a gateway does not know yet, and whatever else is said while a worker starts.
        StatusCode::NOT_FOUND => Err(Probed::NotYet(short(&reply.body))),
        status if status.is_server_error() => Err(Probed::NotYet(short(&reply.body))),
        status => Err(Probed::Wrong(format!(
            "HTTP {}: {}",
            status.as_u16(),
            short(&reply.body)
        ))),
    })
}

/// The smallest thing that each task can be asked.
fn input(task: Task) -> Value {
    match task {
        Task::AutomaticSpeechRecognition => json!({"audio": BASE64.encode(tone())}),
        Task::TextToImage | Task::ImageToImage | Task::ImageInpainting => {
            json!({"prompt": "a red circle", "num_inference_steps": 1, "seed": 1})
        }
        _ => json!({"prompt": "Say hello.", "max_tokens": 4, "temperature": 0}),
    }
}

/// What is wrong with a prediction.
fn flaw(task: Task, prediction: &Value) -> Option<String> {
    match task {
        // Nothing is said in a tone, so nothing may be heard in it.
        Task::AutomaticSpeechRecognition => {
            let heard = ["text", "transcription"]
                .iter()
                .any(|key| prediction.get(key).is_some_and(Value::is_string));
            (!heard && !prediction.is_string())
                .then(|| format!("it has no transcript: {}", short(prediction)))
        }
        Task::TextToImage | Task::ImageToImage | Task::ImageInpainting => {
            let picture = pictures(prediction).any(is_picture);
            (!picture).then(|| format!("it has no picture: {}", short(prediction)))
        }
        _ => {
            let text = prediction
                .as_str()
                .or_else(|| prediction.get("text")?.as_str());
            // A model may have nothing to add to a bare prompt; that it has run is what counts.
            let tokens = prediction
                .pointer("/usage/completion_tokens")
                .and_then(Value::as_u64);
            let ran = tokens.is_some_and(|tokens| tokens > 0);
            let said = text.is_some_and(|text| ran || !text.is_empty());
            (!said).then(|| format!("it has no text: {}", short(prediction)))
        }
    }
}

/// Every text in an answer that may be a picture.
fn pictures(value: &Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match value {
        Value::String(text) => Box::new(std::iter::once(text.as_str())),
        Value::Array(list) => Box::new(list.iter().flat_map(pictures)),
        Value::Object(fields) => Box::new(fields.values().flat_map(pictures)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Base64 or a data URL of a PNG, JPEG or WebP, or an address where one was put.
fn is_picture(text: &str) -> bool {
    if text.starts_with("http://") || text.starts_with("https://") {
        return true;
    }
    let encoded = text
        .split_once("base64,")
        .map_or(text, |(_, encoded)| encoded);
    let Ok(bytes) = BASE64.decode(encoded) else {
        return false;
    };
    bytes.starts_with(b"\x89PNG")
        || bytes.starts_with(b"\xff\xd8\xff")
        || bytes.starts_with(b"RIFF")
}

/// A second of 440 Hz as a WAV file of 16 kHz.
fn tone() -> Vec<u8> {
    const RATE: u32 = 16_000;
    let samples: Vec<u8> = (0..RATE)
        .map(|i| (std::f32::consts::TAU * 440.0 * i as f32 / RATE as f32).sin() * 8000.0)
        .flat_map(|sample| (sample as i16).to_le_bytes())
        .collect();
    let bytes = samples.len() as u32;
    let mut wav = Vec::from(*b"RIFF");
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16u32.to_le_bytes());
    for half in [1u16, 1] {
        wav.extend(half.to_le_bytes()); // PCM, one channel
    }
    wav.extend(RATE.to_le_bytes());
    wav.extend((RATE * 2).to_le_bytes());
    for half in [2u16, 16] {
        wav.extend(half.to_le_bytes()); // bytes of a frame, bits of a sample
    }
    wav.extend(b"data");
    wav.extend(bytes.to_le_bytes());
    wav.extend(samples);
    wav
}

fn short(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_prediction_only_when_it_holds_what_the_task_gives() {
        let png = BASE64.encode(b"\x89PNG....");
        for (task, good) in [
            (Task::TextGeneration, json!({"text": "Hello"})),
            (Task::TextGeneration, json!("Hello")),
            (
                Task::TextGeneration,
                json!({"text": "", "usage": {"completion_tokens": 1}}),
            ),
            (Task::AutomaticSpeechRecognition, json!({"text": ""})),
            (Task::TextToImage, json!({"images": [png]})),
            (
                Task::TextToImage,
                json!({"image_url": format!("data:image/png;base64,{png}")}),
            ),
        ] {
            assert_eq!(flaw(task, &good), None, "{good}");
        }
        for (task, bad) in [
            (Task::TextGeneration, json!({"text": ""})),
            (Task::TextGeneration, json!({"error": "no"})),
            (Task::AutomaticSpeechRecognition, json!({"segments": []})),
            (Task::TextToImage, json!({"images": ["AAAA"]})),
            (Task::TextToImage, json!({"images": []})),
        ] {
            assert!(flaw(task, &bad).is_some(), "{bad}");
        }
        let error = json!({"status": "COMPLETED", "output": {"error": "cuda"}});
        assert!(matches!(completed(&error), Err(Probed::Wrong(_))));
    }
}
