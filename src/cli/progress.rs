//! How far loading, or whatever else is counted, is, for a person: a bar on a terminal, log lines elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::exit::{Exit, FAILED};
use super::telemetry::PROGRESS;
use super::transfers::Transfers;
use crate::engine::{Engine, Loading, Stage, Status};
use crate::weights::progress::Progress;

/// Between two log lines of one stage.
const LOG_EVERY: Duration = Duration::from_secs(5);
/// Between two looks at a download's counters.
const TICK: Duration = Duration::from_millis(100);

/// Where it is shown, and what counts the files that are fetched.
#[derive(Clone)]
pub struct Screen {
    /// The bars that log lines do not garble.
    pub bars: MultiProgress,
    /// The counters.
    pub progress: Arc<Progress>,
}

/// Waits until the model is ready and shows how far it is.
///
/// # Errors
/// Why the model did not load.
pub async fn until_ready(engine: &Engine, screen: &Screen) -> Result<Duration, Exit> {
    let started = Instant::now();
    let mut status = engine.watch();
    let mut view = None;
    let mut transfers = None;
    let mut tick = tokio::time::interval(TICK);
    loop {
        let now = status.borrow_and_update().clone();
        match now {
            Status::Loading(loading) if comes(loading.stage) => {
                view = None;
                let new = || Transfers::new(&screen.bars, screen.progress.clone());
                transfers.get_or_insert_with(new).tick();
            }
            Status::Loading(loading) => {
                transfers = None;
                view.get_or_insert_with(|| View::new(&screen.bars))
                    .show(loading);
            }
            Status::Ready => break,
            Status::Draining | Status::Stopped => {
                return Err(Exit::new(FAILED, "stopped before the model was loaded"));
            }
            Status::Failed(reason) => {
                return Err(Exit::new(
                    FAILED,
                    format!("the model did not load: {reason}"),
                ));
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                return Err(Exit::new(FAILED, "the engine ended while loading"));
            },
            _ = tick.tick() => {}
        }
    }
    Ok(started.elapsed())
}

/// Whether files are on their way, which have bars of their own.
fn comes(stage: Stage) -> bool {
    matches!(
        stage,
        Stage::Resolving | Stage::Waiting | Stage::Downloading | Stage::Verifying
    )
}

/// How many of something are done.
pub enum Counted {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere, with the time of the last line.
    Log(Instant, &'static str),
}

impl Counted {
    /// `most` is how many there will be, where that is known.
    pub fn new(bars: &MultiProgress, what: &'static str, most: Option<u64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Log(Instant::now(), what);
        }
        let (bar, style) = match most {
            Some(most) => (
                ProgressBar::new(most),
                "{prefix} [{bar:30}] {pos}/{len} {msg}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{prefix} {spinner} {pos} in {elapsed} {msg}",
            ),
        };
        let bar = bars.add(bar.with_prefix(what));
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar(bar)
    }

    /// To be called several times a second.
    pub fn show(&mut self, done: u64, failed: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(done);
                if failed > 0 {
                    bar.set_message(format!("{failed} failed"));
                }
            }
            Self::Log(last, what) if last.elapsed() >= LOG_EVERY => {
                *last = Instant::now();
                tracing::info!(target: PROGRESS, done, failed, "{what}");
            }
            Self::Log(..) => {}
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

enum View {
    Bar(ProgressBar),
    Log { last: Option<Loading>, at: Instant },
}

impl View {
    fn new(bars: &MultiProgress) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Log {
                last: None,
                at: Instant::now(),
            };
        }
        let bar = bars.add(ProgressBar::new(0));
        let style = "{msg:20} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self::Bar(bar)
    }

    fn show(&mut self, now: Loading) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(now.stage.to_string());
                bar.set_length(now.total_bytes);
                bar.set_position(now.done_bytes);
            }
            Self::Log { last, at } => {
                let same_stage = last.is_some_and(|last| last.stage == now.stage);
                if same_stage && at.elapsed() < LOG_EVERY {
                    return;
                }
                (*last, *at) = (Some(now), Instant::now());
                let (done_bytes, total_bytes) = (now.done_bytes, now.total_bytes);
                tracing::info!(stage = %now.stage, done_bytes, total_bytes, "loading");
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
