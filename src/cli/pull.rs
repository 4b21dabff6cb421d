//! `chandler pull`: a model's files into the cache, before anybody waits for them.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress};
use serde_json::json;

use super::exit::{Exit, FAILED, USAGE};
use super::flags::{SettingFlags, WeightsOnly};
use super::transfers::Transfers;
use super::{output, places, telemetry};
use crate::weights::mirror::Filled;
use crate::weights::progress::Progress;
use crate::weights::store::{Ask, Fetched, MirrorFill, Plan, Store};
use crate::weights::{Location, Wanted, WeightsError};

/// Between two looks at the counters.
const TICK: Duration = Duration::from_millis(100);

/// Fetch a model into the cache, and print the directory that it is in.
///
/// Takes what --model takes: a name from `chandler models`, org/name[@revision], org/name:Q4_K_M, s3://bucket/prefix,
/// gs://bucket/prefix. The source is asked even if the cache has the model, so that a branch that has moved on is fetched anew;
/// files that have not changed stay. Interrupted, it goes on where it was; several may run at once on one cache, and fetch
/// every file once. With a private --mirror, what came from the hub is put there as well.
#[derive(Debug, clap::Args)]
pub struct Pull {
    /// What to fetch
    model: String,
    /// It is an adapter (LoRA): peft's two files, or one in safetensors (org/name:file.safetensors where there are several)
    #[arg(long)]
    adapter: bool,
    /// Only print which files would be fetched, and which not and why
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<WeightsOnly>,
}

impl Pull {
    pub(super) fn execute(mut self) -> anyhow::Result<ExitCode> {
        self.settings.set("model", &self.model);
        let resolution = std::mem::take(&mut self.settings).resolve()?;
        let settings = &resolution.settings;
        let bars = telemetry::start(settings, &resolution.warnings);
        let wanted = match self.adapter {
            true => places::adapter_at(&self.model)
                .map_err(|reason| Exit::new(USAGE, format!("{}: {reason}", self.model)))?,
            false => places::model(&resolution)?,
        };
        self.refuse_what_is_here(&wanted)?;
        let store = Store::new(places::store_options(settings));
        if self.dry_run {
            let plan = store.plan(&wanted, &Ask::default()).map_err(failed)?;
            output::print(&if self.json {
                plan_json(&plan)?
            } else {
                plan_text(&plan)
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let began = Instant::now();
        let mut fetched = fetch(&store, &wanted, &bars).map_err(failed)?;
        let mirror = match fetched.mirror.take() {
            Some(mirror) => fill(&mirror, &bars)?,
            None => None,
        };
        self.tell(&fetched, mirror, began.elapsed())?;
        Ok(ExitCode::SUCCESS)
    }

    fn refuse_what_is_here(&self, wanted: &Wanted) -> Result<(), Exit> {
        let why = match &wanted.location {
            Location::Mock(_) | Location::Demo(_) => "it is part of this program",
            Location::Directory(_) | Location::File(_) => {
                "it is a path here (a repository of the same name on the hub is hf://org/name)"
            }
            Location::Hub { .. } | Location::S3(_) | Location::Gs(_) => return Ok(()),
        };
        let message = format!("model `{}`: nothing is to be fetched: {why}", self.model);
        Err(Exit::new(USAGE, message))
    }

    fn tell(
        &self,
        fetched: &Fetched,
        mirror: Option<Filled>,
        took: Duration,
    ) -> anyhow::Result<()> {
        let directory = fetched.dir.display().to_string();
        if !self.json {
            output::print(&format!("{directory}\n"))?;
            return Ok(());
        }
        let filled = mirror.map(|filled| match filled {
            Filled::Wrote { files, bytes } => json!({"files": files, "bytes": bytes}),
            _ => json!({"files": 0, "bytes": 0}),
        });
        let report = json!({
            "directory": directory,
            "commit": fetched.commit,
            "file": fetched.file.as_ref().map(|file| file.display().to_string()),
            "origin": fetched.origin.to_string(),
            "files": fetched.files,
            "seconds": took.as_secs_f64(),
            "mirror": filled,
        });
        output::print(&format!("{report}\n"))?;
        Ok(())
    }
}

fn failed(error: WeightsError) -> Exit {
    let code = match error {
        WeightsError::BadName { .. } | WeightsError::NoCache(_) => USAGE,
        _ => FAILED,
    };
    Exit::new(code, error.to_string())
}

fn fetch(store: &Store, wanted: &Wanted, bars: &MultiProgress) -> Result<Fetched, WeightsError> {
    let ask = Ask {
        refresh: true,
        ..Ask::default()
    };
    show(bars, ask.progress.clone(), || store.fetch(wanted, &ask))
}

/// A mirror that cannot be filled takes nothing from the model that was fetched.
fn fill(mirror: &MirrorFill, bars: &MultiProgress) -> anyhow::Result<Option<Filled>> {
    let progress = Arc::new(Progress::default());
    let never = AtomicBool::new(false);
    let filled = show(bars, progress.clone(), || {
        mirror.run(progress.clone(), &never)
    });
    match filled {
        Ok(filled) => {
            tracing::info!(mirror = mirror.name(), ?filled, "the mirror is filled");
            Ok(Some(filled))
        }
        Err(error) => {
            tracing::warn!(mirror = mirror.name(), %error, "the mirror could not be filled");
            Ok(None)
        }
    }
}

/// Does something on a thread beside, and shows how far it is.
fn show<T: Send>(
    bars: &MultiProgress,
    progress: Arc<Progress>,
    work: impl FnOnce() -> Result<T, WeightsError> + Send,
) -> Result<T, WeightsError> {
    let mut transfers = Transfers::new(bars, progress);
    std::thread::scope(|scope| {
        let (sender, done) = channel();
        scope.spawn(move || drop(sender.send(work())));
        loop {
            match done.recv_timeout(TICK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => transfers.tick(),
                Err(RecvTimeoutError::Disconnected) => return Err(WeightsError::Stopped),
            }
        }
    })
}

fn plan_json(plan: &Plan) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(plan)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("bytes_to_fetch".to_owned(), plan.bytes().into());
    }
    Ok(format!("{value}\n"))
}

fn plan_text(plan: &Plan) -> String {
    let source = plan.source.as_deref().unwrap_or("the cache");
    let mut text = format!("{source} at commit {}\n", plan.commit);
    for file in &plan.files {
        let mark = if file.here { "here " } else { "fetch" };
        let size = HumanBytes(file.size).to_string();
        text.push_str(&format!("{mark}  {size:>11}  {}\n", file.path));
    }
    for file in &plan.skipped {
        let size = HumanBytes(file.size).to_string();
        text.push_str(&format!(
            "skip   {size:>11}  {} ({})\n",
            file.path, file.why
        ));
    }
    let missing = plan.files.iter().filter(|file| !file.here).count();
    text.push_str(&format!(
        "{missing} of {} files are to be fetched, {}; {} are not needed\n",
        plan.files.len(),
        HumanBytes(plan.bytes()),
        plan.skipped.len()
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::choose::Skipped;
    use crate::weights::store::PlannedFile;

    #[test]
    fn a_plan_names_every_file_and_why_it_is_not_needed() {
        let file = |path: &str, size, here| PlannedFile {
            path: path.to_owned(),
            size,
            here,
        };
        let plan = Plan {
            source: Some("huggingface.co/org/name@main".to_owned()),
            commit: "c".repeat(40),
            files: vec![
                file("config.json", 100, true),
                file("model.safetensors", 3 << 20, false),
            ],
            skipped: vec![Skipped {
                path: "tf_model.h5".to_owned(),
                size: 5 << 30,
                why: "tensorflow",
            }],
        };
        let text = plan_text(&plan);
        for line in [
            "huggingface.co/org/name@main at commit cccc",
            "here         100 B  config.json",
            "fetch     3.00 MiB  model.safetensors",
            "skip      5.00 GiB  tf_model.h5 (tensorflow)",
            "1 of 2 files are to be fetched, 3.00 MiB; 1 are not needed",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&plan_json(&plan).unwrap()).unwrap();
        assert_eq!(json["bytes_to_fetch"], 3 << 20);
        assert_eq!(json["files"][0]["here"], true);
        assert_eq!(json["skipped"][0]["why"], "tensorflow");
    }
}
