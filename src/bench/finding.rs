//! Finding out what an endpoint is, from `/v1/models` and `/health`, where the address and the flags leave something open.
//! Nothing is assumed: what nobody says is asked for by name.

use std::time::Duration;

use chandler_core::Task;
use reqwest::Url;
use serde_json::Value;

use super::BenchError;
use super::address::{Address, Kind, below};
use super::ask::{self, Key, client};
use super::requests::Does;
use crate::reach;

/// How long each question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What somebody has said of the endpoint.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// How it is asked.
    pub kind: Option<Kind>,
    /// What its model does.
    pub task: Option<Task>,
    /// Which model requests name.
    pub model: Option<String>,
}

/// An endpoint that can be measured.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// How it is asked.
    pub kind: Kind,
    /// What its routes are below; with [`Kind::Predict`], the one route itself.
    pub base: Url,
    /// The model's name, where requests name one or the endpoint told it.
    pub model: Option<String>,
    /// What the model does.
    pub task: Task,
}

impl Endpoint {
    /// What is asked, as benchmark records name it.
    pub fn kind_name(&self) -> &'static str {
        match (self.kind, Does::of(self.task)) {
            (Kind::OpenAi, Ok(Does::Hears)) => "openai-audio",
            (Kind::OpenAi, Ok(Does::Draws)) => "openai-images",
            (Kind::OpenAi, _) => "openai-chat",
            (Kind::Predict, _) => "predict",
            (Kind::RunPod, _) => "runpod",
        }
    }

    /// Scheme and host: what may be told of an address that may hold a key.
    pub fn place(&self) -> String {
        reach::place(&self.base)
    }
}

/// What an endpoint has told of its model.
#[derive(Debug, Default)]
struct Told {
    model: Option<String>,
    task: Option<Task>,
    /// Models that it serves, where they are several and none is the first.
    many: Vec<String>,
    /// Why it serves nobody yet.
    loading: Option<String>,
}

/// Finds out what is open.
///
/// # Errors
/// [`BenchError::Untold`] with the flag that would say it, [`BenchError::NotReady`], [`BenchError::Client`].
pub async fn find(
    address: &Address,
    wish: Wish,
    key: Option<&Key>,
) -> Result<Endpoint, BenchError> {
    let finder = Finder {
        client: client(&address.base)?,
        key,
    };
    let place = reach::place(&address.base);
    let kind = match wish.kind.or(address.kind) {
        Some(kind) => kind,
        None => finder.kind(&address.base).await?,
    };
    let base = address.base_of(kind);
    // A model's name is of no use where requests have none.
    let is_named = wish.model.is_some() || kind != Kind::OpenAi;
    let told = match (wish.task, is_named) {
        (Some(_), true) => Told::default(),
        _ => finder.told(kind, &base).await,
    };
    if wish.model.is_none() && kind == Kind::OpenAi && !told.many.is_empty() {
        let some = told
            .many
            .iter()
            .take(5)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        return Err(BenchError::Untold {
            place,
            said: format!("serves {} models ({some}, …)", told.many.len()),
            flag: "--model NAME",
        });
    }
    let task = match (wish.task.or(told.task), told.loading) {
        (Some(task), _) => task,
        (None, Some(said)) => return Err(BenchError::NotReady { place, said }),
        (None, None) => {
            return Err(BenchError::Untold {
                place,
                said: "does not say what its model does".to_owned(),
                flag: "--task text-generation, --task automatic-speech-recognition or --task text-to-image",
            });
        }
    };
    Does::of(task)?;
    Ok(Endpoint {
        kind,
        base,
        model: wish.model.or(told.model),
        task,
    })
}

struct Finder<'a> {
    client: reqwest::Client,
    key: Option<&'a Key>,
}

impl Finder<'_> {
    async fn kind(&self, base: &Url) -> Result<Kind, BenchError> {
        let models = self.get(&below(base, "/v1/models")).await;
        if models
            .as_ref()
            .is_ok_and(|models| models["data"].is_array())
        {
            return Ok(Kind::OpenAi);
        }
        let health = self.get(&below(base, "/health")).await;
        match health {
            Ok(health) if health["jobs"].is_object() && health["workers"].is_object() => {
                Ok(Kind::RunPod)
            }
            other => Err(BenchError::Untold {
                place: reach::place(base),
                said: match other {
                    Err(reason) => format!("does not say how it is asked: {reason}"),
                    Ok(_) => "does not say how it is asked".to_owned(),
                },
                flag: "--kind openai, --kind predict or --kind runpod",
            }),
        }
    }

    async fn told(&self, kind: Kind, base: &Url) -> Told {
        match kind {
            Kind::OpenAi => {
                let models = self.get(&below(base, "/models")).await;
                let told = models.map_or_else(|_| Told::default(), |models| listed(&models));
                match told.task {
                    Some(_) => told,
                    // Why: only health says that a model is still loading.
                    None => {
                        let root = base.path().strip_suffix("/v1").unwrap_or_default();
                        let health = self.health(&at(base, &format!("{root}/health"))).await;
                        Told {
                            task: health.task,
                            loading: health.loading,
                            ..told
                        }
                    }
                }
            }
            Kind::Predict => {
                // Vertex's own addresses end otherwise, and have nothing beside them to ask.
                match base.path().strip_suffix("/predict") {
                    Some(root) => self.health(&at(base, &format!("{root}/health"))).await,
                    None => Told::default(),
                }
            }
            Kind::RunPod => {
                let health = self.health(&below(base, "/health")).await;
                if health.task.is_some() || health.loading.is_some() {
                    return health;
                }
                // The platform's own health knows no model; its way to the worker's routes does.
                let models = self.get(&below(base, "/openai/v1/models")).await;
                models.map_or(health, |models| listed(&models))
            }
        }
    }

    async fn health(&self, url: &Url) -> Told {
        let Ok(health) = self.get(url).await else {
            return Told::default();
        };
        let string = |key: &str| health[key].as_str().map(str::to_owned);
        let is_loading = health["status"] == "loading";
        Told {
            model: string("model"),
            task: task(&health["task"]),
            many: Vec::new(),
            loading: is_loading.then(|| {
                let stage = string("stage").unwrap_or_default();
                format!("its model is still loading ({stage})")
            }),
        }
    }

    /// A JSON body, whatever its status: health says 503 while a model loads.
    async fn get(&self, url: &Url) -> Result<Value, String> {
        let request = self.client.get(url.clone()).timeout(PATIENCE);
        let request = match self.key {
            Some(key) => request.headers(key.headers().map_err(|error| error.to_string())?),
            None => request,
        };
        let response = request.send().await;
        let response = response.map_err(|error| reach::explain(url, &error).to_string())?;
        let status = response.status();
        let value = ask::json(response).await.map_err(|failure| failure.message);
        match value {
            Ok(value) => Ok(value),
            Err(_) if !status.is_success() => Err(format!("HTTP status {}", status.as_u16())),
            Err(message) => Err(message),
        }
    }
}

/// The first model of a list that is no adapter of another.
fn listed(models: &Value) -> Told {
    let empty = Vec::new();
    let all = models["data"].as_array().unwrap_or(&empty);
    let own: Vec<&Value> = all
        .iter()
        .filter(|model| model["parent"].is_null())
        .collect();
    let id = |model: &&Value| model["id"].as_str().map(str::to_owned);
    match own.as_slice() {
        [one] => Told {
            model: id(one),
            task: task(&one["task"]),
            ..Told::default()
        },
        many => Told {
            many: many.iter().filter_map(id).collect(),
            ..Told::default()
        },
    }
}

fn task(value: &Value) -> Option<Task> {
    serde_json::from_value(value.clone()).ok()
}

fn at(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}
