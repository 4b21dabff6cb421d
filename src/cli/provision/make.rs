//! What is done with a deployment and a platform: shown, compared, or made and watched; and what is printed at the end.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use super::wanted::Wanted;
use crate::cli::exit::{Exit, FAILED, USAGE};
use crate::cli::output;
use crate::cli::signals::Signals;
use crate::provision::{
    Access, Change, Deployment, Door, Flow, Outcome, Platform, Price, ProvisionError, Records,
    Times, attempts,
};
use crate::webhook::{Courier, Patience, Target};

/// A wrong flag.
pub fn usage(message: impl Into<String>) -> Exit {
    Exit::new(USAGE, message)
}

/// An error with the exit code that it deserves.
pub fn failed(error: ProvisionError) -> Exit {
    let code = match &error {
        ProvisionError::Interrupted => 130,
        error if error.is_usage() => USAGE,
        _ => FAILED,
    };
    Exit::new(code, error.to_string())
}

/// A line for the person who waits.
pub fn tell(line: &str) {
    eprintln!("{line}");
}

/// A runtime for one command.
///
/// # Errors
/// When the system has none.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built.context("a runtime for HTTP")
}

/// The first Ctrl-C or SIGTERM from now on.
///
/// # Errors
/// When the system has no room for a handler.
pub fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new()?;
    Ok(async move {
        signals.next().await;
    })
}

/// Who is told of the end.
pub fn courier(url: Option<&reqwest::Url>) -> Option<Courier> {
    let secret = std::env::var("CHANDLER_WEBHOOK_SECRET")
        .ok()
        .filter(|text| !text.is_empty());
    let target = Target {
        name: "webhook",
        url: url?.clone(),
        secret: secret.map(Into::into),
    };
    Some(Courier::start(target, Patience::default()))
}

impl Wanted {
    /// Does what the flags say on a platform.
    ///
    /// # Errors
    /// Why there is no endpoint.
    pub fn make(&self, platform: &dyn Platform, records: &Records) -> anyhow::Result<ExitCode> {
        let wanted = self.deployment(platform, records)?;
        if self.dry_run {
            return self.dry_run(platform, &wanted);
        }
        let runtime = runtime()?;
        if self.diff {
            let changes = runtime
                .block_on(differences(platform, &wanted))
                .map_err(failed)?;
            return self.show_changes(changes.as_deref());
        }
        if !self.json {
            tell(&summary(platform, &wanted));
            let price = runtime.block_on(platform.price(&wanted));
            // What keeps it from being known will be met again, by those who have to know.
            let price = price.map_or_else(
                |error| format!("unknown: {error}"),
                |price| price_of(&price),
            );
            tell(&format!("cost: {price}"));
        }
        runtime.block_on(async {
            let courier = courier(self.webhook.as_ref());
            let flow = Flow {
                platform,
                records,
                say: &|line| tell(&format!("  {line}")),
                times: Times {
                    capacity: self.capacity_wait,
                    pace: self.places.pace,
                    ..Times::default()
                },
                wait: self.wait,
                keep: self.keep,
                courier: courier.as_ref(),
            };
            let made = flow.run(&wanted, stopped()?).await;
            if let Some(courier) = courier {
                courier.finish(std::time::Duration::from_secs(60)).await;
            }
            self.report(platform, &made.map_err(failed)?)
        })
    }

    fn dry_run(&self, platform: &dyn Platform, wanted: &Deployment) -> anyhow::Result<ExitCode> {
        let mut text = String::new();
        for group in platform.groups(&wanted.hardware).into_iter().take(1) {
            let first = Deployment {
                hardware: group,
                ..wanted.clone()
            };
            for step in platform.plan(&first).map_err(failed)? {
                text.push_str(&format!("{step}\n"));
            }
        }
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn show_changes(&self, changes: Option<&[Change]>) -> anyhow::Result<ExitCode> {
        let text = match (self.json, changes) {
            (true, changes) => {
                json!({"exists": changes.is_some(), "changes": changes}).to_string() + "\n"
            }
            (false, None) => "nothing of this name exists: all of it would be made\n".to_owned(),
            (false, Some([])) => "nothing differs\n".to_owned(),
            (false, Some(changes)) => changes
                .iter()
                .map(|change| format!("{}: {} -> {}\n", change.field, change.from, change.to))
                .collect(),
        };
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, platform: &dyn Platform, outcome: &Outcome) -> anyhow::Result<ExitCode> {
        let wanted = &outcome.deployment;
        let url = outcome.access.as_ref().map(|access| access.url.as_str());
        if self.json {
            let report = json!({
                "name": wanted.name,
                "platform": platform.id(),
                "model": wanted.served.name,
                "url": url,
                "created": outcome.applied.created,
                "changed": outcome.applied.changed,
                "status": outcome.status,
                "seconds": outcome.took.as_secs_f64(),
                "first_prediction_seconds": outcome.prediction.map(|took| took.as_secs_f64()),
            });
            output::print(&format!("{report}\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut text = String::new();
        let state = match (outcome.prediction, outcome.applied.created) {
            (Some(took), _) => format!(
                "serves after {:.1} s; a prediction takes {:.2} s",
                outcome.took.as_secs_f64(),
                took.as_secs_f64()
            ),
            (None, true) => format!(
                "made; `chandler endpoints status {}` says when it serves",
                wanted.name
            ),
            (None, false) => "as it should be".to_owned(),
        };
        text.push_str(&format!("{} {state}\n", wanted.name));
        if let Some(access) = &outcome.access {
            let passage = access.passage.as_ref();
            let hint = passage.and_then(|passage| passage.hint.as_ref());
            let hint = hint.map(|hint| format!("from here: {hint}\n"));
            text.push_str(&format!(
                "\n{}\n{}\n{}\n",
                access.url,
                hint.unwrap_or_default(),
                curl(access, wanted)
            ));
        }
        let price = price_of(&outcome.status.price);
        text.push_str(&format!(
            "\ncost: {price}\nto take it down: chandler endpoints delete {}\n",
            wanted.name
        ));
        output::print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What a run would change.
async fn differences(
    platform: &dyn Platform,
    wanted: &Deployment,
) -> Result<Option<Vec<Change>>, ProvisionError> {
    match attempts(platform, wanted).await?.first() {
        Some(first) => platform.diff(first).await,
        None => Ok(None),
    }
}

fn price_of(price: &Option<Price>) -> String {
    let unknown = || "unknown: the platform gives no price that could be read".to_owned();
    price.as_ref().map_or_else(unknown, Price::to_string)
}

/// What will be made.
fn summary(platform: &dyn Platform, wanted: &Deployment) -> String {
    let scaling = &wanted.scaling;
    let image = match wanted.image.as_str() {
        "" => String::new(),
        image => format!(", image {image}"),
    };
    format!(
        "{}: {} on {}, hardware {}, {} to {} workers{image}",
        wanted.name,
        wanted.served.name,
        platform.id(),
        wanted.hardware_names(),
        scaling.min,
        scaling.max,
    )
}

/// A line that a person can paste.
fn curl(access: &Access, wanted: &Deployment) -> String {
    use chandler_core::Task;
    let key = access
        .bearer_in_shell
        .map(|key| format!(" -H \"Authorization: Bearer {key}\""))
        .unwrap_or_default();
    let (path, body) = match (access.door, wanted.served.task) {
        (Door::RunPodQueue, Task::AutomaticSpeechRecognition) => {
            ("/runsync", json!({"input": {"audio": "https://…"}}))
        }
        (Door::RunPodQueue, _) => ("/runsync", json!({"input": {"prompt": "Hello"}})),
        (Door::Vertex, _) => (":predict", json!({"instances": [{"prompt": "Hello"}]})),
        (Door::Http, Task::TextGeneration) => (
            "/v1/chat/completions",
            json!({"model": wanted.served.name, "messages": [{"role": "user", "content": "Hello"}]}),
        ),
        (Door::Http, Task::AutomaticSpeechRecognition) => {
            return format!(
                "curl {}/v1/audio/transcriptions{key} -F file=@speech.wav",
                access.url
            );
        }
        (Door::Http, _) => ("/v1/images/generations", json!({"prompt": "a red circle"})),
    };
    format!(
        "curl {}{path}{key} -H 'Content-Type: application/json' -d '{body}'",
        access.url
    )
}
