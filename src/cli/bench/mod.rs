//! `chandler bench`: how fast an endpoint is, whoever serves it. The measuring is `crate::bench`'s; here are flags, keys, the bar, and
//! what is printed and kept.

mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::MultiProgress;
use secrecy::SecretString;
use tokio::sync::watch;

use super::exit::{Exit, FAILED, USAGE};
use super::flags::{LogsOnly, SettingFlags};
use super::progress::Counted;
use super::provision::{Places, failed, rebuild, runtime};
use super::run::Kind as TaskName;
use super::signals::{Signals, exit_code};
use super::{output, telemetry, version};
use crate::bench::{
    Address, Asker, BenchError, Figures, Key, Kind, Options, Plan, Prompts, Report, Submit, Tally,
    Wish, find, run,
};
use crate::catalog::{NewTemplate, append};
use crate::config::Value;
use crate::provision::{Door, Name};

/// Requests of a run when nobody says how many, nor for how long.
const REQUESTS: u64 = 50;
/// Requests under way at once in an open loop, where nobody says: what is due waits beyond it.
const OPEN: usize = 1024;
/// Between two looks at how far a run is.
const TICK: Duration = Duration::from_millis(100);

/// Measure an endpoint: how long answers take, and how many tokens, steps or seconds of sound it does a second.
///
/// Takes any endpoint that speaks OpenAI's routes (chat completions, streamed; audio transcriptions; image generations),
/// Vertex's /predict, or RunPod's queue, and finds out which from the address, /v1/models and /health. Its key comes from
/// CHANDLER_BENCH_KEY, else RUNPOD_API_KEY for addresses of runpod.ai, else OPENAI_API_KEY for api.openai.com and the host of
/// OPENAI_BASE_URL; for Vertex put `gcloud auth print-access-token` into CHANDLER_BENCH_KEY.
///
/// An error is never counted as an answer: neither a success by its status whose body is an error, nor a stream without its
/// end. A prompt that comes again may find its tokens in the endpoint's prefix cache; a file with as many prompts as
/// requests rules that out. Ctrl-C ends a run early and prints the figures so far. The exit code is 1 when a run had no answer
/// at all.
#[derive(Debug, clap::Args)]
pub struct Bench {
    /// The endpoint's address, such as http://localhost:8080 or https://api.runpod.ai/v2/ENDPOINT_ID, or the name of one that
    /// `chandler provision` made
    #[arg(value_name = "URL|NAME")]
    target: String,
    /// How it is asked [default: what the address, /v1/models or /health say]
    #[arg(long, value_enum)]
    kind: Option<KindName>,
    /// What its model does [default: what /v1/models or /health say]
    #[arg(long, value_enum)]
    task: Option<TaskName>,
    /// The model that requests name [default: the first of /v1/models]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// What to ask: a file with a prompt a line (for speech, the path of an audio file), or a JSON object a line: {"prompt"},
    /// {"messages"}, {"audio": PATH} or {"prompt", "image": PATH}, each with {"max_tokens"} if need be [default: 25 of ours]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Requests of each run [default: 50, or as many as fit into --duration]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// For how long each run begins new requests
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// Requests under way at once; several numbers are several runs: 1,4,8 [default: 1, and 1024 at most with --rate]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: Vec<u16>,
    /// Requests to begin a second, whatever has become of those before; their time runs from when they were due
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Requests before each run that are not counted
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u64,
    /// Tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Denoising steps of a picture [default: the model's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Width and height of a picture, such as 512x512 [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(u32, u32)>,
    /// How long an answer may take; a RunPod job is cancelled then
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    timeout: Duration,
    /// How jobs are handed to a RunPod queue
    #[arg(long, value_enum, default_value_t)]
    submit: SubmitName,
    /// Send a request again after the time that a 429 or 503 asks for (Retry-After), instead of counting an error
    #[arg(long)]
    patient: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Keep the result with this template in the file of --models-file, which is made where there is none
    #[arg(long, value_name = "TEMPLATE", requires = "models_file")]
    record: Option<String>,
    /// The TOML file of your own cards and templates
    #[arg(long, value_name = "FILE", env = "CHANDLER_MODELS")]
    models_file: Option<PathBuf>,
    /// What the endpoint runs on, for the record: a hardware card's id, or cpu
    #[arg(long, value_name = "NAME")]
    hardware: Option<String>,
    #[command(flatten)]
    settings: SettingFlags<LogsOnly>,
    #[command(flatten)]
    places: Places,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum KindName {
    /// OpenAI's routes under /v1
    Openai,
    /// Vertex's {"instances": […]} on one path
    Predict,
    /// RunPod's jobs
    Runpod,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum SubmitName {
    /// /runsync, which answers when the job is done
    #[default]
    Runsync,
    /// /run, and /status until the job is done
    Run,
}

impl Bench {
    pub(super) fn execute(mut self) -> anyhow::Result<ExitCode> {
        let resolution = std::mem::take(&mut self.settings).resolve()?;
        let bars = telemetry::start_quiet(&resolution.settings, &resolution.warnings);
        let made = self.made()?;
        let address = Address::read(&self.target).map_err(usage)?;
        let plans = self.plans()?;
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let key = made.map(Key::new).or_else(|| key(&address, variable));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let done = runtime.block_on(self.measure(&address, key, &plans, &bars));
        runtime.shutdown_background();
        let (report, ended) = done?;
        output::print(&match self.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => table::table(&report),
        })?;
        self.keep(&report)?;
        Ok(match ended {
            Some(signal) => ExitCode::from(exit_code(signal)),
            None if report.runs.iter().any(|run| run.succeeded == 0) => ExitCode::from(FAILED),
            None => ExitCode::SUCCESS,
        })
    }

    /// Puts the address of an endpoint in this machine's records in its name's place; gives what opens it.
    fn made(&mut self) -> anyhow::Result<Option<SecretString>> {
        let Ok(name) = Name::parse(&self.target) else {
            return Ok(None);
        };
        let Some(record) = self.places.records()?.find(&name)? else {
            return Ok(None);
        };
        let platform = rebuild(&record, self.places.patience())?;
        let access = runtime()?.block_on(platform.url(&name)).map_err(failed)?;
        let (kind, path) = match access.door {
            Door::Http => (KindName::Openai, ""),
            Door::RunPodQueue => (KindName::Runpod, ""),
            Door::Vertex => (KindName::Predict, ":predict"),
        };
        self.kind.get_or_insert(kind);
        self.target = format!("{}{path}", access.url);
        Ok(access.bearer)
    }

    fn plans(&self) -> Result<Vec<Plan>, Exit> {
        let numbers: Vec<usize> = match (self.concurrency.as_slice(), self.rate) {
            ([], None) => vec![1],
            ([], Some(_)) => vec![OPEN],
            ([_, _, ..], Some(_)) => {
                let message = "--rate begins requests whatever is under way: give one --concurrency at most, as a bound";
                return Err(Exit::new(USAGE, message));
            }
            (numbers, _) => numbers.iter().map(|number| usize::from(*number)).collect(),
        };
        let requests = self.requests.or(match self.duration {
            Some(_) => None,
            None => Some(REQUESTS),
        });
        let plan = |concurrency| Plan {
            concurrency,
            rate: self.rate,
            requests,
            time: self.duration,
        };
        Ok(numbers.into_iter().map(plan).collect())
    }

    /// The report, and the signal that ended it early.
    async fn measure(
        &self,
        address: &Address,
        key: Option<Key>,
        plans: &[Plan],
        bars: &MultiProgress,
    ) -> anyhow::Result<(Report, Option<&'static str>)> {
        let mut signals = Signals::new()?;
        let asker = tokio::select! {
            asker = self.asker(address, key) => Arc::new(asker?),
            name = signals.next() => return Err(Exit::new(exit_code(name), "interrupted").into()),
        };
        let (stop, stopping) = watch::channel(false);
        let command = command(std::env::args().skip(1), &self.target, address);
        let mut report = Report::new(asker.endpoint(), command, version::SHORT);
        report.hardware = self.hardware.clone();
        let runs = async {
            let mut all = Vec::new();
            for plan in plans {
                self.warm_up(&asker, plan, &stopping).await;
                let figures = shown(&asker, plan, bars, &stopping).await;
                all.push(figures.run(plan));
                if *stopping.borrow() {
                    break;
                }
            }
            all
        };
        tokio::pin!(runs);
        let first = tokio::select! {
            all = &mut runs => {
                report.runs = all;
                return Ok((report, None));
            }
            name = signals.next() => name,
        };
        // What is under way is given up, and jobs are cancelled; a second signal does not wait for that.
        stop.send_replace(true);
        tokio::select! {
            all = runs => report.runs = all,
            name = signals.next() => {
                return Err(Exit::new(exit_code(name), "interrupted again; nothing is printed").into());
            }
        }
        Ok((report, Some(first)))
    }

    async fn asker(&self, address: &Address, key: Option<Key>) -> anyhow::Result<Asker> {
        let wish = Wish {
            kind: self.kind.map(|kind| match kind {
                KindName::Openai => Kind::OpenAi,
                KindName::Predict => Kind::Predict,
                KindName::Runpod => Kind::RunPod,
            }),
            task: self.task.map(TaskName::task),
            model: self.model.clone(),
        };
        let endpoint = find(address, wish, key.as_ref()).await.map_err(usage)?;
        let prompts = match &self.prompts {
            Some(path) => Prompts::read(path, endpoint.task).map_err(usage)?,
            None => Prompts::built_in(endpoint.task).ok_or_else(|| {
                let task = endpoint.task.tag();
                let message = format!(
                    "the model does {task}: give --prompts FILE, a file with the path of an input a line"
                );
                Exit::new(USAGE, message)
            })?,
        };
        let options = Options {
            max_tokens: self.max_tokens,
            steps: self.steps,
            size: self.size,
            submit: match self.submit {
                SubmitName::Runsync => Submit::RunSync,
                SubmitName::Run => Submit::Run,
            },
            timeout: self.timeout,
            patient: self.patient,
        };
        Ok(Asker::new(endpoint, &prompts, options, key).map_err(usage)?)
    }

    async fn warm_up(&self, asker: &Arc<Asker>, plan: &Plan, stop: &watch::Receiver<bool>) {
        if self.warmup == 0 || *stop.borrow() {
            return;
        }
        let plan = Plan {
            concurrency: plan
                .concurrency
                .min(usize::try_from(self.warmup).unwrap_or(usize::MAX)),
            rate: None,
            requests: Some(self.warmup),
            time: None,
        };
        // Why dropped: it is what the figures are not to hold.
        run(asker, plan, &Arc::default(), stop).await;
    }

    fn keep(&self, report: &Report) -> anyhow::Result<()> {
        let (Some(id), Some(path)) = (&self.record, &self.models_file) else {
            return Ok(());
        };
        let benchmarks = report.benchmarks();
        if benchmarks.is_empty() {
            let message = "nothing is recorded: no run came to its end with an answer";
            return Err(Exit::new(FAILED, message).into());
        }
        let template = NewTemplate {
            id: id.clone(),
            model: report.model.clone(),
            hardware: self.hardware.clone(),
        };
        append(path, &template, &benchmarks)?;
        eprintln!("recorded with template {id} in {}", path.display());
        Ok(())
    }
}

/// Runs a plan and shows how far it is.
async fn shown(
    asker: &Arc<Asker>,
    plan: &Plan,
    bars: &MultiProgress,
    stop: &watch::Receiver<bool>,
) -> Figures {
    let tally = Arc::new(Tally::default());
    let mut bar = Counted::new(bars, "requests", plan.requests);
    let running = run(asker, *plan, &tally, stop);
    tokio::pin!(running);
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            figures = &mut running => return figures,
            _ = tick.tick() => {
                let (done, failed) = (&tally.done, &tally.failed);
                bar.show(done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
            }
        }
    }
}

/// The key for an address. A platform's own variable is for the platform's own hosts: it is not to be sent to whoever is measured.
fn key(address: &Address, variable: impl Fn(&str) -> Option<String>) -> Option<Key> {
    let host = address.base.host_str().unwrap_or_default();
    let is_below = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    let is_openai = || {
        let named = variable("OPENAI_BASE_URL").and_then(|url| reqwest::Url::parse(&url).ok());
        host == "api.openai.com" || named.is_some_and(|url| url.origin() == address.base.origin())
    };
    let found = variable("CHANDLER_BENCH_KEY")
        .or_else(|| variable("RUNPOD_API_KEY").filter(|_| is_below("runpod.ai")))
        .or_else(|| variable("OPENAI_API_KEY").filter(|_| is_openai()));
    found.map(|text| Key::new(SecretString::from(text)))
}

/// The command line for a record; an address keeps its host and path, and not what stands in its query.
fn command(words: impl Iterator<Item = String>, target: &str, address: &Address) -> String {
    let mut plain = address.base.clone();
    plain.set_query(None);
    let words = words.map(|word| {
        let word = if word == target {
            plain.to_string()
        } else {
            word
        };
        match word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:=,%+@".contains(c))
        {
            true => word,
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    });
    let all: Vec<String> = std::iter::once("chandler".to_owned())
        .chain(words)
        .collect();
    all.join(" ")
}

fn usage(error: BenchError) -> Exit {
    let code = match error {
        BenchError::NotReady { .. } => FAILED,
        _ => USAGE,
    };
    Exit::new(code, error.to_string())
}

fn time(text: &str) -> Result<Duration, String> {
    let time = <Duration as Value>::parse(text)?;
    match time.is_zero() {
        true => Err("give a time that is longer than nothing".to_owned()),
        false => Ok(time),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| *rate >= 0.001 && *rate <= 1e6);
    rate.ok_or_else(|| "give requests a second, from 0.001 to 1000000".to_owned())
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', 'X']);
    let sides = sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let sides = sides.filter(|(width, height): &(u32, u32)| *width > 0 && *height > 0);
    sides.ok_or_else(|| "give width and height such as 512x512".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platforms_key_goes_to_the_platform_alone() {
        let has = |url: &str, set: &[&str]| {
            let address = Address::read(url).unwrap();
            let variable = |name: &str| match name {
                "OPENAI_BASE_URL" => Some("http://gateway:4000/v1".to_owned()),
                name => set.contains(&name).then(|| "hush".to_owned()),
            };
            key(&address, variable).is_some()
        };
        let all = &["RUNPOD_API_KEY", "OPENAI_API_KEY"][..];
        assert!(has("https://api.runpod.ai/v2/abc", all));
        assert!(has("https://abc.api.runpod.ai", &["RUNPOD_API_KEY"]));
        assert!(has("https://api.openai.com/v1", &["OPENAI_API_KEY"]));
        assert!(has("http://gateway:4000/v1", &["OPENAI_API_KEY"]));
        for foreign in [
            "https://runpod.ai.example",
            "http://notrunpod.ai",
            "http://localhost:8080",
        ] {
            assert!(!has(foreign, all), "{foreign}");
            assert!(has(foreign, &["CHANDLER_BENCH_KEY"]));
        }
        let text = format!("{:?}", Key::new("hush".into()));
        assert!(!text.contains("hush"), "{text}");
    }

    #[test]
    fn a_recorded_command_can_be_typed_again_and_holds_no_secret() {
        let target = "http://a.example/v1?key=hush";
        let words = [
            "bench",
            target,
            "--model",
            "my model",
            "--concurrency",
            "1,8",
        ];
        let address = Address::read(target).unwrap();
        let text = command(words.into_iter().map(str::to_owned), target, &address);
        assert_eq!(
            text,
            "chandler bench http://a.example/v1 --model 'my model' --concurrency 1,8"
        );
    }

    #[test]
    fn flags_are_read_in_their_own_units() {
        assert_eq!(size("512x256"), Ok((512, 256)));
        assert!(size("512").is_err() && size("0x1").is_err());
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(rate("0").is_err() && rate("nan").is_err());
        assert!(time("0").is_err() && time("30s").is_ok());
    }
}
