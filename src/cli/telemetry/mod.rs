//! Where log lines go: standard error, as text on a terminal and as one JSON object a line elsewhere, around the
//! progress bar where there is one. A platform's own form of them is a file; RunPod reads standard output.

mod google;
mod runpod;
#[cfg(test)]
mod written;

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{LogFormat, Settings};

/// The target of lines that stand in for a bar where there is no terminal. A quiet command has them, too.
pub const PROGRESS: &str = "chandler::bar";

/// Starts logging; the bars that are added to what it returns do not garble the lines.
pub fn start(settings: &Settings, warnings: &[String]) -> MultiProgress {
    let bars = MultiProgress::new();
    let filter =
        EnvFilter::try_new(&settings.log_level.0).unwrap_or_else(|_| EnvFilter::new("info"));
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(BesideBars(bars.clone()));
    let terminal = io::stderr().is_terminal();
    let format = match *settings.log_format {
        LogFormat::Auto if terminal => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        said => said,
    };
    let started = match format {
        LogFormat::Text => base.with_ansi(terminal).with_target(false).try_init(),
        LogFormat::Google => base.event_format(google::Google).try_init(),
        LogFormat::Runpod => base
            .with_writer(io::stdout)
            .fmt_fields(runpod::OnlyId)
            .event_format(runpod::RunPod)
            .try_init(),
        LogFormat::Auto | LogFormat::Json => {
            base.json().flatten_event(true).with_ansi(false).try_init()
        }
    };
    if let Err(error) = started {
        eprintln!("chandler: logging was already started: {error}");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    bars
}

/// A command that answers on a terminal is not to be drowned by its own log: only warnings and how far long work
/// is, unless somebody asked.
pub fn start_quiet(settings: &Settings, warnings: &[String]) -> MultiProgress {
    let mut settings = settings.clone();
    if settings.log_level.source == crate::config::Source::Default {
        settings.log_level.value = crate::config::LogFilter(format!("warn,{PROGRESS}=info"));
    }
    start(&settings, warnings)
}

#[derive(Clone)]
struct BesideBars(MultiProgress);

impl Write for BesideBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write_all(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
