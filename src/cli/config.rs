//! `chandler config show`: every setting, its value and where it came from.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::flags::{Everything, SettingFlags};
use super::output;
use crate::config::{Platform, Resolution, Shown};

/// Look at the settings.
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(Show),
}

/// Print every setting, its value and where it came from, with secrets masked.
///
/// Takes the flags that `chandler serve` takes, so that putting `config show` in the place of `serve` shows what a
/// command line would do. Values are resolved as flag > environment > file > model card > platform > default.
#[derive(Debug, clap::Args)]
struct Show {
    /// Print JSON: the platform, and an object of {value, source} by setting
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags<Everything>,
}

impl Config {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let Command::Show(show) = self.command;
        let resolution = show.settings.resolve()?;
        if show.json {
            output::print(&format!("{:#}\n", as_json(&resolution)))?;
        } else {
            output::print(&as_table(&resolution.settings.shown()))?;
            if resolution.platform != Platform::Elsewhere {
                eprintln!("platform: {}", resolution.platform);
            }
            for warning in &resolution.warnings {
                eprintln!("warning: {warning}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn as_json(resolution: &Resolution) -> Value {
    let rows = resolution.settings.shown().into_iter().map(|row| {
        let value = if row.value.is_empty() {
            Value::Null
        } else {
            Value::from(row.value)
        };
        (
            row.key.to_owned(),
            json!({ "value": value, "source": row.source.to_string() }),
        )
    });
    json!({
        "platform": resolution.platform.to_string(),
        "settings": Value::Object(rows.collect::<Map<_, _>>()),
        "warnings": resolution.warnings,
    })
}

fn as_table(rows: &[Shown]) -> String {
    let value = |row: &Shown| match row.value.as_str() {
        "" => format!("({})", row.otherwise),
        value => value.to_owned(),
    };
    let width = |of: &dyn Fn(&Shown) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let keys = width(&|row| row.key.len());
    let values = width(&|row| value(row).len()).min(48);
    let line = |row: &Shown| {
        format!(
            "{:keys$}  {:values$}  {}\n",
            row.key,
            value(row),
            row.source
        )
    };
    rows.iter().map(line).collect()
}
