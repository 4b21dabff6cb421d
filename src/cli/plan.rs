//! `chandler plan`: what a model needs, and where it will run.

use std::process::ExitCode;

use super::flags::{PlanOnly, SettingFlags};
use super::planning::{Wishes, plan};
use super::table::{bytes, table};
use super::{output, telemetry};
use crate::catalog::plan::{Choice, Line, Plan, gib};
use crate::config::SPECS;

/// Runners-up that are named.
const NAMED: usize = 4;

/// Reckon what a model needs, line by line, and which hardware is the cheapest that it fits on.
///
/// Reads the headers of the model's weights where they are: in this program, in a directory, in the cache, on the hub (some
/// kilobytes of each file; nothing is fetched). Without the network the numbers of its card are used, and that is said. Every line
/// tells how it comes about, so that it can be checked by hand; what is assumed or unknown says so.
#[derive(Debug, clap::Args)]
pub struct Command {
    /// What is to be run: whatever --model takes
    model: String,
    /// Tokens of a request, prompt and answer together [default: the model's context window]
    #[arg(long, value_name = "TOKENS")]
    context: Option<u64>,
    /// Requests at once. With this or --context the cache has room for all of them whole; without, it is what `serve` takes: 2GiB,
    /// or what 32 requests can use when that is less. Of pictures [default: 1]
    #[arg(long, value_name = "REQUESTS")]
    concurrency: Option<u64>,
    /// Width of pictures, in pixels [default: what the model was made for]
    #[arg(long, value_name = "PIXELS")]
    width: Option<u64>,
    /// Height of pictures, in pixels
    #[arg(long, value_name = "PIXELS")]
    height: Option<u64>,
    /// Use the numbers of the model's card and ask nobody
    #[arg(long)]
    from_card: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<PlanOnly>,
}

impl Command {
    pub(super) fn execute(mut self) -> anyhow::Result<ExitCode> {
        self.settings.set("model", &self.model);
        let resolution = std::mem::take(&mut self.settings).resolve()?;
        telemetry::start(&resolution.settings, &resolution.warnings);
        let wishes = Wishes {
            context: self.context,
            concurrency: self.concurrency,
            width: self.width,
            height: self.height,
            from_card: self.from_card,
        };
        let plan = plan(&resolution, &wishes)?;
        output::print(&match self.json {
            true => serde_json::to_string_pretty(&plan)? + "\n",
            false => text(&plan),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(plan: &Plan) -> String {
    let mut text = format!(
        "{}, computed in {}; from {}\n",
        plan.model, plan.dtype, plan.basis
    );
    let sums = [
        ("GPU MEMORY", &plan.device, plan.needs.device_bytes),
        ("HOST MEMORY", &plan.host, plan.needs.host_bytes),
        ("DISK", &plan.disk, plan.needs.disk_bytes),
    ];
    for (title, lines, sum) in sums {
        text.push_str(&section(title, lines, sum));
    }
    let mut facts = Vec::new();
    if let (Some(cuda), Some(driver)) = (&plan.needs.minimum_cuda, plan.minimum_driver) {
        facts.push((
            "driver",
            format!("for CUDA {cuda} at least ({driver} on Linux)"),
        ));
    }
    facts.push(("load", plan.load_time.clone()));
    if !plan.settings.is_empty() {
        facts.push(("serve with", settings(plan)));
    }
    facts.extend(plan.notes.iter().map(|note| ("note", note.clone())));
    text.push('\n');
    for (name, fact) in facts {
        text.push_str(&format!("{name:10}  {fact}\n"));
    }
    if !plan.choices.is_empty() {
        text.push('\n');
        text.push_str(&choices(&plan.choices));
    }
    text
}

fn section(title: &str, lines: &[Line], sum: u64) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let row = |line: &Line| {
        [
            format!("  {}", line.part),
            bytes(line.bytes),
            line.how.clone(),
        ]
    };
    let total = ["  together".to_owned(), bytes(sum), String::new()];
    let rows = lines.iter().map(row).chain([total]);
    format!("\n{}", table([title, "", ""], rows))
}

/// As flags of `serve`.
fn settings(plan: &Plan) -> String {
    let flags = plan.settings.iter().filter_map(|(key, value)| {
        let spec = SPECS.iter().find(|spec| spec.key == *key)?;
        Some(format!("--{} {value}", spec.flag?))
    });
    flags.collect::<Vec<_>>().join(" ")
}

fn choices(choices: &[Choice]) -> String {
    let row = |choice: &Choice| {
        let mut fits = choice.fits.iter().map(|fit| {
            let spare = gib(fit.spare_bytes);
            format!("{} ({} GB, {spare} to spare)", fit.hardware, fit.memory_gb)
        });
        let first = fits.next().unwrap_or_else(|| "none".to_owned());
        let others: Vec<&str> = choice
            .fits
            .iter()
            .skip(1)
            .map(|fit| fit.hardware.as_str())
            .collect();
        let named = others
            .iter()
            .take(NAMED)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let more = match others.len() > NAMED {
            true => format!(" and {} more", others.len() - NAMED),
            false => String::new(),
        };
        [
            choice.platform.as_str().to_owned(),
            first,
            format!("{named}{more}"),
        ]
    };
    let mut text = table(
        ["PLATFORM", "CHEAPEST THAT FITS", "THEN"],
        choices.iter().map(row),
    );
    text.push_str(&refusals(choices));
    text
}

/// Why each cheaper card will not do: once where it is the card's fault, and by platform what that does not lend.
fn refusals(choices: &[Choice]) -> String {
    let mut rows: Vec<(String, String, Vec<&str>)> = Vec::new();
    let mut unlent = String::new();
    for choice in choices {
        let platform = choice.platform.as_str();
        let mut absent = Vec::new();
        for refused in &choice.not {
            let Some(why) = &refused.why else {
                absent.push(refused.hardware.as_str());
                continue;
            };
            let same = |row: &&mut (String, String, Vec<&str>)| row.0 == refused.hardware;
            match rows.iter_mut().find(same) {
                Some(row) => row.2.push(platform),
                None => rows.push((refused.hardware.clone(), why.clone(), vec![platform])),
            }
        }
        if !absent.is_empty() {
            unlent.push_str(&format!("{platform} does not lend {}\n", absent.join(", ")));
        }
    }
    let rows = rows
        .into_iter()
        .map(|(card, why, on)| [card, why, on.join(", ")]);
    let rows: Vec<[String; 3]> = rows.collect();
    let mut text = String::new();
    if !rows.is_empty() {
        text = format!("\n{}", table(["CHEAPER", "WHY NOT", "ON"], rows));
    }
    text + &unlent
}
