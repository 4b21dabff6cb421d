//! How far a drawing is, for a person or a log: a bar of steps on a terminal, a line every few seconds elsewhere. Nothing for what
//! is done at once.

use std::io::{self, IsTerminal};
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::hearing::{AT_ONCE, Pace};
use crate::cli::telemetry;

const BAR: &str = "drawing [{bar:30}] {pos}/{len} {msg}";

/// What is shown.
pub(super) struct Drawing<'a> {
    bars: &'a MultiProgress,
    began: Instant,
    view: View,
}

enum View {
    Bar(Option<ProgressBar>),
    Log(Pace),
}

impl<'a> Drawing<'a> {
    pub(super) fn new(bars: &'a MultiProgress, began: Instant) -> Self {
        let view = match io::stderr().is_terminal() {
            true => View::Bar(None),
            false => View::Log(Pace::default()),
        };
        Self { bars, began, view }
    }

    /// So many steps of so many are done.
    pub(super) fn show(&mut self, (done, total): (u32, u32), now: Instant) {
        let took = now.saturating_duration_since(self.began);
        let speed = f64::from(done) / took.as_secs_f64().max(1e-9);
        match &mut self.view {
            View::Bar(None) if took < AT_ONCE => {}
            View::Bar(bar) => {
                let bar = bar.get_or_insert_with(|| self.bars.add(bar_of(total)));
                bar.set_length(total.into());
                bar.set_position(done.into());
                bar.set_message(format!("{speed:.2} steps/s"));
            }
            View::Log(pace) => {
                if pace.is_due(self.began, now) {
                    let took_ms = took.as_millis() as u64;
                    tracing::info!(target: telemetry::PROGRESS, step = done, steps = total, took_ms, "drawing");
                }
            }
        }
    }
}

fn bar_of(total: u32) -> ProgressBar {
    let bar = ProgressBar::new(total.into());
    match ProgressStyle::with_template(BAR) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        if let View::Bar(Some(bar)) = &self.view {
            bar.finish_and_clear();
        }
    }
}
