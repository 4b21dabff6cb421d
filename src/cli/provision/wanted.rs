//! What every platform's command takes, and the deployment that comes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;

use chandler_core::Task;

use super::make::{failed, tell, usage};
use crate::catalog::plan::Plan;
use crate::catalog::{Card, Hardware, Origin};
use crate::cli::exit::{Exit, FAILED};
use crate::cli::planning::{Wishes, plan};
use crate::config::{Device, Given, Resolution, SPECS, Value as _, resolve};
use crate::provision::{
    Deployment, Name, Needs, Patience, Platform, Records, Scaling, Secrets, Served,
};
use crate::weights::Location;

/// Where the images of this build were published; a build of one's own has none.
const REPOSITORY: Option<&str> = option_env!("CHANDLER_IMAGE_REPOSITORY");

/// How long a worker may take besides fetching its model.
const START: Duration = Duration::from_secs(300);
/// What a worker fetches at least, in bytes per second: half of what the slowest of the measured ones did (seeds: 100 MB/s).
const FETCHED_PER_SECOND: u64 = 50_000_000;
/// Requests at once where nobody says.
const CONCURRENCY: u32 = 8;
/// Processors of a worker that computes on them, and of one that has a GPU: it decodes audio and pictures there.
const CPU_MILLIS: u32 = 4000;
const GPU_CPU_MILLIS: u32 = 4000;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// What to serve, as `chandler serve --model` takes it: a name from `chandler models`, org/name[@revision], s3://bucket/prefix
    pub model: String,
    /// The endpoint's name, by which every later run finds it [default: chandler- and the model's name]
    #[arg(long)]
    name: Option<String>,
    /// Hardware to try, in order, as `chandler hardware` lists it; auto is what `chandler plan` says, cheapest first (on this
    /// machine the CPU); none is a CPU
    #[arg(long, value_name = "auto|none|ID,…", default_value = "auto")]
    gpu: String,
    /// What the model does, where it has no card: text-generation, automatic-speech-recognition, text-to-image
    #[arg(long, value_parser = task)]
    task: Option<Task>,
    /// The container image; {kind} in it becomes cpu or cuda [default: the image that this program was published in]
    #[arg(long, env = "CHANDLER_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    worker: Worker,
    /// Fewest workers; 0 lets the endpoint sleep where the platform can
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_workers: u32,
    /// Most workers
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_workers: u32,
    /// How long a worker without work is kept, on RunPod and by KEDA; other platforms go by a rule of their own, or keep it
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    idle: Duration,
    /// Requests that one worker takes at once; given, the plan has room for all of them whole [default: 8]
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// How long a worker may take until it serves [default: 5m, and the time to fetch the model at 50 MB/s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_timeout: Option<Duration>,
    /// How long one request may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    request_timeout: Duration,
    /// Whose it is, for `endpoints gc` [default: this machine's random id]
    #[arg(long)]
    owner: Option<String>,
    /// Wait until a real prediction succeeds
    #[arg(long)]
    pub wait: bool,
    /// Leave what was made when it fails
    #[arg(long)]
    pub keep: bool,
    /// Only print the requests that would be sent, secrets masked; needs no network
    #[arg(long, conflicts_with = "diff")]
    pub dry_run: bool,
    /// Only print what differs from what exists
    #[arg(long)]
    pub diff: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Told when the endpoint serves and when it failed; signed with CHANDLER_WEBHOOK_SECRET
    #[arg(long, value_name = "URL")]
    pub webhook: Option<reqwest::Url>,
    /// How long no machine is waited for before the next hardware is tried
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = time)]
    pub capacity_wait: Duration,
    /// A TOML file of model and hardware cards beside the built-in ones
    #[arg(long, env = "CHANDLER_MODELS", value_name = "FILE")]
    models_file: Option<PathBuf>,
    #[command(flatten)]
    pub places: Places,
}

/// The worker's own environment.
#[derive(Debug, Clone, clap::Args)]
pub struct Worker {
    /// A setting of the worker, as `chandler config show` lists them: --set dtype=bf16
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A variable of the worker's environment that is no secret
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A secret of the worker's environment: the value is taken from this command's own variable of that name
    #[arg(long, value_name = "NAME")]
    pub secret: Vec<String>,
}

impl Worker {
    /// Settings and variables, by the worker's names for them.
    ///
    /// # Errors
    /// A setting that there is none of, or that will not do.
    pub fn environment(&self) -> anyhow::Result<BTreeMap<String, String>> {
        self.settings(Given::default())?; // says what will not do
        let mut all = BTreeMap::new();
        for (key, value) in pairs("--set", &self.set)? {
            all.insert(variable(&key)?.to_owned(), value);
        }
        all.extend(pairs("--env", &self.env)?);
        Ok(all)
    }

    /// The settings as the worker will see them: this machine's own environment is none of its business.
    fn settings(&self, mut given: Given) -> anyhow::Result<Resolution> {
        for (key, value) in pairs("--set", &self.set)? {
            let name = variable(&key)?;
            let spec = SPECS
                .iter()
                .find(|spec| spec.key == key && spec.flag.is_some());
            let secret = || usage(format!("--set {key}: it is a secret; use --secret {name}"));
            given.flags.insert(spec.ok_or_else(secret)?.key, value);
        }
        Ok(resolve(&given)?)
    }

    /// Secrets by their names, from this command's own environment.
    ///
    /// # Errors
    /// One that is not there.
    pub fn secrets(names: &[String]) -> anyhow::Result<Secrets> {
        let read = |name: &String| {
            let value = std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty());
            // A newline at the end has broken more than one deployment.
            let value = value.map(|value| SecretString::from(value.trim().to_owned()));
            let missing = || {
                usage(format!(
                    "--secret {name}: the variable {name} is not set here"
                ))
            };
            value.map(|value| (name.clone(), value)).ok_or_else(missing)
        };
        Ok(names.iter().map(read).collect::<Result<_, _>>()?)
    }
}

/// Where a command of `provision` or `endpoints` keeps and finds things.
#[derive(Debug, Clone, clap::Args)]
pub struct Places {
    /// The file that remembers what was made [default: $XDG_STATE_HOME/chandler/endpoints.db, else ~/.local/state/…]
    #[arg(long, env = "CHANDLER_RECORDS", value_name = "FILE")]
    records: Option<PathBuf>,
    /// Every pause is multiplied by this; for tests against doubles
    #[arg(
        long,
        env = "CHANDLER_PROVISION_PACE",
        hide = true,
        default_value_t = 1.0
    )]
    pub pace: f64,
}

impl Places {
    /// chandler's folder for what is to be remembered.
    ///
    /// # Errors
    /// When there is no home.
    pub fn state(&self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = self.records.as_ref().and_then(|file| file.parent()) {
            return Ok(folder.to_owned());
        }
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let base = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
        let base = base
            .ok_or_else(|| usage("neither XDG_STATE_HOME nor HOME is set; give --records FILE"))?;
        Ok(base.join("chandler"))
    }

    /// How patient requests to a platform are.
    pub fn patience(&self) -> Patience {
        Patience {
            pace: self.pace,
            ..Patience::default()
        }
    }

    /// The records.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn records(&self) -> anyhow::Result<Records> {
        let path = match &self.records {
            Some(path) => path.clone(),
            None => self.state()?.join("endpoints.db"),
        };
        Ok(Records::open(&path)?)
    }
}

impl Wanted {
    /// The deployment on a platform.
    ///
    /// # Errors
    /// A flag that will not do, named; a model that cannot be planned.
    pub fn deployment(
        &self,
        platform: &dyn Platform,
        records: &Records,
    ) -> anyhow::Result<Deployment> {
        let resolution = self.resolve()?;
        let plan = self.plan(platform, &resolution)?;
        let hardware = self.hardware(platform, &resolution, &plan)?;
        if self.max_workers == 0 || self.min_workers > self.max_workers {
            let (min, max) = (self.min_workers, self.max_workers);
            let message = format!(
                "--min-workers is {min} and --max-workers {max}; use 1 or more, and no fewer than the fewest"
            );
            return Err(usage(message).into());
        }
        let kind = if hardware.is_empty() { "cpu" } else { "cuda" };
        let mut env = self.worker.environment()?;
        for (key, value) in &plan.settings {
            env.entry(variable(key)?.to_owned())
                .or_insert_with(|| value.clone());
        }
        let fetch = Duration::from_secs(plan.needs.disk_bytes / FETCHED_PER_SECOND);
        Ok(Deployment {
            name: match &self.name {
                Some(name) => Name::parse(name).map_err(failed)?,
                None => Name::of_model(&self.model),
            },
            owner: match &self.owner {
                Some(owner) => Name::parse(owner).context("--owner")?.to_string(),
                None => records.owner()?,
            },
            served: self.served(&resolution)?,
            image: self.image(kind),
            env,
            secrets: Worker::secrets(&self.worker.secret)?,
            needs: needs(&plan, &hardware),
            hardware,
            scaling: Scaling {
                min: self.min_workers,
                max: self.max_workers,
                idle: self.idle,
                concurrency: self.concurrency.unwrap_or(CONCURRENCY),
            },
            start_timeout: self.start_timeout.unwrap_or(START + fetch),
            request_timeout: self.request_timeout,
        })
    }

    /// What it takes. A dry run asks nobody where a card will do.
    fn plan(&self, platform: &dyn Platform, resolution: &Resolution) -> anyhow::Result<Plan> {
        let wishes = Wishes {
            concurrency: self.concurrency.map(u64::from),
            from_card: self.dry_run && resolution.card.is_some(),
            ..Wishes::default()
        };
        let mut resolution = resolution.clone();
        if self.gpu == "none" || (self.gpu == "auto" && platform.is_here()) {
            resolution.settings.device.value = Device("cpu".to_owned());
        }
        Ok(plan(&resolution, &wishes)?)
    }

    /// The hardware to try.
    fn hardware(
        &self,
        platform: &dyn Platform,
        resolution: &Resolution,
        plan: &Plan,
    ) -> anyhow::Result<Vec<Hardware>> {
        let fitting = plan.candidates(platform.id());
        match self.gpu.as_str() {
            "none" => Ok(Vec::new()),
            // A model without device memory is for a CPU.
            "auto" if plan.needs.device_bytes == 0 => Ok(Vec::new()),
            "auto" if fitting.is_empty() => Err(Exit::new(
                FAILED,
                format!(
                    "no hardware of {} that is known here holds `{}`; `chandler plan {}` says why",
                    platform.id(),
                    self.model,
                    self.model
                ),
            )
            .into()),
            "auto" => Ok(fitting.into_iter().cloned().collect()),
            named => {
                let cards = named
                    .split(',')
                    .map(|name| resolution.catalog.find_hardware(name.trim()).cloned());
                let cards = cards
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|error| usage(format!("--gpu: {error}")))?;
                for card in &cards {
                    if !platform.is_here() && !fitting.iter().any(|fit| fit.id == card.id) {
                        tell(&format!(
                            "warning: by the plan `{}` does not fit on {} of {}",
                            self.model,
                            card.id,
                            platform.id()
                        ));
                    }
                }
                Ok(cards)
            }
        }
    }

    fn served(&self, resolution: &Resolution) -> anyhow::Result<Served> {
        let card = resolution.card.as_ref();
        let task = self.task.or(card.map(|card| card.task));
        let task = task.ok_or_else(|| {
            usage(format!(
                "`{}` has no card: say with --task what it does",
                self.model
            ))
        })?;
        let hub = match (card.map(Card::origin), Location::read(&self.model)) {
            (Some(Origin::Hub(id)), _) => {
                Some((id.to_owned(), card.and_then(|card| card.revision.clone())))
            }
            (None, Ok(Location::Hub { repo, revision, .. })) => Some((repo, revision)),
            _ => None,
        };
        Ok(Served {
            model: self.model.clone(),
            name: card.map_or_else(|| self.model.clone(), |card| card.id.clone()),
            task,
            hub,
        })
    }

    /// The image for a kind of machine; empty where nobody says which, which platforms that need one refuse.
    fn image(&self, kind: &str) -> String {
        let place = REPOSITORY.filter(|place| !place.is_empty());
        let published =
            place.map(|place| format!("{place}:{}-{{kind}}", env!("CARGO_PKG_VERSION")));
        let image = self.image.clone().or(published).unwrap_or_default();
        image.replace("{kind}", kind)
    }

    fn resolve(&self) -> anyhow::Result<Resolution> {
        let mut given = Given::default();
        given.flags.insert("model", self.model.clone());
        if let Some(file) = &self.models_file {
            given
                .flags
                .insert("models_file", file.display().to_string());
        }
        self.worker.settings(given)
    }
}

/// What a machine must have, from what the plan says.
fn needs(plan: &Plan, hardware: &[Hardware]) -> Needs {
    Needs {
        device_bytes: if hardware.is_empty() {
            0
        } else {
            plan.needs.device_bytes
        },
        host_bytes: plan.needs.host_bytes,
        disk_bytes: plan.needs.disk_bytes,
        cpu_millis: if hardware.is_empty() {
            CPU_MILLIS
        } else {
            GPU_CPU_MILLIS
        },
        minimum_cuda: plan
            .needs
            .minimum_cuda
            .clone()
            .filter(|_| !hardware.is_empty()),
    }
}

/// The worker's own variable for a setting.
fn variable(key: &str) -> anyhow::Result<&'static str> {
    let spec = SPECS.iter().find(|spec| spec.key == key);
    let first = spec.and_then(|spec| spec.variables.first());
    let named = first.map(|variable| variable.name);
    Ok(named.ok_or_else(|| usage(format!("--set {key}: no setting is called so")))?)
}

/// `NAME=VALUE`, several times.
pub(super) fn pairs(flag: &str, texts: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(usage(format!("{flag} is `{text}`; give NAME=VALUE"))),
    };
    Ok(texts.iter().map(pair).collect::<Result<_, _>>()?)
}

fn task(text: &str) -> Result<Task, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "give a task's tag, such as text-generation".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    Duration::parse(text)
}
