//! How far audio has been heard, for a person or a log: a bar on a terminal, a line every few seconds elsewhere. Nothing for
//! what is done at once.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::telemetry;

/// Shorter work shows nothing.
pub(super) const AT_ONCE: Duration = Duration::from_secs(1);
/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(10);
const BAR: &str = "hearing [{bar:30}] {prefix} {msg}";

/// What is shown.
pub(super) struct Hearing<'a> {
    bars: &'a MultiProgress,
    began: Instant,
    view: View,
}

enum View {
    Bar(Option<ProgressBar>),
    Log(Pace),
}

/// When a line of a log is due.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    pub(super) fn is_due(&mut self, began: Instant, now: Instant) -> bool {
        let (since, wait) = match self.last {
            None => (began, AT_ONCE),
            Some(last) => (last, LOG_EVERY),
        };
        let is_due = now.saturating_duration_since(since) >= wait;
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

impl<'a> Hearing<'a> {
    pub(super) fn new(bars: &'a MultiProgress, began: Instant) -> Self {
        let view = match io::stderr().is_terminal() {
            true => View::Bar(None),
            false => View::Log(Pace::default()),
        };
        Self { bars, began, view }
    }

    /// So many milliseconds of so many have been heard.
    pub(super) fn show(&mut self, (done, total): (u32, u32), now: Instant) {
        let took = now.saturating_duration_since(self.began);
        let heard = Duration::from_millis(done.into());
        let speed = heard.as_secs_f64() / took.as_secs_f64().max(1e-9);
        match &mut self.view {
            View::Bar(None) if took < AT_ONCE => {}
            View::Bar(bar) => {
                let bar = bar.get_or_insert_with(|| self.bars.add(bar_of(total)));
                let length = FormattedDuration(Duration::from_millis(total.into()));
                bar.set_length(total.into());
                bar.set_position(done.into());
                bar.set_prefix(format!("{}/{length}", FormattedDuration(heard)));
                bar.set_message(format!("{speed:.1}x"));
            }
            View::Log(pace) => {
                if pace.is_due(self.began, now) {
                    let took_ms = took.as_millis() as u64;
                    tracing::info!(target: telemetry::PROGRESS, heard_ms = done, audio_ms = total, took_ms, "hearing");
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

impl Drop for Hearing<'_> {
    fn drop(&mut self) {
        if let View::Bar(Some(bar)) = &self.view {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_a_line_after_a_second_and_then_every_ten() {
        let began = Instant::now();
        let mut pace = Pace::default();
        let due: Vec<u64> = (0..300)
            .map(|tick| tick * 100)
            .filter(|ms| pace.is_due(began, began + Duration::from_millis(*ms)))
            .collect();
        assert_eq!(due, [1000, 11_000, 21_000]);
    }
}
